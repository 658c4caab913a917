//! `pget shm`: its output, the processes that may attach, and the files that remain.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pget::{ErrorKind, SharedBuffer, shm::RingReader};
use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};
use sha2::{Digest, Sha256};

use crate::{
    interrupts::with_signal,
    run::{can_mount, pget, plain_environment, run, spawn, wait},
    servers::PATTERN,
};

/// Time within which readers must notice the creator's death.
const NOTICED: Duration = Duration::from_secs(2);

fn fresh_name(what: &str) -> String {
    format!("pget-cli-{}-{what}", std::process::id())
}

fn is_there(name: &str) -> bool {
    [name.to_owned(), format!("{name}.pget")]
        .iter()
        .any(|file| std::fs::exists(format!("/dev/shm/{file}")).expect("looked"))
}

/// Returns the URL of an object of `size` bytes that arrives within a second, or never.
fn served(server: &Hostile, path: &str, size: u64, is_slow: bool) -> String {
    let route = Route::new(Object::new(7, size));
    let pace = Fault::Pace {
        bytes_per_second: size / 16,
    };
    server.route(
        path,
        if is_slow {
            route.fault(When::Always, pace)
        } else {
            route
        },
    )
}

/// Starts the program and reads the name that it prints, if it lives that long.
fn begin(command: &mut Command) -> (Child, Option<String>) {
    let mut child = spawn(command);
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    out.read_line(&mut line).expect("text");
    (child, line.strip_suffix('\n').map(str::to_owned))
}

fn tell(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).expect("a process id");
    kill(Pid::from_raw(id), signal).expect("it runs");
}

#[test]
fn it_prints_a_name_keeps_the_object_and_goes_without_a_trace() {
    const SIZE: usize = 3 << 20;
    let server = Hostile::start().expect("a server");
    let url = served(&server, "/o", SIZE as u64, false);
    let name = fresh_name("kept");
    for arguments in [vec!["--name", &name], vec![]] {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let read = ["shm", "get", &url, "--chunk-size", "256KiB"];
            let mut command = with_signal(signal, false, read);
            let (child, told) = begin(command.args(&arguments));
            let told = told.expect("a name");
            assert!(told == name || told.starts_with("/proc/"), "{told}");
            let shared = SharedBuffer::attach(&told).expect("attached");
            let bytes = shared.wait_for(SIZE).expect("all of it");
            assert_eq!(PATTERN.check(0, bytes), Ok(()));
            if told == name {
                let listed = String::from_utf8(run(&mut pget(["shm", "ls"])).succeeded()).expect("text");
                let line = listed
                    .lines()
                    .find(|line| line.starts_with(&name))
                    .expect("listed");
                assert!(
                    line.contains(&format!("\t{SIZE}/{SIZE}\tcomplete\talive\tetag ")),
                    "{line}"
                );
                run(&mut pget(["shm", "clean"])).succeeded();
                assert!(is_there(&name));
                run(&mut pget(["shm", "get", &url, "-n", &name])).failed(8, "the name is taken");
            }
            tell(&child, signal);
            wait(child).succeeded();
            assert!(!is_there(&name));
            assert_eq!(PATTERN.check(0, shared.as_slice()), Ok(()));
        }
    }
}

#[test]
fn a_failure_or_a_signal_meanwhile_leaves_nothing_and_is_told_to_readers() {
    use std::os::unix::process::ExitStatusExt;
    let server = Hostile::start().expect("a server");
    let name = fresh_name("fails");
    run(&mut pget(["shm", "get", &server.url("/missing"), "-n", &name])).failed(3, "not found");
    let url = served(&server, "/slow", 16 << 20, true);
    run(&mut pget(["shm", "get", &url, "-n", "a/b"])).failed(2, "slashes");
    let (child, told) = begin(&mut pget(["shm", "get", &url, "-n", &name]));
    let shared = SharedBuffer::attach(&told.expect("a name")).expect("attached");
    tell(&child, Signal::SIGTERM);
    assert_eq!(wait(child).status.signal(), Some(Signal::SIGTERM as i32));
    let error = shared.wait_for(shared.len()).expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(!is_there(&name));
}

