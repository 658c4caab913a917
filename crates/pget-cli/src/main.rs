//! The `pget` program; see the library beside this.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pget_cli::main(std::env::args_os()))
}
