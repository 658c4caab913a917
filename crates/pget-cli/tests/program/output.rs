//! Standard output that is non-blocking, or whose reader closes (cases 124 and 125).

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::openpty,
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
};
use pget_testkit::hostile::{Hostile, Object, Route};

use crate::{
    run::{pget, plain_environment, run, wait},
    servers::PATTERN,
};

/// The size is more than any pipe or socket holds, so that the program must wait.
const SIZE: u64 = 6_000_000;
const DEADLINE: Duration = Duration::from_secs(30);

fn server() -> (Hostile, String) {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, SIZE)));
    (server, url)
}

fn non_blocking(end: impl AsFd) {
    let flags = fcntl(&end, FcntlArg::F_GETFL).expect("flags");
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(&end, FcntlArg::F_SETFL(flags)).expect("non-blocking");
}

fn start(mut command: Command, output: impl Into<Stdio>) -> Child {
    let child = command.stdout(output).stderr(Stdio::piped()).spawn();
    child.expect("the program starts")
}

/// Waits until `output` is full.
fn until_full(output: impl AsFd, what: &str) {
    let deadline = std::time::Instant::now() + DEADLINE;
    let is_full = || {
        let room = PollFd::new(output.as_fd(), PollFlags::POLLOUT);
        poll(&mut [room], PollTimeout::ZERO).expect("a pipe") == 0
    };
    while !is_full() {
        assert!(std::time::Instant::now() < deadline, "nothing is written: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads all of `reader`, or fails after the deadline.
fn all_of(mut reader: impl Read + Send + 'static) -> Vec<u8> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // The reading end of a terminal fails after its last writer has closed it.
        reader.read_to_end(&mut bytes).ok();
        send.send(bytes)
    });
    receive.recv_timeout(DEADLINE).expect("no end")
}

/// Returns two ends, the second of which is non-blocking.
fn ends(kind: &str) -> (Box<dyn Read + Send>, OwnedFd) {
    let (reader, writer): (Box<dyn Read + Send>, OwnedFd) = match kind {
        "pipe" => {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            (Box::new(reader), writer.into())
        }
        "socket" => {
            let (reader, writer) = UnixStream::pair().expect("sockets");
            (Box::new(reader), writer.into())
        }
        _ => {
            let terminal = openpty(None, None).expect("a terminal");
            let mut raw = tcgetattr(&terminal.slave).expect("its modes");
            cfmakeraw(&mut raw);
            tcsetattr(&terminal.slave, SetArg::TCSANOW, &raw).expect("raw");
            (Box::new(File::from(terminal.master)), terminal.slave)
        }
    };
    non_blocking(&writer);
    (reader, writer)
}

#[test]
fn case_124_a_non_blocking_standard_output_is_waited_for() {
    let (_server, url) = server();
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    let bytes = PATTERN.bytes(0, usize::try_from(SIZE).expect("small"));
    fs::write(&source, &bytes).expect("written");
    let source = source.to_str().expect("text");
    for kind in ["pipe", "socket", "terminal"] {
        for arguments in [
            &["cat", &url][..],
            &["cat", source],
            &["get", &url, "-o", "-"],
            &["get", &url, "-o", "/dev/stdout"],
        ] {
            let (reader, writer) = ends(kind);
            let watched = writer.try_clone().expect("a copy");
            let child = start(pget(arguments), writer);
            until_full(&watched, &format!("{kind}, {arguments:?}"));
            drop(watched);
            let read = all_of(reader);
            wait(child).succeeded();
            assert!(read == bytes, "{kind}, {arguments:?}: {} bytes", read.len());
        }
    }
}

#[test]
fn case_124_a_line_waits_for_a_full_non_blocking_pipe_too() {
    let (_server, url) = server();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    non_blocking(&writer);
    let mut filled = 0;
    let mut filler = &writer;
    while let Ok(count) = filler.write(&[b'x'; 4096]) {
        filled += count;
    }
    let mut child = start(pget(["stat", &url]), writer);
    let mut before = vec![0; filled];
    // The program still runs and has printed nothing. Only a pause can show that it waits.
    std::thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait().expect("a child").is_none(), "it does not wait");
    reader.read_exact(&mut before).expect("what was there");
    let line = String::from_utf8(all_of(reader)).expect("text");
    wait(child).succeeded();
    assert!(line.starts_with(&format!("size: {SIZE} bytes")), "{line}");
}

