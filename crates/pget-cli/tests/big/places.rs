//! A GiB into each kind of place over each transport, and 64 GiB where they fit.
//!
//! The places are a file (`pget get`), shared memory (`pget shm get`, read by another process as it
//! arrives), a process's own memory, and a [`Destination`] that checks the bytes and keeps none.
//! Every byte is compared with the object's byte at its offset, which is stricter than a digest.
//!
//! 64 GiB fit neither in this machine's memory nor on its disk. A sparse object has zeros where
//! nothing was written, so it would not reveal a missing write. The whole object therefore goes to
//! the `Destination`. The other places get windows of a GiB, one of them misaligned and up to the
//! end.
//!
//! By default, a GiB goes over each transport and to each place, and each place gets the end of 64
//! GiB. With `PGET_BIG=all`, all pairs run, and all 64 GiB of each transport.

use std::{
    fmt,
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pget::{Destination, Error, ErrorKind, ObjectInfo, SharedBuffer, Transfer};
use pget_testkit::{
    aistore::{ClusterOptions, Object},
    servers::{Authority, Nginx, NginxOptions, Validity, Versitygw, VersitygwOptions, require},
};
use tempfile::TempDir;

use crate::{
    content::{check_repeated, check_sparse, huge_repeated, pattern_file, sparse_file},
    run::{pget, plain_environment},
    servers::{Aistore, PATTERN},
    sizes::{GIB, HUGE, told},
};

/// Time limit of a test on a busy machine.
const DEADLINE: Duration = Duration::from_secs(900);

/// An object: its content, and the settings with which a process can read it.
struct Origin {
    transport: &'static str,
    content: &'static str,
    address: String,
    settings: Vec<(&'static str, String)>,
}

/// The servers. Each has an object of 1 GiB and one of 64 GiB.
struct Origins {
    all: Vec<[Origin; 2]>,
    _aistore: Aistore,
    _nginx: Option<Nginx>,
    _versitygw: Option<Versitygw>,
    _folder: TempDir,
}

impl Origins {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        pattern_file(&at("object"), GIB);
        sparse_file(&at("huge"), HUGE);
        let mut all = Vec::new();
        let mut add =
            |transport, huge, settings: Vec<(&'static str, String)>, address: &dyn Fn(&str) -> String| {
                all.push(
                    [("object", "pattern"), ("huge", huge)].map(|(name, content)| Origin {
                        transport,
                        content,
                        address: address(name),
                        settings: settings.clone(),
                    }),
                );
            };
        let aistore = Aistore::start(ClusterOptions::default());
        aistore.cluster.put("bucket", "object", Object::pattern(7, GIB));
        aistore.cluster.put("bucket", "huge", huge_repeated());
        let endpoint = vec![("AIS_ENDPOINT", aistore.cluster.endpoint())];
        add("aistore", "repeated", endpoint, &|name| {
            format!("ais://bucket/{name}")
        });
        add("file", "sparse", Vec::new(), &|name| {
            at(name).display().to_string()
        });

        let authority = Authority::new().expect("an authority");
        std::fs::write(at("ca.pem"), authority.pem()).expect("a file");
        let leaf = authority.leaf(&["localhost"], Validity::Now);
        let options = NginxOptions {
            tls: Some(leaf.expect("a certificate")),
            ..NginxOptions::default()
        };
        let nginx = require(Nginx::start(&options));
        if let Some(nginx) = &nginx {
            for name in ["object", "huge"] {
                symlink(at(name), nginx.root().join(name)).expect("a link");
            }
            add("http", "sparse", Vec::new(), &|name| {
                nginx.url(&format!("/{name}"))
            });
            let trusted = vec![("SSL_CERT_FILE", at("ca.pem").display().to_string())];
            let address = |name: &str| nginx.https_url(&format!("/{name}")).expect("it has TLS");
            add("https", "sparse", trusted, &address);
        }
        let versitygw = require(Versitygw::start(VersitygwOptions::default()));
        if let Some(server) = &versitygw {
            let endpoint = server.endpoint();
            endpoint.put_pattern("object", PATTERN, GIB).expect("an object");
            sparse_file(&server.bucket_folder().join("huge"), HUGE);
            let settings = vec![
                ("AWS_ENDPOINT_URL", endpoint.url().to_owned()),
                ("AWS_ALLOW_HTTP", "true".to_owned()),
                ("AWS_REGION", endpoint.region().to_owned()),
                ("AWS_ACCESS_KEY_ID", endpoint.access_key().to_owned()),
                ("AWS_SECRET_ACCESS_KEY", endpoint.secret_key().to_owned()),
            ];
            add("s3", "sparse", settings, &|name| format!("s3://bucket/{name}"));
        }
        Self {
            all,
            _aistore: aistore,
            _nginx: nginx,
            _versitygw: versitygw,
            _folder: folder,
        }
    }

    /// Returns the objects of this transport, if its server could be started.
    fn of(&self, transport: &str) -> Option<&[Origin; 2]> {
        self.all.iter().find(|[one, _]| one.transport == transport)
    }
}

/// A destination of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Segment,
    Memory,
    Looked,
}

