//! A signal ends the program at any time, and no incomplete file has the final name.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pget::{ErrorKind, SharedBuffer};
use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};

use crate::{
    run::{pget, plain_environment, run, spawn, wait},
    servers::PATTERN,
};

fn tell(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).expect("a process id");
    kill(Pid::from_raw(id), signal).expect("it runs");
}

/// Waits until the server has sent enough bytes of bodies.
pub(crate) fn until_served(server: &Hostile, enough: impl Fn(u64) -> bool) {
    until(server, |server| enough(server.load().body_bytes));
}

/// Waits until the server fulfils the condition.
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
    // Do not use SIGINT: a program that a background job of a shell starts ignores it.
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let pace = Fault::Pace {
            bytes_per_second: SIZE / 4,
        };
        let url = server.route("/o", Route::new(Object::new(8, SIZE)).fault(When::Always, pace));
        let before = server.load().body_bytes;
        let mut command = pget(["get", &url, "--chunk-size", "1MiB", "--progress", "always", "-o"]);
        let child = spawn(command.arg(&target));
        until_served(&server, |bytes| bytes > before + (1 << 20));
        tell(&child, signal);
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

/// Returns the program with a signal ignored or not, whatever the test's own process does.
///
/// `nohup` and a shell's `&` start programs with ignored signals.
pub(crate) fn with_signal<'a>(
    signal: Signal,
    ignored: bool,
    arguments: impl IntoIterator<Item = &'a str>,
) -> Command {
    let mut command = Command::new("env");
    let how = if ignored { "ignore" } else { "default" };
    command.arg(format!("--{how}-signal={}", signal.as_str()));
    command.arg(env!("CARGO_BIN_EXE_pget")).args(arguments);
    plain_environment(&mut command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn is_there(name: &str) -> bool {
    [name.to_owned(), format!("{name}.pget")]
        .iter()
        .any(|file| fs::exists(format!("/dev/shm/{file}")).expect("looked"))
}

#[test]
fn a_signal_leaves_nothing_in_shared_memory_unless_it_is_ignored() {
    let server = Hostile::start().expect("a server");
    let never = Route::new(Object::new(7, 4 << 20)).fault(When::Always, Fault::Stall { after: 100 });
    let url = server.route("/never", never);
    for (signal, ignored) in [
        (Signal::SIGHUP, false),
        (Signal::SIGHUP, true),
        (Signal::SIGINT, false),
        (Signal::SIGINT, true),
    ] {
        let name = format!("pget-cli-{}-{signal}-{ignored}", std::process::id());
        let mut child = with_signal(signal, ignored, ["shm", "get", &url, "-n", &name])
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        out.read_line(&mut line).expect("text");
        assert_eq!(line.trim_end(), name);
        tell(&child, signal);
        // If both signals are pending, the one with the lower number is delivered first.
        if ignored {
            tell(&child, Signal::SIGTERM);
        }
        let expected = if ignored { Signal::SIGTERM } else { signal };
        let ended = wait(child);
        assert_eq!(ended.status.signal(), Some(expected as i32), "{ended:?}");
        assert!(!is_there(&name));
    }
}

#[test]
fn a_hangup_ends_cat_into_a_ring_and_leaves_nothing() {
    let server = Hostile::start().expect("a server");
    // The object is larger than the ring, and no reader takes it.
    let url = server.route("/o", Route::new(Object::new(7, 64 << 20)));
    let name = format!("pget-cli-{}-hangup-ring", std::process::id());
    let child = with_signal(Signal::SIGHUP, false, ["cat", &url, "--shared-ring", &name])
        .spawn()
        .expect("the program starts");
    let until = Instant::now() + Duration::from_secs(30);
    while !is_there(&name) {
        assert!(Instant::now() < until, "no ring");
        // No event announces a new name, so poll.
        std::thread::sleep(Duration::from_millis(5));
    }
    tell(&child, Signal::SIGHUP);
    let ended = wait(child);
    assert_eq!(ended.status.signal(), Some(Signal::SIGHUP as i32), "{ended:?}");
    assert!(!is_there(&name));
}

#[test]
fn a_signal_ends_it_while_nobody_takes_the_name() {
    const SIZE: usize = 1 << 20;
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, SIZE as u64)));
    let name = format!("pget-cli-{}-unread", std::process::id());
    let (_unread, mut full) = std::io::pipe().expect("a pipe");
    let room = fcntl(&full, FcntlArg::F_GETPIPE_SZ).expect("its size");
    let room = usize::try_from(room).expect("a size");
    full.write_all(&vec![b'x'; room]).expect("it fits");
    let child = pget(["shm", "get", &url, "-n", &name])
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let until = Instant::now() + Duration::from_secs(30);
    let shared = loop {
        match SharedBuffer::attach(&name) {
            Ok(shared) => break shared,
            Err(error) if error.kind() == ErrorKind::NotFound && Instant::now() < until => {
                // No event announces a new name, so poll.
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    };
    shared.wait_for(SIZE).expect("all of it");
    tell(&child, Signal::SIGTERM);
    let ended = wait(child);
    assert_eq!(ended.status.signal(), Some(Signal::SIGTERM as i32), "{ended:?}");
    assert!(!is_there(&name));
}