#[test]
fn case_124_a_reader_that_has_enough_ends_the_program_quietly() {
    let (_server, url) = server();
    for arguments in [
        &["cat", &url][..],
        &["get", &url, "-o", "-"],
        &["get", &url, "-o", "/dev/fd/1"],
    ] {
        for kind in ["pipe", "socket"] {
            let (mut reader, writer) = ends(kind);
            let child = start(pget(arguments), writer);
            let mut some = [0; 10];
            reader.read_exact(&mut some).expect("some bytes");
            drop(reader);
            wait(child).ended_by_its_reader();
            assert_eq!(PATTERN.check(0, &some), Ok(()));
        }
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    wait(start(pget(["stat", &url]), writer)).ended_by_its_reader();
    // In a shell, only the status of a pipeline with `pipefail` shows it.
    let mut shell = Command::new("bash");
    plain_environment(&mut shell);
    shell.env("PGET", env!("CARGO_BIN_EXE_pget")).env("URL", &url);
    shell.args([
        "-c",
        "set -o pipefail; \"$PGET\" cat \"$URL\" | head -c 10 > /dev/null; echo $?",
    ]);
    match shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(child) => assert_eq!(wait(child).succeeded(), b"141\n"),
        Err(error) => eprintln!("skipped: bash: {error}"),
    }
    // A named pipe is a destination like others.
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let mut command = pget(["get", &url, "-o"]);
    command.arg(&pipe);
    let child = start(command, Stdio::piped());
    drop(File::open(&pipe).expect("the pipe"));
    wait(child).failed(8, "Broken pipe");
}

/// Runs the program by a shell that redirects its streams.
fn redirected(arguments: &[&str], how: &str) -> crate::run::Ended {
    let mut shell = Command::new("sh");
    plain_environment(&mut shell);
    let script = format!("exec \"$0\" \"$@\" {how}");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_pget")]);
    run(shell.args(arguments))
}

#[test]
fn case_124_a_standard_output_that_takes_no_byte_is_refused_at_once() {
    let (server, url) = server();
    for arguments in [
        &["cat", &url][..],
        &["get", &url, "-o", "-"],
        &["get", &url, "-o", "/dev/stdout"],
        &["stat", &url],
    ] {
        redirected(arguments, ">&-").failed(8, "standard output is closed");
        redirected(arguments, ">&- <&-").failed(8, "standard output is closed");
        redirected(arguments, "1</dev/null").failed(8, "open for reading only");
    }
    assert!(server.requests("/o").is_empty(), "nothing is asked for");
    // A caller may discard the bytes on purpose.
    for how in [">/dev/null", "1<>/dev/null"] {
        assert!(redirected(&["cat", &url], how).succeeded().is_empty());
    }
}

/// No file of the program may take the number of a stream that is closed: messages would be
/// written into it, or its bytes to whatever reads the stream.
#[test]
fn case_124_closed_streams_that_are_not_needed_do_no_harm() {
    let (_server, url) = server();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("o");
    let name = path.to_str().expect("text");
    let bytes = PATTERN.bytes(0, usize::try_from(SIZE).expect("small"));
    for how in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
        let arguments = ["get", "-vv", &url, "-o", name];
        let ended = redirected(&arguments, how);
        assert_eq!(ended.status.code(), Some(0), "{how}: {ended:?}");
        assert!(fs::read(&path).expect("the file") == bytes, "{how}");
    }
    for how in ["<&-", "2>&-", "<&- 2>&-"] {
        let ended = redirected(&["cat", "-vv", &url], how);
        assert_eq!(ended.status.code(), Some(0), "{how}: {}", ended.stderr);
        assert!(ended.stdout == bytes, "{how}: {} bytes", ended.stdout.len());
    }
}

#[test]
fn case_125_a_dash_is_standard_output_and_the_default_name_is_decoded() {
    let (server, url) = server();
    let folder = tempfile::tempdir().expect("a folder");
    let in_folder = |arguments: &[&str]| {
        let mut command = pget(arguments);
        command.current_dir(folder.path());
        run(&mut command).succeeded()
    };
    let names = || {
        let entries = fs::read_dir(folder.path()).expect("a folder");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    };
    let bytes = in_folder(&["get", &url, "-o", "-"]);
    assert_eq!((bytes.len() as u64, PATTERN.check(0, &bytes)), (SIZE, Ok(())));
    assert!(names().is_empty(), "{:?}", names());
    assert!(in_folder(&["get", &url, "-o", "./-"]).is_empty());
    assert_eq!(names(), ["-"]);
    fs::remove_file(folder.path().join("-")).expect("a file");
    for (path, name) in [
        ("/c%20d.bin", "c d.bin"),
        ("/%2e%2e%2fup", "%2e.%2fup"),
        ("/-", "-"),
    ] {
        let url = server.route(path, Route::new(Object::new(7, 10)));
        in_folder(&["get", &url]);
        assert_eq!(names(), [name], "{path}");
        fs::remove_file(folder.path().join(name)).expect("a file");
    }
}
