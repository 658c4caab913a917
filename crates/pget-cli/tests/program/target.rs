//! The destination: the file under the final name, the files next to it, and a destination that
//! fails.

use std::{
    fs,
    io::Read,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, symlink},
            net::UnixStream,
        },
    },
    path::Path,
    process::{Command, Stdio},
};

use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};

use crate::{
    interrupts::until_served,
    run::{Ended, can_mount, pget, plain_environment, run, wait},
    servers::{PATTERN, Transports},
};

const SIZE: u64 = 3_000_000;

fn server() -> (Hostile, String) {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, SIZE)));
    (server, url)
}

fn get(url: &str, target: &Path) -> Ended {
    run(pget(["get", url, "--retries", "1", "-o"]).arg(target))
}

/// Returns the names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

fn right(path: &Path) -> bool {
    let bytes = fs::read(path).expect("a file");
    bytes.len() as u64 == SIZE && PATTERN.check(0, &bytes).is_ok()
}

#[test]
fn get_works_on_every_transport_and_leaves_one_file() {
    let transports = Transports::start();
    const CHUNK: usize = 64 << 10;
    for (name, size) in [
        ("empty", 0),
        ("one", 1),
        ("below", CHUNK - 1),
        ("chunk", CHUNK),
        ("above", CHUNK + 1),
        ("some", 5 * CHUNK + 3),
    ] {
        transports.put(name, size);
        for (transport, mut command) in transports.commands("get", name, &["--chunk-size", "64KiB", "--sync"])
        {
            let folder = tempfile::tempdir().expect("a folder");
            assert!(run(command.current_dir(folder.path())).succeeded().is_empty());
            assert_eq!(names(folder.path()), [name], "{transport}");
            let bytes = fs::read(folder.path().join(name)).expect("a file");
            assert_eq!(
                (bytes.len(), PATTERN.check(0, &bytes)),
                (size, Ok(())),
                "{transport}"
            );
        }
    }
}

#[test]
fn a_failure_leaves_nothing_and_touches_nothing() {
    let server = Hostile::start().expect("a server");
    let route = Route::new(Object::new(7, SIZE));
    let changed = route
        .clone()
        .ignoring_conditions()
        .fault(When::Later, Fault::Revision(Object::new(8, SIZE)));
    let changed = server.route("/changed", changed);
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("x");
    for expected in [vec![], vec!["x"]] {
        let target_of = |url: &str| run(pget(["get", url, "--chunk-size", "64KiB", "-o"]).arg(&target));
        target_of(&changed).failed(5, "changed");
        get(&server.url("/missing"), &target).failed(3, "not found");
        assert_eq!(names(folder.path()), expected);
        fs::write(&target, "what was there").expect("a file");
    }
    assert_eq!(fs::read(&target).expect("a file"), b"what was there");
}

#[test]
fn what_has_the_name_is_replaced_but_for_folders() {
    let (_server, url) = server();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "old").expect("a file");
    fs::write(at("aim"), "aimed at").expect("a file");
    symlink("aim", at("link")).expect("a link");
    symlink("nowhere", at("dangling")).expect("a link");
    fs::create_dir(at("folder")).expect("a folder");
    // A killed run left this part.
    fs::write(at("file.pget-part"), vec![b'x'; 4_000_000]).expect("a file");
    for name in ["file", "link", "dangling"] {
        assert!(get(&url, &at(name)).succeeded().is_empty());
        assert!(right(&at(name)), "{name}");
        assert!(
            fs::symlink_metadata(at(name)).expect("a file").is_file(),
            "{name}"
        );
    }
    assert_eq!(fs::read(at("aim")).expect("a file"), b"aimed at");
    get(&url, &at("folder")).failed(8, "folder");
    get(&url, &at("no/folder")).failed(8, "No such file");
    get(&url, &at("file/x")).failed(8, "Not a directory");
    assert_eq!(
        names(folder.path()),
        ["aim", "dangling", "file", "folder", "link"]
    );
}