/// Reads the bytes `offset..end` of `origin` into such a place, and checks them there.
fn into(kind: Kind, origin: &Origin, offset: u64, end: u64, folder: &TempDir) {
    let began = Instant::now();
    let length = end - offset;
    let range = [format!("--offset={offset}"), format!("--length={length}")];
    match kind {
        Kind::File => {
            let path = folder.path().join("copy");
            let mut command = pget(["get", &origin.address, "-o"]);
            command
                .arg(&path)
                .args(&range)
                .envs(origin.settings.iter().cloned());
            ends(start(&mut command));
            let file = File::open(&path).expect("a file");
            assert_eq!(file.metadata().expect("a file").len(), length);
            let mut file = BufReader::with_capacity(1 << 20, file);
            let mut at = offset;
            loop {
                let bytes = file.fill_buf().expect("what it reads");
                if bytes.is_empty() {
                    break;
                }
                assert_eq!(check(origin.content, at, bytes), Ok(()));
                at += bytes.len() as u64;
                let count = bytes.len();
                file.consume(count);
            }
            std::fs::remove_file(path).expect("it is there");
        }
        Kind::Segment => {
            let mut command = pget(["shm", "get", &origin.address]);
            command.args(&range).envs(origin.settings.iter().cloned());
            let mut creator = start(&mut command);
            let mut out = BufReader::new(creator.stdout.take().expect("piped"));
            let mut name = String::new();
            out.read_line(&mut name).expect("text");
            ends(start(
                child("child_attaches", origin, offset, end).env("TEST_SEGMENT", name.trim_end()),
            ));
            let id = i32::try_from(creator.id()).expect("a process id");
            kill(Pid::from_raw(id), Signal::SIGTERM).expect("it runs");
            ends(creator);
        }
        Kind::Memory => ends(start(&mut child("child_reads_into_memory", origin, offset, end))),
        Kind::Looked => ends(start(&mut child("child_looks_at_it", origin, offset, end))),
    }
    told(
        &format!("{} into {kind:?}, {length} bytes from {offset}", origin.transport),
        length,
        began,
    );
}

fn check(content: &str, offset: u64, bytes: &[u8]) -> Result<(), u64> {
    match content {
        "pattern" => PATTERN.check(offset, bytes),
        "sparse" => check_sparse(offset, bytes),
        _ => check_repeated(offset, bytes),
    }
}

/// Returns a command that runs a test below in a process that knows `origin`.
fn child(test: &str, origin: &Origin, offset: u64, end: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args([&format!("places::{test}"), "--exact", "--ignored", "--nocapture"]);
    plain_environment(&mut command);
    command
        .envs(origin.settings.iter().cloned())
        .env("TEST_ADDRESS", &origin.address)
        .env("TEST_CONTENT", origin.content)
        .env("TEST_RANGE", format!("{offset} {end}"));
    command
}