/// The kills happen at two hundred moments from the start to the middle of the download.
#[test]
fn killed_at_any_moment_readers_are_told_and_nothing_is_left() {
    const KILLS: u32 = 200;
    let server = Hostile::start().expect("a server");
    let url = served(&server, "/slow", 64 << 20, true);
    let (next, read) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= KILLS {
                        break;
                    }
                    if kill_once(&url, number) {
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let read = read.into_inner();
    eprintln!("{KILLS} kills, {read} of them while a reader was attached");
    assert!(read > KILLS / 4);
}

/// Kills the program once. Returns whether a reader was attached.
fn kill_once(url: &str, number: u32) -> bool {
    // The constant has no common factor with the range, so that the moments spread over it.
    let moment = Duration::from_micros(u64::from(number) * 7919 % 40_000);
    let is_named = !number.is_multiple_of(4);
    let is_early = number.is_multiple_of(3);
    let name = fresh_name(&format!("killed-{number}"));
    let mut command = pget(["shm", "get", url, "--chunk-size", "256KiB"]);
    if is_named {
        command.args(["--name", &name]);
    }
    let mut attached = None;
    let mut child = if is_early {
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        // The test needs an arbitrary moment, so a sleep is right here.
        std::thread::sleep(moment);
        child
    } else {
        let (child, told) = begin(&mut command);
        let told = told.expect("a name");
        attached = Some(SharedBuffer::attach(&told).expect("attached"));
        std::thread::sleep(moment);
        child
    };
    let killed = Instant::now();
    child.kill().expect("killed");
    if let Some(shared) = &attached {
        let waited = shared.wait_for(shared.len()).map(|_| ());
        let error = waited.expect_err("killed");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(killed.elapsed() < NOTICED, "{:?}", killed.elapsed());
        assert_eq!(PATTERN.check(0, shared.as_slice()), Ok(()));
    }
    child.wait().expect("gone");
    run(&mut pget(["shm", "clean"])).succeeded();
    assert!(!is_there(&name), "{name}");
    attached.is_some()
}

#[test]
fn a_device_that_is_too_small_is_a_failed_destination() {
    let mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm";
    let tried = Command::new("unshare").args(["-m", "sh", "-c", mount]).output();
    if !can_mount(tried.is_ok_and(|tried| tried.status.success()), mount) {
        return;
    }
    let server = Hostile::start().expect("a server");
    let url = served(&server, "/o", 2 << 20, false);
    let script = format!("{mount}; \"$0\" shm get \"$1\" --name x; status=$?; ls -A /dev/shm; exit $status");
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", &script])
        .args([env!("CARGO_BIN_EXE_pget"), &url]);
    plain_environment(&mut command);
    let left = run(&mut command).failed(8, "No space left");
    assert!(left.is_empty(), "{}", String::from_utf8_lossy(&left));
}

/// The Python example attaches by name alone. Its end does not remove the object.
#[test]
fn python_reads_it_while_it_arrives() {
    const SIZE: usize = 4 << 20;
    let Ok(version) = Command::new("python3").arg("--version").output() else {
        assert!(std::env::var_os("CI").is_none(), "no python3 in CI");
        eprintln!("skipped: no python3");
        return;
    };
    eprintln!("{}", String::from_utf8_lossy(&version.stdout));
    let server = Hostile::start().expect("a server");
    let route = Route::new(Object::new(7, SIZE as u64));
    let pace = Fault::Pace {
        bytes_per_second: SIZE as u64,
    };
    let url = server.route("/o", route.fault(When::Always, pace));
    let name = fresh_name("python");
    let (child, told) = begin(&mut pget([
        "shm",
        "get",
        &url,
        "-n",
        &name,
        "--chunk-size",
        "512KiB",
    ]));
    assert_eq!(told.as_ref(), Some(&name));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/python/shared.py");
    let digest = Sha256::digest(PATTERN.bytes(0, SIZE));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    for _ in 0..2 {
        let mut python = Command::new("python3");
        python.arg(script).arg(&name);
        plain_environment(&mut python);
        let said = String::from_utf8(run(&mut python).succeeded()).expect("text");
        assert_eq!(said, format!("{SIZE} bytes, sha256 {digest}\n"));
        assert!(is_there(&name));
    }
    tell(&child, Signal::SIGTERM);
    wait(child).succeeded();
    assert!(!is_there(&name));
}

fn cat_into(ring: &str, url: &str) -> Child {
    spawn(&mut pget([
        "cat",
        url,
        "--chunk-size",
        "1MiB",
        "--shared-ring",
        ring,
    ]))
}

/// Waits for the ring that a program creates, and attaches.
fn attached(name: &str) -> RingReader {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match RingReader::attach(name) {
            Ok(ring) => return ring,
            Err(error) if error.kind() == ErrorKind::NotFound && Instant::now() < until => {
                // No event announces a new name, so poll.
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn cat_into_a_ring_is_read_by_one_other_process() {
    const SIZE: usize = (20 << 20) + 3;
    let server = Hostile::start().expect("a server");
    let url = served(&server, "/o", SIZE as u64, false);
    let name = fresh_name("ring");
    let child = cat_into(&name, &url);
    let mut ring = attached(&name);
    let object = ring.next_object().expect("an answer").expect("an object");
    assert_eq!(object.size, Some(SIZE as u64));
    let mut done = 0;
    while let Some(bytes) = ring.next_bytes().expect("more") {
        assert_eq!(PATTERN.check(done, bytes), Ok(()));
        done += bytes.len() as u64;
    }
    assert_eq!(done, SIZE as u64);
    assert_eq!(ring.next_object().expect("no more"), None);
    assert!(wait(child).succeeded().is_empty());
    assert!(!is_there(&name));
}

#[test]
fn a_signal_ends_cat_into_a_ring_and_leaves_nothing() {
    use std::os::unix::process::ExitStatusExt;
    let server = Hostile::start().expect("a server");
    let (slow, fast) = (
        served(&server, "/slow", 64 << 20, true),
        served(&server, "/fast", 64 << 20, false),
    );
    // The program waits for bytes, or for a reader that does not read.
    for url in [slow, fast] {
        let name = fresh_name("stopped");
        let child = cat_into(&name, &url);
        let mut ring = attached(&name);
        ring.next_object().expect("an answer").expect("an object");
        tell(&child, Signal::SIGTERM);
        let ended = wait(child);
        assert_eq!(
            ended.status.signal(),
            Some(Signal::SIGTERM as i32),
            "{}",
            ended.stderr
        );
        let error = loop {
            match ring.next_bytes() {
                Ok(bytes) => assert!(bytes.is_some(), "half of it is not all"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        assert!(!is_there(&name));
    }
}