#[test]
fn what_stands_where_the_part_would_is_not_followed() {
    let (_server, url) = server();
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("precious"), "kept").expect("a file");
    symlink("precious", at("a.pget-part")).expect("a link");
    nix::unistd::mkfifo(&at("b.pget-part"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    fs::create_dir(at("c.pget-part")).expect("a folder");
    for name in ["a", "b", "c"] {
        get(&url, &at(name)).failed(8, &format!("{name}.pget-part"));
    }
    assert_eq!(fs::read(at("precious")).expect("a file"), b"kept");
    assert_eq!(
        names(folder.path()),
        ["a.pget-part", "b.pget-part", "c.pget-part", "precious"]
    );
}

#[test]
fn pipes_and_devices_are_written_to() {
    let (_server, url) = server();
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).expect("what came")
    });
    get(&url, &pipe).succeeded();
    let bytes = reader.join().expect("a reader");
    assert_eq!((bytes.len() as u64, PATTERN.check(0, &bytes)), (SIZE, Ok(())));
    assert!(fs::metadata(&pipe).expect("still there").file_type().is_fifo());
    assert_eq!(names(folder.path()), ["pipe"]);

    get(&url, Path::new("/dev/null")).succeeded();
    get(&url, Path::new("/dev/full")).failed(8, "No space left");
    let null = fs::metadata("/dev/null").expect("still there");
    assert!(null.file_type().is_char_device());

    // A redirected standard output keeps its name and receives the bytes.
    for output in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let file = folder.path().join("redirected");
        let mut command = pget(["get", &url, "-o", output]);
        let child = command
            .stdout(fs::File::create(&file).expect("a file"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        wait(child).succeeded();
        assert!(right(&file), "{output}");
        assert!(Path::new(output).exists());
    }
    assert!(
        fs::symlink_metadata("/dev/stdout")
            .expect("still there")
            .is_symlink()
    );
}

/// Names of the standard output to which `$PGET get` writes.
const OPEN: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

#[test]
fn an_open_file_is_written_to_where_it_stands_and_nothing_of_it_is_lost() {
    let (_server, url) = server();
    let object = PATTERN.bytes(0, usize::try_from(SIZE).expect("small"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x");
    let long = vec![b'l'; object.len() + 10];
    for output in OPEN {
        let get = format!("\"$PGET\" get \"$URL\" -o {output}");
        for (script_text, before, expected) in [
            (
                format!("{get} >> x"),
                &b"log\n"[..],
                [b"log\n", &object[..]].concat(),
            ),
            (
                format!("{{ echo header; {get}; echo trailer; }} > x"),
                b"old",
                [b"header\n", &object[..], b"trailer\n"].concat(),
            ),
            (
                format!("{{ {get} && {get} --length 5; }} > x"),
                b"old",
                [&object[..], &object[..5]].concat(),
            ),
            // A file opened for reading and writing is not cut.
            (
                format!("{get} 1<> x"),
                &long,
                [&object[..], &long[object.len()..]].concat(),
            ),
            // The descriptor may have another number.
            (
                "\"$PGET\" get \"$URL\" -o /dev/fd/7 7>> x".to_owned(),
                b"log\n",
                [b"log\n", &object[..]].concat(),
            ),
        ] {
            fs::write(&file, before).expect("a file");
            let mut command = script(&script_text, &url, folder.path());
            run(command.current_dir(folder.path())).succeeded();
            assert!(fs::read(&file).expect("a file") == expected, "{script_text}");
        }
    }
    assert_eq!(names(folder.path()), ["x"]);
}

#[test]
fn a_socket_is_written_to_and_a_pipe_without_reader_is_not_waited_for() {
    let (_server, url) = server();
    for output in OPEN {
        let to = |stdout: Stdio| {
            let mut command = pget(["get", &url, "-o", output]);
            let child = command.stdout(stdout).stderr(Stdio::piped()).spawn();
            child.expect("the program starts")
        };
        let (mut ours, theirs) = UnixStream::pair().expect("sockets");
        let child = to(OwnedFd::from(theirs).into());
        let read = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            ours.read_to_end(&mut bytes).expect("what came");
            bytes
        });
        wait(child).succeeded();
        let bytes = read.join().expect("a reader");
        assert_eq!((bytes.len() as u64, PATTERN.check(0, &bytes)), (SIZE, Ok(())));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        wait(to(writer.into())).ended_by_its_reader();
    }
}

#[test]
fn two_gets_of_one_target_do_not_mix() {
    let server = Hostile::start().expect("a server");
    let slow = Route::new(Object::new(7, SIZE)).fault(
        When::Always,
        Fault::Pace {
            bytes_per_second: SIZE,
        },
    );
    let slow = server.route("/slow", slow);
    let other = server.route("/other", Route::new(Object::new(8, SIZE)));
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("x");
    let first = pget(["get", &slow, "--concurrency", "1", "-o"])
        .arg(&target)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // The part is created when the first reply has arrived.
    until_served(&server, |bytes| bytes > 1 << 20);
    get(&other, &target).failed(8, "another pget");
    wait(first).succeeded();
    assert_eq!(names(folder.path()), ["x"]);
    assert!(right(&target));
}