fn start(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

/// Checks that the process succeeds within the deadline.
fn ends(child: Child) {
    let id = i32::try_from(child.id()).expect("a process id");
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let Ok(output) = receive.recv_timeout(DEADLINE) else {
        kill(Pid::from_raw(id), Signal::SIGKILL).expect("it runs");
        panic!("no end within {DEADLINE:?}");
    };
    let output = output.expect("its output");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{errors}");
    assert!(!out.contains("running 0 tests"), "no such test: {out}");
}

/// Returns the parent's request, or `None` if this process is not a child.
fn asked() -> Option<(pget::Builder, String, u64, u64)> {
    let address = std::env::var("TEST_ADDRESS").ok()?;
    let range = std::env::var("TEST_RANGE").expect("a range");
    let (offset, end) = range.split_once(' ').expect("two offsets");
    let (offset, end): (u64, u64) = (offset.parse().expect("a number"), end.parse().expect("a number"));
    let builder = pget::builder(&address).offset(offset).length(end - offset);
    Some((
        builder,
        std::env::var("TEST_CONTENT").expect("a content"),
        offset,
        end,
    ))
}

#[test]
#[ignore = "run by other tests in a process of its own"]
fn child_reads_into_memory() {
    let Some((builder, content, offset, end)) = asked() else {
        return;
    };
    let mut memory = vec![0xa5; usize::try_from(end - offset).expect("it fits")];
    let length = builder
        .blocking()
        .expect("an object")
        .read_into(&mut memory)
        .expect("it is read");
    assert_eq!(length, memory.len());
    assert_eq!(check(&content, offset, &memory), Ok(()));
}

#[test]
#[ignore = "run by other tests in a process of its own"]
fn child_attaches() {
    let Some((_, content, offset, end)) = asked() else {
        return;
    };
    let name = std::env::var("TEST_SEGMENT").expect("a name");
    let shared = SharedBuffer::attach(&name).expect("attached");
    assert_eq!(shared.len() as u64, end - offset);
    let mut at = 0;
    while at < shared.len() {
        let until = (at + (4 << 20)).min(shared.len());
        let bytes = &shared.wait_for(until).expect("they come")[at..until];
        assert_eq!(check(&content, offset + at as u64, bytes), Ok(()));
        at = until;
    }
}

/// A destination that checks and counts the bytes, and keeps none.
struct Looks {
    content: String,
    seen: std::sync::atomic::AtomicU64,
}

impl fmt::Debug for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Looks").finish_non_exhaustive()
    }
}

impl Destination for Looks {
    fn begin(&self, _: &ObjectInfo, _: u64, _: Option<u64>) -> Result<Transfer, Error> {
        Ok(Transfer::Put)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.seen
            .fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let wrong = |at| Error::new(ErrorKind::Destination, "", format!("wrong bytes at {at}"));
        check(&self.content, offset, bytes).map_err(wrong)
    }
}

#[test]
#[ignore = "run by other tests in a process of its own"]
fn child_looks_at_it() {
    let Some((builder, content, offset, end)) = asked() else {
        return;
    };
    let looks = Arc::new(Looks {
        content,
        seen: Default::default(),
    });
    // Its stated checksum is not that of the content.
    let builder = builder.verify(pget::Verify::Off);
    builder
        .blocking()
        .expect("an object")
        .read_to(Arc::clone(&looks) as _)
        .expect("it is read");
    // No byte is put twice, so the count shows that all bytes arrived.
    assert_eq!(
        looks.seen.load(std::sync::atomic::Ordering::Relaxed),
        end - offset
    );
}

fn is_all() -> bool {
    std::env::var_os("PGET_BIG").is_some_and(|value| value == "all")
}

#[test]
#[ignore = "real sizes: run in release mode"]
fn into_every_place_over_every_transport() {
    let origins = Origins::start();
    let folder = tempfile::tempdir().expect("a folder");
    let kinds = [Kind::File, Kind::Segment, Kind::Memory];
    let pairs: Vec<(&str, Kind)> = if is_all() {
        let transports = origins.all.iter().map(|[one, _]| one.transport);
        transports
            .flat_map(|transport| kinds.map(|kind| (transport, kind)))
            .collect()
    } else {
        vec![
            ("aistore", Kind::Memory),
            ("s3", Kind::Segment),
            ("http", Kind::File),
            ("https", Kind::Memory),
            ("file", Kind::Segment),
        ]
    };
    for (transport, kind) in &pairs {
        if let Some([one, _]) = origins.of(transport) {
            into(*kind, one, 0, GIB, &folder);
        }
    }
    // The windows are around a mark in the middle of 64 GiB, and misaligned up to the end.
    let windows = [(37 * GIB - 4099, 38 * GIB + 1), (HUGE - GIB + 12_345, HUGE)];
    for (index, (transport, kind)) in pairs.iter().enumerate() {
        // By default, each kind of place gets one window near the end.
        let chosen: &[(u64, u64)] = if is_all() { &windows } else { &windows[1..] };
        if let Some([_, huge]) = origins.of(transport).filter(|_| is_all() || index < 3) {
            for (offset, end) in chosen {
                into(*kind, huge, *offset, *end, &folder);
            }
        }
    }
    for [_, huge] in &origins.all {
        if is_all() {
            into(Kind::Looked, huge, 0, HUGE, &folder);
        }
    }
}
