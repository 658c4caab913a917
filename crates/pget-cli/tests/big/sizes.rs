//! The right bytes at every size, window and concurrency, on every transport.

use std::{
    io::Write as _,
    process::Stdio,
    time::{Duration, Instant},
};

use pget_testkit::{
    aistore::{ClusterOptions, Object},
    servers::{Authority, Nginx, NginxOptions, PythonServer, Validity, Versitygw, VersitygwOptions, require},
};

use crate::{
    content::{check_pattern, check_repeated, check_sparse, huge_repeated, pattern_file, sparse_file},
    run::{pget, run, wait},
    servers::{Aistore, PATTERN, Transports, ais, s3},
};

const WINDOWS: [u32; 4] = [1, 2, 7, 64];
const CONCURRENCIES: [u32; 4] = [1, 3, 16, 128];
pub(crate) const GIB: u64 = 1 << 30;

/// Prints the duration, which `--nocapture` shows.
pub(crate) fn told(what: &str, bytes: u64, began: Instant) {
    let took = began.elapsed();
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = bytes as f64 / took.as_secs_f64() / GIB as f64;
    writeln!(std::io::stderr(), "{what}: {took:.1?}, {rate:.2} GiB/s").expect("standard error");
}

/// Runs 7 transports × 6 sizes × 16 ways to read, with small chunks.
#[test]
#[ignore = "real sizes: run in release mode"]
fn edges_of_chunks_on_every_transport() {
    const CHUNK: usize = 64 << 10;
    let began = Instant::now();
    let transports = Transports::start();
    let mut runs = 0;
    for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3] {
        let name = format!("size-{size}");
        transports.put(&name, size);
        for window in WINDOWS {
            for concurrency in CONCURRENCIES {
                let (window, concurrency) = (window.to_string(), concurrency.to_string());
                let options = [
                    "--chunk-size",
                    "64KiB",
                    "--window",
                    &window,
                    "--concurrency",
                    &concurrency,
                ];
                for (transport, mut command) in transports.commands("cat", &name, &options) {
                    let bytes = run(&mut command).succeeded();
                    let found = (bytes.len(), PATTERN.check(0, &bytes));
                    assert_eq!(found, (size, Ok(())), "{transport} {options:?}");
                    runs += 1;
                }
            }
        }
    }
    told(&format!("{runs} reads of small objects"), 0, began);
}

/// Reads 1 GiB in chunks of 8 MiB.
///
/// Each transport reads with four pairs of window and concurrency. The transports together use all
/// sixteen.
#[test]
#[ignore = "real sizes: run in release mode"]
fn one_gibibyte_on_every_transport() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("object");
    pattern_file(&path, GIB);

    let aistore = Aistore::start(ClusterOptions::default());
    aistore.cluster.put("bucket", "object", Object::pattern(7, GIB));
    let endpoint = aistore.cluster.endpoint();
    read_all_pairs("aistore", 0, || ais(&endpoint, &["cat", "ais://bucket/object"]));
    read_all_pairs("file", 1, || pget(["cat".as_ref(), path.as_os_str()]));

    let authority = Authority::new().expect("an authority");
    let trusted = folder.path().join("ca.pem");
    std::fs::write(&trusted, authority.pem()).expect("a file");
    let options = NginxOptions {
        tls: Some(
            authority
                .leaf(&["localhost"], Validity::Now)
                .expect("a certificate"),
        ),
        ..NginxOptions::default()
    };
    if let Some(nginx) = require(Nginx::start(&options)) {
        std::os::unix::fs::symlink(&path, nginx.root().join("object")).expect("a link");
        read_all_pairs("nginx", 2, || pget(["cat", &nginx.url("/object")]));
        let url = nginx.https_url("/object").expect("it has TLS");
        read_all_pairs("nginx with TLS", 3, || {
            let mut command = pget(["cat", &url]);
            command.env("SSL_CERT_FILE", &trusted);
            command
        });
    }
    if let Some(server) = require(Versitygw::start(VersitygwOptions::default())) {
        server
            .endpoint()
            .put_pattern("object", PATTERN, GIB)
            .expect("an object");
        read_all_pairs("versitygw", 1, || {
            s3(server.endpoint(), &["cat", "s3://bucket/object"])
        });
    }
    if let Some(python) = require(PythonServer::start()) {
        std::os::unix::fs::symlink(&path, python.root().join("object")).expect("a link");
        // The server ignores ranges, so there is only one way to read.
        read("python", &mut pget(["cat", &python.url("/object")]));
    }
}

