//! The program's surroundings: proxies in the environment (case 68), few descriptors (case 59), and
//! few threads (case 128).

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
};

use crate::run::{pget, plain_environment, run};

const PATTERN: Pattern = Pattern::new(7);
const SIZE: u64 = 3_000_003;

fn cat(url: &str) -> Command {
    pget([
        "cat",
        url,
        "--retries",
        "1",
        "--chunk-size",
        "64KiB",
        "--connect-timeout",
        "2s",
    ])
}

#[track_caller]
fn is_the_object(bytes: &[u8]) {
    assert_eq!(bytes.len() as u64, SIZE);
    assert_eq!(PATTERN.check(0, bytes), Ok(()));
}

#[test]
fn case_68_a_proxy_of_the_environment_is_asked_and_no_proxy_heeded() {
    // The misbehaving server takes the absolute form of a request's target for a path, as a proxy
    // would.
    let proxy = Hostile::start().expect("a server");
    let target = "http://object.invalid/o";
    proxy.route(target, Route::new(Object::new(7, SIZE)));
    for variable in ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
        let before = proxy.requests(target).len();
        is_the_object(&run(cat(target).env(variable, proxy.url(""))).succeeded());
        assert!(proxy.requests(target).len() > before, "{variable}");
    }
    let asked = proxy.requests(target).len();
    for exempt in [
        "object.invalid",
        ".invalid",
        "*.invalid",
        "other.test, object.invalid",
        "OBJECT.invalid.:80",
        "*",
    ] {
        let command = &mut cat(target);
        command.env("HTTP_PROXY", proxy.url("")).env("NO_PROXY", exempt);
        run(command).failed(6, "object.invalid");
    }
    // In a CGI program, the `Proxy` header of a request would become that variable.
    let command = &mut cat(target);
    command
        .env("HTTP_PROXY", proxy.url(""))
        .env("REQUEST_METHOD", "GET");
    run(command).failed(6, "object.invalid");
    assert_eq!(proxy.requests(target).len(), asked, "the proxy was asked");
}

#[test]
fn case_127_each_hop_of_redirects_is_exempt_by_itself() {
    let proxy = Hostile::start().expect("a server");
    let (hub, target) = ("http://hub.invalid/o", "http://object.invalid/o");
    let object = || Route::new(Object::new(7, SIZE));
    proxy.route(hub, object().fault(When::HeadToo, Fault::redirect(302, target)));
    proxy.route(target, object());
    for (exempt, fails_at) in [
        ("other.test", None),
        ("object.invalid", Some("object.invalid")),
        ("hub.invalid", Some("hub.invalid")),
    ] {
        let asked = (proxy.requests(hub).len(), proxy.requests(target).len());
        let command = &mut cat(hub);
        command.env("HTTP_PROXY", proxy.url("")).env("NO_PROXY", exempt);
        match fails_at {
            None => is_the_object(&run(command).succeeded()),
            Some(host) => drop(run(command).failed(6, &format!("no host named {host}"))),
        }
        let is_hub_asked = proxy.requests(hub).len() > asked.0;
        assert_eq!(is_hub_asked, exempt != "hub.invalid", "{exempt}");
        let is_target_asked = proxy.requests(target).len() > asked.1;
        assert_eq!(is_target_asked, fails_at.is_none(), "{exempt}");
    }
}

#[test]
fn case_127_an_empty_variable_hides_no_other_and_odd_entries_exempt_nothing() {
    let proxy = Hostile::start().expect("a server");
    let target = "http://object.invalid/o";
    proxy.route(target, Route::new(Object::new(7, SIZE)));
    let with = |lower: &str, upper: &str| {
        let mut command = cat(target);
        command.env("HTTP_PROXY", proxy.url(""));
        command.env("no_proxy", lower).env("NO_PROXY", upper);
        run(&mut command)
    };
    // As in Go, the one in upper case goes first.
    is_the_object(&with("object.invalid", "other.test").succeeded());
    with("other.test", "object.invalid").failed(6, "object.invalid");
    with("", "object.invalid").failed(6, "object.invalid");
    with("object.invalid", "").failed(6, "object.invalid");
    for odd in [
        ",",
        ".",
        "x;object.invalid",
        "\"object.invalid\"",
        "object.invalid/",
        "object.invalid:1",
        "<local>",
        "192.0.2.0/24",
        "object.*.example",
    ] {
        is_the_object(&with(odd, "").succeeded());
    }
}

