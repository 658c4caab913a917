//! Names of files that come of addresses or count in bytes (cases 121 and 125), and outputs that
//! take bytes in order only (case 123).

use std::{fs, process::Command};

use nix::errno::Errno;
use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};

use crate::{
    resume::names,
    run::{pget, plain_environment, run},
    servers::PATTERN,
    shim::{Fails, Shim},
};

const SIZE: u64 = 3_000_003;

fn right() -> Vec<u8> {
    PATTERN.bytes(0, usize::try_from(SIZE).expect("small"))
}

fn good() -> Route {
    Route::new(Object::new(7, SIZE))
}

/// Returns a shell that runs `text` with the program in `$PGET` and the address in `$URL`.
fn shell(text: &str, url: &str) -> Command {
    let mut shell = Command::new("sh");
    plain_environment(&mut shell);
    shell.env("PGET", env!("CARGO_BIN_EXE_pget")).env("URL", url);
    shell.args(["-c", text]);
    shell
}

/// Names count in bytes, not in letters. The folder's path is longer than any path may be that is
/// given to the system in one piece.
#[test]
fn case_121_a_long_name_in_a_deep_folder_is_written_and_resumed() {
    let server = Hostile::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let deep = "d=$(printf %0250d 0); for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18; \
                do mkdir -p $d; cd -P $d || exit 99; done; ";
    let options = "--resume --chunk-size 64KiB --concurrency 4 --retries 0";
    for name in ["\u{65e5}".repeat(85), "x".into()] {
        let get = format!("{deep} exec \"$PGET\" get \"$URL\" {options} -o {name}");
        let url = server.route("/o", good().fault(When::From(20), Fault::status(503)));
        let mut command = shell(&get, &url);
        run(command.current_dir(&folder)).failed(6, "503");
        server.route("/o", good());
        let before = server.load().body_bytes;
        run(shell(&get, &url).current_dir(&folder)).succeeded();
        assert!(server.load().body_bytes - before < SIZE, "it went on");
        let show = format!("{deep} cat {name} && rm {name} && ls -A");
        let bytes = run(shell(&show, &url).current_dir(&folder)).succeeded();
        assert!(bytes == right(), "{} bytes, or names are left", bytes.len());
    }
}

/// The default name is the name of a file, whatever else a program might take it for.
#[test]
fn case_125_the_default_name_is_no_stream_option_or_path() {
    let server = Hostile::start().expect("a server");
    for (path, name) in [
        ("/-", "-"),
        ("/%2D", "-"),
        ("/dev%2Fstdout", "dev%2Fstdout"),
        ("/-rf", "-rf"),
        ("/~", "~"),
        ("/a%00b", "a%00b"),
        ("/a%0Ab", "a%0Ab"),
        ("/%2e%2e", "%2e."),
        ("/..%2f..%2fetc%2fpasswd", "..%2f..%2fetc%2fpasswd"),
        ("/%ff%fe", "%ff%fe"),
        // What turns the direction of a text makes a name look like another one.
        ("/%E2%80%AEtxt.exe", "%E2%80%AEtxt.exe"),
        ("/caf%C3%A9?name=other#part", "caf\u{e9}"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        server.route(path.split(['?', '#']).next().expect("a path"), good());
        let url = format!("http://{}{path}", server.address());
        server.route(path.split('#').next().expect("a path"), good());
        let mut command = pget(["get", &url]);
        let printed = run(command.current_dir(&folder)).succeeded();
        assert!(printed.is_empty(), "{path}");
        assert_eq!(names(folder.path()), [name], "{path}");
        assert!(
            fs::read(folder.path().join(name)).expect("a file") == right(),
            "{path}"
        );
    }
    // An address that ends in no name is refused before a request is sent.
    for path in ["/", "/a/", "/.", "/.."] {
        let url = format!("http://{}{path}", server.address());
        run(&mut pget(["get", &url])).failed(2, "ends in no name");
        assert!(server.requests(path).is_empty(), "{path}");
    }
}

/// A file system over a network often has no more: no place but the end, no locks, no syncs, and
/// nothing can be read back before the file is closed.
#[test]
fn case_123_a_file_system_with_writes_in_order_and_nothing_else() {
    let Some(shim) = Shim::new() else { return };
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", good());
    let fails = |call, errno| Fails {
        call,
        errno,
        end: ".pget-part",
    };
    let calls = [
        fails("order", Errno::ENOSYS),
        fails("fallocate", Errno::ENOSYS),
        fails("ftruncate", Errno::ENOSYS),
        fails("fdatasync", Errno::ENOSYS),
        fails("fsync", Errno::ENOSYS),
        fails("flock", Errno::ENOLCK),
        fails("pread", Errno::EBADF),
        fails("fchmod", Errno::EPERM),
        fails("fchown", Errno::EPERM),
    ];
    for concurrency in ["1", "4", "64"] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = pget(["get", &url, "-o", "x", "--chunk-size", "64KiB"]);
        command.args(["--concurrency", concurrency]);
        shim.fail(command.current_dir(&folder), &calls);
        let ended = run(&mut command);
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert!(fs::read(folder.path().join("x")).expect("a file") == right());
        assert_eq!(names(folder.path()), ["x"]);
    }
}

/// Outputs that have no places, or whose places are not those of the object.
#[test]
fn case_123_pipes_and_appended_files_get_bytes_in_order() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", good());
    let options = "--chunk-size 64KiB --concurrency 16";
    for get in [
        "-o - >>out",
        "-o - 1<>out",
        "-o /dev/stdout >>out",
        "-o /dev/fd/3 3>>out",
        "-o pipe & cat pipe >>out; wait $!",
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let is_appended = get.contains(">>");
        let before: &[u8] = if is_appended { b"before" } else { b"" };
        fs::write(folder.path().join("out"), before).expect("written");
        let text = format!("mkfifo pipe; \"$PGET\" get \"$URL\" {options} {get}");
        let ended = run(shell(&text, &url).current_dir(&folder));
        assert_eq!(ended.status.code(), Some(0), "{get}: {ended:?}");
        let bytes = fs::read(folder.path().join("out")).expect("a file");
        assert!(
            bytes == [before, &right()].concat(),
            "{get}: {} bytes",
            bytes.len()
        );
    }
}