fn read_all_pairs(transport: &str, shift: usize, command: impl Fn() -> std::process::Command) {
    for (index, window) in WINDOWS.into_iter().enumerate() {
        let concurrency = CONCURRENCIES[(index + shift) % CONCURRENCIES.len()];
        let mut command = command();
        command.args(["--chunk-size", "8MiB"]);
        command.arg(format!("--window={window}"));
        command.arg(format!("--concurrency={concurrency}"));
        read(
            &format!("{transport}, window {window}, concurrency {concurrency}"),
            &mut command,
        );
    }
}

fn read(what: &str, command: &mut std::process::Command) {
    let began = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut output = child.stdout.take().expect("a pipe");
    let length = check_pattern(PATTERN, &mut output);
    wait(child).succeeded();
    assert_eq!(length, GIB, "{what}");
    told(what, length, began);
}

pub(crate) const HUGE: u64 = 64 * GIB;

/// Reads 64 GiB through the library. A pipe as well would take time and prove nothing more.
fn read_huge(what: &str, builder: &pget::Builder, check: impl Fn(u64, &[u8]) -> Result<(), u64>) {
    let began = Instant::now();
    let mut reader = builder
        .blocking()
        .and_then(|object| object.reader())
        .expect("a reader");
    assert_eq!(reader.total(), Some(HUGE));
    let mut at = 0;
    while let Some(lease) = reader.next_lease().expect("the next bytes") {
        assert_eq!(lease.offset(), at);
        assert_eq!(check(at, &lease), Ok(()), "{what}");
        at += lease.len() as u64;
    }
    assert_eq!(at, HUGE, "{what}");
    let stats = reader.stats();
    assert_eq!(stats.delivered, HUGE);
    assert!(stats.peak_buffered <= 24 * (8 << 20), "{stats:?}");
    told(what, at, began);
    assert!(began.elapsed() < Duration::from_secs(600));
}

#[test]
#[ignore = "real sizes: run in release mode"]
fn sixty_four_gibibytes_from_aistore() {
    let aistore = Aistore::start(ClusterOptions::default());
    aistore.cluster.put("bucket", "object", huge_repeated());
    let builder = pget::builder("ais://bucket/object")
        .property("ais.endpoint", aistore.cluster.endpoint())
        .chunk_size(8 << 20);
    read_huge("aistore, 64 GiB", &builder, check_repeated);
}

#[test]
#[ignore = "real sizes: run in release mode"]
fn sixty_four_gibibytes_from_nginx() {
    let Some(nginx) = require(Nginx::start(&NginxOptions::default())) else {
        return;
    };
    sparse_file(&nginx.root().join("object"), HUGE);
    read_huge(
        "nginx, 64 GiB",
        &pget::builder(&nginx.url("/object")),
        check_sparse,
    );
}

#[test]
#[ignore = "real sizes: run in release mode"]
fn sixty_four_gibibytes_from_s3() {
    let Some(server) = require(Versitygw::start(VersitygwOptions::default())) else {
        return;
    };
    sparse_file(&server.bucket_folder().join("object"), HUGE);
    let endpoint = server.endpoint();
    let builder = pget::builder("s3://bucket/object")
        .property("aws.endpoint", endpoint.url())
        .property("aws.allow_http", "true")
        .property("aws.region", endpoint.region())
        .property("aws.access_key_id", endpoint.access_key())
        .property("aws.secret_access_key", endpoint.secret_key());
    read_huge("versitygw, 64 GiB", &builder, check_sparse);
}

#[test]
#[ignore = "real sizes: run in release mode"]
fn sixty_four_gibibytes_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("object");
    sparse_file(&path, HUGE);
    let path = path.to_str().expect("a path that is text");
    read_huge("file, 64 GiB", &pget::builder(path), check_sparse);
}
