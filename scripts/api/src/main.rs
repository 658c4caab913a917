//! Prints the public items of a crate, one a line, in a stable order.
//!
//! `pget-api FILE` reads rustdoc's JSON. Implementations by generics and of auto traits are left
//! out: they are many, and mostly follow from the rest.

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args_os().nth(1).ok_or("usage: pget-api FILE")?;
    let api = public_api::Builder::from_rustdoc_json(file)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()?;
    for item in api.items() {
        println!("{item}");
    }
    Ok(())
}