#[test]
fn case_68_a_variable_that_holds_no_proxy_is_refused_where_it_counts() {
    let proxy = Hostile::start().expect("a server");
    let target = "http://object.invalid/o";
    proxy.route(target, Route::new(Object::new(7, SIZE)));
    for value in [
        "not a proxy",
        "socks5://user:canary7f3a91secret@127.0.0.1:1",
        "ftp://127.0.0.1:1",
        "http://user:canary7f3a91secret@",
    ] {
        for variable in ["HTTP_PROXY", "http_proxy", "all_proxy"] {
            let ended = run(cat(target).env(variable, value));
            assert!(!ended.stderr.contains("canary"), "{ended:?}");
            ended.failed(2, variable);
        }
        // The variable has no effect if another takes precedence, if the scheme differs, or if the
        // host is excluded.
        let command = &mut cat(target);
        command
            .env("HTTP_PROXY", proxy.url(""))
            .env("ALL_PROXY", value)
            .env("HTTPS_PROXY", value);
        is_the_object(&run(command).succeeded());
        let command = &mut cat(target);
        command.env("HTTP_PROXY", value).env("NO_PROXY", "object.invalid");
        run(command).failed(6, "object.invalid");
    }
    // An empty variable means no proxy.
    run(cat(target).env("HTTP_PROXY", "")).failed(6, "object.invalid");
    // A URL of any length goes to the right server, or to none.
    let long = format!("{target}?{}", "x".repeat(70_000));
    run(cat(&long).env("HTTP_PROXY", proxy.url(""))).failed(2, "through a proxy");
}

#[test]
fn case_68_loopback_never_goes_through_a_proxy_of_the_environment() {
    let server = Hostile::start().expect("a server");
    server.route("/o", Route::new(Object::new(7, SIZE)));
    let port = server.address().port();
    for host in [
        "127.0.0.1",
        "127.8.9.10",
        "localhost",
        "LOCALHOST.",
        "[::ffff:127.0.0.1]",
    ] {
        let command = &mut cat(&format!("http://{host}:{port}/o"));
        // No server listens there.
        command
            .env("HTTP_PROXY", "http://127.0.0.1:1")
            .env("ALL_PROXY", "http://127.0.0.1:1");
        let ended = run(command);
        // The server listens on only one address. On others, the refusal must be that of its own
        // port.
        if ended.status.success() {
            is_the_object(&ended.stdout);
        } else {
            assert!(!host.starts_with("127.0.0.1") && host != "localhost", "{ended:?}");
            assert!(!ended.stderr.contains("through the proxy"), "{ended:?}");
        }
    }
    assert!(server.requests("/o").len() > 1);
}

#[test]
fn case_68_https_asks_the_proxy_for_a_tunnel_and_shows_its_password_nowhere() {
    let proxy = Hostile::start().expect("a server");
    let address = proxy.address();
    for verbose in [false, true] {
        let command = &mut cat("https://object.invalid/o");
        command.env("HTTPS_PROXY", format!("http://user:canary7f3a91secret@{address}"));
        if verbose {
            command.arg("-vv");
        }
        let ended = run(command);
        assert_eq!(ended.status.code(), Some(6), "{ended:?}");
        for part in [
            "canary7f3a91secret",
            "Y2FuYXJ5N2YzYTkxc2VjcmV0",
            "NhbmFyeTdmM2E5MXNlY3Jl",
            "jYW5hcnk3ZjNhOTFzZWNyZX",
        ] {
            assert!(!ended.stderr.contains(part), "{}", ended.stderr);
        }
    }
    let asked = proxy.requests("object.invalid:443");
    assert!(
        !asked.is_empty() && asked.iter().all(|request| request.method == "CONNECT"),
        "{asked:?}"
    );
    assert!(
        asked
            .iter()
            .all(|request| request.header("proxy-authorization").is_some()),
        "{asked:?}"
    );
    assert!(
        asked
            .iter()
            .all(|request| request.header("authorization").is_none()),
        "{asked:?}"
    );
}

/// Returns the program in a process with at most `most` descriptors.
fn with_descriptors(most: u32, url: &str) -> Command {
    let mut command = Command::new("sh");
    plain_environment(&mut command);
    command.args([
        "-c",
        &format!("ulimit -n {most} && exec \"$@\""),
        "sh",
        env!("CARGO_BIN_EXE_pget"),
    ]);
    command.args([
        "cat",
        url,
        "--concurrency",
        "32",
        "--chunk-size",
        "16KiB",
        "--retries",
        "3",
        "--connect-timeout",
        "5s",
    ]);
    command
}

#[test]
fn case_59_few_descriptors_make_it_slower_or_a_typed_error_and_never_hang() {
    let server = Hostile::start().expect("a server");
    let by_name = format!("http://localhost:{}/o", server.address().port());
    let url = server.route("/o", Route::new(Object::new(7, SIZE)));
    // There are descriptors for some connections, so fewer run at the same time.
    for most in [20, 16] {
        is_the_object(&run(&mut with_descriptors(most, &url)).succeeded());
        is_the_object(&run(&mut with_descriptors(most, &by_name)).succeeded());
    }
    // There are descriptors for no connection, and finally not even for the runtime.
    for most in [12, 10, 9, 8, 7, 6, 5, 4] {
        let ended = run(&mut with_descriptors(most, &url));
        assert_eq!(PATTERN.check(0, &ended.stdout), Ok(()), "{most}");
        match ended.status.code() {
            Some(0) => is_the_object(&ended.stdout),
            Some(1 | 6) => assert!(
                ended.stderr.starts_with("pget: ") && !ended.stderr.contains("panicked"),
                "{ended:?}"
            ),
            // There are too few descriptors to load the program's libraries.
            Some(127) => assert!(most < 5, "{ended:?}"),
            _ => panic!("{most}: {ended:?}"),
        }
    }
}

