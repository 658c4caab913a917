//! For the tests that leave Rust: where the library is, how foreign code is compiled against it and run under a deadline.

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

/// A compilation on a busy machine.
const COMPILE_WITHIN: Duration = Duration::from_secs(180);

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("ffi lies in the repository")
        .to_owned()
}

/// The folder of the shared and the static library: where cargo put what these tests depend on, or `PGET_TEST_LIBS` for another build of them (`scripts/asan.sh`).
pub(crate) fn built() -> PathBuf {
    if let Some(folder) = std::env::var_os("PGET_TEST_LIBS") {
        return folder.into();
    }
    let program = std::env::current_exe().expect("the test's path");
    program.parent().expect("it lies in a folder").to_owned()
}

/// A folder to compile in, with the shared library under the names that linkers and loaders look for.
pub(crate) fn workshop() -> TempDir {
    let folder = TempDir::with_prefix("pget-ffi-").expect("a folder");
    let library = built().join("libpget.so");
    assert!(library.is_file(), "{} was not built", library.display());
    for name in ["libpget.so", "libpget.so.0"] {
        std::os::unix::fs::symlink(&library, folder.path().join(name)).expect("a link");
    }
    folder
}

/// The compiler, or `None` with a message when it is missing and the environment has no `CI`.
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

/// Flags that every piece of foreign code is compiled with.
pub(crate) const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// Compiles `source` (below the root) with `compiler` to a program in `folder` that is linked with the shared library there.
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
        // What that other build needs in the program.
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

/// Runs `command` to its end, which is at `within` the latest, with its whole process group.
///
/// # Panics
/// If it takes longer.
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

/// As [`run`], for a program that is to succeed; gives its standard output.
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

/// A command of `program` that finds the library in `folder`.
pub(crate) fn program(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", folder).current_dir(folder);
    command
}
