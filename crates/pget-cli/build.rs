//! Facts of the build for `pget --version`: commit, target, profile and compiler.

use std::{env, fs, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PGET_COMMIT");
    let commit = env::var("PGET_COMMIT").ok().or_else(packaged).or_else(git);
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| "unknown".to_owned());
    println!(
        "cargo:rustc-env=PGET_COMMIT={}",
        commit.as_deref().unwrap_or("unknown")
    );
    println!("cargo:rustc-env=PGET_TARGET={}", variable("TARGET"));
    println!("cargo:rustc-env=PGET_PROFILE={}", variable("PROFILE"));
    let compiler = run(Command::new(variable("RUSTC")).arg("--version"));
    println!(
        "cargo:rustc-env=PGET_COMPILER={}",
        compiler.as_deref().unwrap_or("unknown")
    );
}

/// The commit that `cargo package` has written down.
fn packaged() -> Option<String> {
    let text = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let after = text.split("\"sha1\"").nth(1)?;
    let commit = after.split('"').nth(1)?;
    Some(commit.chars().take(12).collect())
}

/// The commit that is checked out here.
fn git() -> Option<String> {
    let git = |arguments: &[&str]| run(Command::new("git").args(arguments));
    // A folder of a larger repository, as of a vendored copy, is another one's commit.
    let root = git(&["rev-parse", "--show-toplevel"])?;
    if !Path::new(&root).join("crates/pget-cli/build.rs").exists() {
        return None;
    }
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn run(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}
