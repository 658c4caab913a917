//! Support for tests in other languages.
//!
//! Finds the library, compiles foreign code against it, and runs that code with a deadline.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    ffi::OsStr,
    io::Read,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tempfile::TempDir;

/// Time limit of a compilation on a busy machine.
const COMPILE_WITHIN: Duration = Duration::from_secs(180);

/// Returns the repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("ffi lies in the repository")
        .to_owned()
}

/// Returns the folder of the shared and the static library.
///
/// It is the folder to which cargo wrote the dependencies of these tests. `PGET_TEST_LIBS` names
/// another build of the libraries (`scripts/asan.sh`).
pub(crate) fn built() -> PathBuf {
    if let Some(folder) = std::env::var_os("PGET_TEST_LIBS") {
        return folder.into();
    }
    let program = std::env::current_exe().expect("the test's path");
    program.parent().expect("it lies in a folder").to_owned()
}

/// Creates a folder for compilations.
///
/// It contains the shared library under the names that linkers and loaders look for.
pub(crate) fn workshop() -> TempDir {
    let folder = TempDir::with_prefix("pget-ffi-").expect("a folder");
    let library = built().join("libpget.so");
    assert!(library.is_file(), "{} was not built", library.display());
    for name in ["libpget.so", "libpget.so.0"] {
        std::os::unix::fs::symlink(&library, folder.path().join(name)).expect("a link");
    }
    folder
}

/// Returns the compiler.
///
/// Returns `None` and prints a message if the compiler is missing and the environment has no `CI`.
pub(crate) fn tool(name: &str) -> Option<String> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    if !found {
        assert!(
            std::env::var_os("CI").is_none(),
            "{name} is not installed: run scripts/test-tools.sh"
        );
        eprintln!("skipped: {name} is not installed: run scripts/test-tools.sh");
        return None;
    }
    Some(name.to_owned())
}

/// Compiler flags of all foreign code.
pub(crate) const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// Compiles `source` (a path from the root) into a program in `folder`.
///
/// The program is linked with the shared library in that folder.
pub(crate) fn compile(compiler: &str, flags: &[&str], source: &str, folder: &Path, name: &str) -> PathBuf {
    let program = folder.join(name);
    let mut command = Command::new(compiler);
    command
        .args(flags)
        .args(STRICT)
        .args(["-O1", "-g", "-I"])
        .arg(root().join("include"))
        .arg(root().join(source))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(folder)
        .args(["-lpget", "-lpthread", "-ldl"])
        // The flags that the other build of the library requires.
        .args(
            std::env::var("PGET_TEST_LINK")
                .unwrap_or_default()
                .split_whitespace(),
        )
        .arg(format!("-Wl,-rpath,{}", folder.display()));
    let output = run(&mut command, COMPILE_WITHIN);
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
}

/// Runs `command`, and returns its output.
///
/// # Panics
/// If it takes longer than `within`. Its whole process group is killed then.
pub(crate) fn run(command: &mut Command, within: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let group = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let (ended, deadline) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let late = deadline.recv_timeout(within) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            killpg(group, Signal::SIGKILL).ok();
        }
        late
    });
    let mut errors = child.stderr.take().expect("piped");
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        errors.read_to_end(&mut text).map(|_| text)
    });
    let mut stdout = Vec::new();
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_end(&mut stdout)
        .expect("its output");
    let status = child.wait().expect("its end");
    drop(ended);
    let stderr = reader.join().expect("no panic").expect("its errors");
    assert!(
        !watch.join().expect("no panic"),
        "{command:?} took longer than {within:?}; it said: {}",
        String::from_utf8_lossy(&stderr)
    );
    Output {
        status,
        stdout,
        stderr,
    }
}

/// Runs a program that must succeed, and returns its standard output. See [`run`].
///
/// # Panics
/// If it fails.
pub(crate) fn succeed(command: &mut Command, within: Duration) -> Vec<u8> {
    let output = run(command, within);
    assert!(
        output.status.success(),
        "{command:?} ended with {:?} (signal {:?}): {}{}",
        output.status.code(),
        output.status.signal(),
        String::from_utf8_lossy(&output.stdout[..output.stdout.len().min(4000)]),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Returns a command of `program` that finds the library in `folder`.
pub(crate) fn program(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", folder).current_dir(folder);
    command
}