#[test]
fn cat_into_what_takes_no_more_is_8_except_for_a_reader_that_leaves() {
    let (_server, url) = server();
    let to = |output: Stdio| {
        let mut command = pget(["cat", &url, "--chunk-size", "64KiB"]);
        let child = command.stdout(output).stderr(Stdio::piped()).spawn();
        wait(child.expect("the program starts"))
    };
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("a device");
    to(full.into()).failed(8, "No space left");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    to(writer.into()).ended_by_its_reader();
    let read_only = fs::File::open("/dev/null").expect("a device");
    to(read_only.into()).failed(8, "open for reading only");
    // The reader takes some bytes and closes.
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let partial = std::thread::spawn(move || {
        let mut some = vec![0; 100_000];
        reader.read_exact(&mut some).expect("some bytes");
        some
    });
    to(writer.into()).ended_by_its_reader();
    assert_eq!(PATTERN.check(0, &partial.join().expect("a reader")), Ok(()));
}

/// Returns a shell script with the program's path in `$PGET`, the URL in `$URL` and the folder in
/// `$DIR`.
fn script(text: &str, url: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(text);
    plain_environment(&mut command);
    command
        .env("PGET", env!("CARGO_BIN_EXE_pget"))
        .env("URL", url)
        .env("DIR", folder);
    command
}

#[test]
fn a_file_that_may_not_grow_is_8() {
    let (_server, url) = server();
    let folder = tempfile::tempdir().expect("a folder");
    let limited = "ulimit -f 1000; exec \"$PGET\"";
    run(&mut script(
        &format!("{limited} get \"$URL\" -o \"$DIR/x\""),
        &url,
        folder.path(),
    ))
    .failed(8, "File too large");
    assert!(names(folder.path()).is_empty());
    run(&mut script(
        &format!("{limited} cat \"$URL\" > \"$DIR/x\""),
        &url,
        folder.path(),
    ))
    .failed(8, "File too large");
    let written = fs::read(folder.path().join("x")).expect("a file");
    assert!(!written.is_empty() && PATTERN.check(0, &written).is_ok());
}

#[test]
fn a_full_disk_is_8() {
    let (_server, url) = server();
    let mount = "unshare -m sh -c 'mount -t tmpfs -o size=1m none \"$DIR\"";
    let folder = tempfile::tempdir().expect("a folder");
    let probe = run(&mut script(&format!("{mount}'"), &url, folder.path()));
    if !can_mount(probe.status.success(), &probe.stderr) {
        // The file that may not grow covers this case.
        return;
    }
    let read = format!(
        "{mount} && {{ \"$PGET\" get \"$URL\" -o \"$DIR/x\"; status=$?; ls -A \"$DIR\"; exit $status; }}'"
    );
    let left = run(&mut script(&read, &url, folder.path())).failed(8, "No space left");
    assert_eq!(String::from_utf8_lossy(&left), "", "the part is removed");
    // The body has no length, so the lack of space is found during the download.
    let server = Hostile::start().expect("a server");
    let mut raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    raw.extend(format!("{SIZE:x}\r\n").bytes());
    raw.extend(PATTERN.bytes(0, 3_000_000));
    raw.extend(b"\r\n0\r\n\r\n");
    let route = Route::new(Object::new(7, SIZE)).fault(When::Always, Fault::Raw(raw));
    let endless = server.route("/endless", route);
    let folder_alone = tempfile::tempdir().expect("a folder");
    get(&endless, &folder_alone.path().join("x")).succeeded();
    assert!(right(&folder_alone.path().join("x")));
    let left = run(&mut script(&read, &endless, folder.path())).failed(8, "No space left");
    assert_eq!(String::from_utf8_lossy(&left), "", "the part is removed");
    let cat = format!(
        "{mount} && {{ \"$PGET\" cat \"$URL\" > \"$DIR/x\"; status=$?; cat \"$DIR/x\"; exit $status; }}'"
    );
    let written = run(&mut script(&cat, &url, folder.path())).failed(8, "No space left");
    assert!(!written.is_empty() && PATTERN.check(0, &written).is_ok());
}
