//! A signal ends the program at any time; what it leaves is not under the final name.

use std::{fs, os::unix::process::ExitStatusExt, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};

use crate::{
    run::{pget, run, wait},
    servers::PATTERN,
};

/// Waits until the server has sent that many bytes of bodies.
pub(crate) fn until_served(server: &Hostile, enough: impl Fn(u64) -> bool) {
    until(server, |server| enough(server.load().body_bytes));
}

/// Waits until that is so of the server.
pub(crate) fn until(server: &Hostile, is_so: impl Fn(&Hostile) -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let served = server.wait_until(is_so);
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), served).await })
        .expect("it comes to that");
}

#[test]
fn a_signal_leaves_no_final_name_and_the_next_get_takes_over() {
    const SIZE: u64 = 4 << 20;
    let server = Hostile::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("x");
    // Not SIGINT: whoever is started by a background job of a shell inherits it ignored.
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let pace = Fault::Pace {
            bytes_per_second: SIZE / 4,
        };
        let url = server.route("/o", Route::new(Object::new(8, SIZE)).fault(When::Always, pace));
        let before = server.load().body_bytes;
        let mut command = pget(["get", &url, "--chunk-size", "1MiB", "--progress", "always", "-o"]);
        let child = command
            .arg(&target)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        until_served(&server, |bytes| bytes > before + (1 << 20));
        let id = i32::try_from(child.id()).expect("a process id");
        kill(Pid::from_raw(id), signal).expect("it runs");
        let ended = wait(child);
        assert_eq!(ended.status.signal(), Some(signal as i32), "{ended:?}");
        assert!(!target.exists());
    }
    let url = server.route("/o", Route::new(Object::new(7, SIZE)));
    run(pget(["get", &url, "-o"]).arg(&target)).succeeded();
    let bytes = fs::read(&target).expect("a file");
    assert_eq!((bytes.len() as u64, PATTERN.check(0, &bytes)), (SIZE, Ok(())));
    assert_eq!(
        fs::read_dir(folder.path()).expect("a folder").count(),
        1,
        "the part is gone"
    );
}