/// Returns the program as another user who may have at most `most` threads.
///
/// Returns `None` if that is not possible. Root has no such limit, and every other user has other
/// processes.
fn with_threads(most: u32, folder: &Path, arguments: &[&str]) -> Option<Command> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: root alone can become a user without processes");
        return None;
    }
    let program = folder.join("pget");
    if !program.exists() {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("the folder is ours");
        fs::copy(env!("CARGO_BIN_EXE_pget"), &program).expect("a copy");
    }
    // Each number of threads has a user of its own, so that the tests do not count each other's
    // threads.
    let user = 64_000 + most;
    let mut command = Command::new("setpriv");
    plain_environment(&mut command);
    command.args([&format!("--reuid={user}"), "--regid=65534", "--clear-groups"]);
    command.args(["prlimit", &format!("--nproc={most}:{most}"), "--"]);
    command.arg(program).args(arguments).current_dir(folder);
    Some(command)
}

#[test]
fn case_128_without_threads_one_thread_does_all() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, SIZE)));
    let by_name = format!("http://localhost:{}/o", server.address().port());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, PATTERN.bytes(0, 3_000_003)).expect("written");
    let file = file.to_str().expect("text");
    // One thread is the program itself. With more, there are fewer workers than usual.
    for most in 1..5 {
        for address in [url.as_str(), &by_name, file] {
            let chunk = ["--chunk-size", "64KiB"];
            let Some(mut cat) = with_threads(most, folder.path(), &["cat", address, chunk[0], chunk[1]])
            else {
                return;
            };
            is_the_object(&run(&mut cat).succeeded());
            let get = ["get", address, "-o", "x", "--journal-interval", "10ms"];
            let mut get = with_threads(most, folder.path(), &get).expect("as before");
            // The missing journal causes a warning.
            let ended = run(&mut get);
            assert!(
                ended.status.success() && !ended.stderr.contains("panicked"),
                "{ended:?}"
            );
            is_the_object(&fs::read(folder.path().join("x")).expect("a file"));
            fs::remove_file(folder.path().join("x")).expect("it is there");
            let mut stat = with_threads(most, folder.path(), &["stat", address]).expect("as before");
            assert!(run(&mut stat).succeeded().starts_with(b"size: 3000003"));
        }
        // The bar has a thread of its own.
        let bar = ["cat", "--progress", "always", &url];
        let ended = run(&mut with_threads(most, folder.path(), &bar).expect("as before"));
        assert!(
            ended.status.success() && !ended.stderr.contains("panicked"),
            "{ended:?}"
        );
        is_the_object(&ended.stdout);
    }
}

#[test]
fn case_128_what_needs_a_thread_says_so() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, SIZE)));
    let folder = tempfile::tempdir().expect("a folder");
    let ring = format!("pget-test-threads-{}", std::process::id());
    for arguments in [&["shm", "get", &url][..], &["cat", &url, "--shared-ring", &ring]] {
        let Some(mut command) = with_threads(1, folder.path(), arguments) else {
            return;
        };
        run(&mut command).failed(1, "out of resources: no thread can be started");
    }
}

/// A limit on descriptors is met before that on threads. Few are enough for a read over few
/// connections, and fewer are an error of one line.
#[test]
fn case_128_few_descriptors_are_enough_or_an_error_of_one_line() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, SIZE)));
    let folder = tempfile::tempdir().expect("a folder");
    let mut complete = 0;
    for most in 5..=24 {
        for arguments in [&["cat", &url][..], &["get", &url, "-o", "x"]] {
            let mut command = Command::new("prlimit");
            plain_environment(&mut command);
            command.args([&format!("--nofile={most}:{most}"), "--"]);
            command.arg(env!("CARGO_BIN_EXE_pget")).args(arguments);
            command.args(["--chunk-size", "64KiB", "--concurrency", "16"]);
            // Another thread might close one, so that is waited for.
            command.args(["--retry-timeout", "1s"]);
            let ended = run(command.current_dir(&folder));
            assert!(!ended.stderr.contains("panicked"), "{most}: {ended:?}");
            if ended.status.success() {
                complete += 1;
                let file = folder.path().join("x");
                let written = || fs::read(&file).expect("a file");
                is_the_object(&if arguments[0] == "cat" {
                    ended.stdout
                } else {
                    written()
                });
            } else {
                let is_late = ended.stderr.contains("(retry_timeout)");
                let status = if is_late { 6 } else { 1 };
                ended.failed(status, "Too many open files");
                assert!(!folder.path().join("x.pget-part").exists(), "{most}");
            }
            fs::remove_file(folder.path().join("x")).ok();
        }
    }
    assert!(complete >= 16, "{complete} of 40 were complete");
}
