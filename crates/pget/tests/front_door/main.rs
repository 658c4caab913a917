//! The public interface: an address suffices, every option takes effect, and threads without a
//! runtime share one.

mod runtime;

use std::{
    io::Read,
    ops::Range,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pget::{Builder, Destination, Error, ErrorKind, ObjectInfo, Reader, Transfer};
use pget_testkit::{
    aistore::{self, Cluster, ClusterOptions},
    content::Pattern,
    hostile::{Asked, Fault, Hostile, Object, Route, When},
    servers::{
        Authority, Gofakes3, Nginx, NginxOptions, PythonServer, S3Endpoint, Validity, Versitygw,
        VersitygwOptions, require,
    },
};

const PATTERN: Pattern = Pattern::new(7);
const SIZE: usize = 700_001;
const DEADLINE: Duration = Duration::from_secs(30);

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("in time")
}

async fn open(builder: &Builder) -> Result<Reader, Error> {
    builder.object()?.reader().await
}

fn on_s3(endpoint: &S3Endpoint, key: &str) -> Builder {
    pget::builder(&format!("s3://bucket/{key}"))
        .property("aws.endpoint", endpoint.url())
        .property("aws.allow_http", "true")
        .property("aws.region", endpoint.region())
        .property("aws.access_key_id", endpoint.access_key())
        .property("aws.secret_access_key", endpoint.secret_key())
}

/// A destination that keeps its bytes.
#[derive(Debug)]
struct Kept(Mutex<Vec<u8>>);

impl Destination for Kept {
    fn begin(&self, _: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Transfer, Error> {
        assert_eq!((start, end), (0, Some(SIZE as u64)));
        Ok(Transfer::Put)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let offset = usize::try_from(offset).expect("small");
        self.0.lock().expect("not poisoned")[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// Returns ranges that touch, overlap, are empty and reach the end, with their buffers.
fn some_ranges() -> Vec<(Range<u64>, Vec<u8>)> {
    let size = SIZE as u64;
    [size - 10..size, 3..20, 100_000..400_000, 5..5, 399_999..400_001]
        .map(|range| {
            let length = usize::try_from(range.end - range.start).expect("small");
            (range, vec![0; length])
        })
        .into()
}

/// Reads the object to a destination, and reads ranges of it, in both forms, pinned to its
/// revision.
async fn places(what: &str, builder: Builder, info: ObjectInfo) {
    let builder = builder.pin(info).gap(1000);
    let kept = Arc::new(Kept(Mutex::new(vec![0; SIZE])));
    let stats = in_time(builder.object().expect("an object").read_to(kept.clone()))
        .await
        .expect(what);
    assert_eq!(stats.delivered, SIZE as u64, "{what}");
    assert_eq!(
        PATTERN.check(0, &kept.0.lock().expect("not poisoned")),
        Ok(()),
        "{what}"
    );

    let object = builder.object().expect(what);
    let mut ranges = object.read_ranges(some_ranges()).expect(what);
    let mut count = 0;
    while let Some((index, buffer)) = in_time(ranges.next()).await.expect(what) {
        assert_eq!(
            PATTERN.check(some_ranges()[index].0.start, &buffer),
            Ok(()),
            "{what}"
        );
        count += 1;
    }
    assert_eq!(count, 5, "{what}");

    let blocking = tokio::task::spawn_blocking(move || {
        let kept = Arc::new(Kept(Mutex::new(vec![0; SIZE])));
        let half = SIZE as u64 / 2;
        let object = builder.blocking()?;
        let stats = object.read_extents_to(&[0..half, half..SIZE as u64], kept.clone())?;
        assert_eq!(stats.delivered, SIZE as u64);
        assert_eq!(PATTERN.check(0, &kept.0.lock().expect("not poisoned")), Ok(()));
        let mut buffers = some_ranges();
        let mut ranges: Vec<_> = buffers
            .iter_mut()
            .map(|(range, buffer)| (range.clone(), buffer.as_mut_slice()))
            .collect();
        let mut count = 0;
        object.read_ranges(&mut ranges, |_, _| count += 1)?;
        Ok((count, buffers))
    });
    let read: Result<_, Error> = in_time(blocking).await.expect("no panic");
    let (count, buffers) = read.expect(what);
    assert_eq!(count, 5, "{what}");
    for (range, buffer) in buffers {
        assert_eq!(PATTERN.check(range.start, &buffer), Ok(()), "{what}");
    }
}

/// Reads the object in every way, and its size.
async fn reads(what: &str, builder: Builder) {
    let builder = builder.chunk_size(64 << 10);
    let mut reader = in_time(open(&builder)).await.expect(what);
    assert_eq!(reader.total(), Some(SIZE as u64), "{what}");
    let mut at = 0;
    while let Some(lease) = in_time(reader.next()).await.expect(what) {
        assert_eq!(lease.offset(), at, "{what}");
        assert_eq!(PATTERN.check(at, &lease), Ok(()), "{what}");
        at += lease.len() as u64;
    }
    assert_eq!(at, SIZE as u64, "{what}");
    let info = in_time(builder.object().expect("an object").stat())
        .await
        .expect(what);
    assert_eq!(info.size, Some(SIZE as u64), "{what}");
    places(what, builder.clone(), info).await;

    let blocking = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        builder
            .blocking()
            .and_then(|object| object.reader())
            .and_then(|mut reader| reader.write_to(&mut bytes))
            .map(|_| {
                (
                    bytes,
                    builder
                        .blocking()
                        .expect("an object")
                        .stat()
                        .map(|info| info.size),
                )
            })
    });
    let joined = tokio::task::spawn_blocking(|| blocking.join().expect("no panic"));
    let (bytes, size) = in_time(joined).await.expect("no panic").expect(what);
    assert_eq!((bytes.len(), PATTERN.check(0, &bytes)), (SIZE, Ok(())), "{what}");
    assert_eq!(size.expect(what), Some(SIZE as u64), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_enough_on_every_transport() {
    let content = PATTERN.bytes(0, SIZE);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a name");
    std::fs::write(&path, &content).expect("a file");
    reads("path", pget::builder(path.to_str().expect("text"))).await;
    reads(
        "file",
        pget::builder(&format!("file://{}/a%20name", folder.path().display())),
    )
    .await;

    let cluster = Cluster::start(ClusterOptions::default()).await;
    cluster.put("bucket", "o", aistore::Object::bytes(content.clone()));
    let builder = pget::builder("ais://bucket/o").property("ais.endpoint", cluster.endpoint());
    reads("aistore", builder).await;

    let authority = Authority::new().expect("an authority");
    let tls = authority
        .leaf(&["localhost"], Validity::Now)
        .expect("a certificate");
    let options = NginxOptions {
        tls: Some(tls),
        ..NginxOptions::default()
    };
    if let Some(nginx) = require(Nginx::start(&options)) {
        nginx.put("o", &content).expect("an object");
        reads("http", pget::builder(&nginx.url("/o"))).await;
        let url = nginx.https_url("/o").expect("it has TLS");
        let refused = in_time(open(&pget::builder(&url).retries(0))).await;
        assert!(
            refused.is_err(),
            "a server with an unknown authority must be refused"
        );
        let mut client = pget_http::ClientOptions::default();
        client.tls.extra_roots = vec![authority.pem().into_bytes()];
        let client = pget_http::Client::new(&client).expect("a client");
        let mut reader = in_time(open(&pget::builder(&url).client(client)))
            .await
            .expect("trusted");
        let mut bytes = Vec::new();
        in_time(reader.copy_to(&mut bytes)).await.expect("all of it");
        assert_eq!((bytes.len(), PATTERN.check(0, &bytes)), (SIZE, Ok(())));
    }
    if let Some(python) = require(PythonServer::start()) {
        python.put("o", &content).expect("an object");
        reads("a server that ignores ranges", pget::builder(&python.url("/o"))).await;
    }
    if let Some(server) = require(Versitygw::start(VersitygwOptions::default())) {
        server.endpoint().put("o", &content).expect("an object");
        reads("versitygw", on_s3(server.endpoint(), "o")).await;
    }
    if let Some(server) = require(Gofakes3::start()) {
        server.endpoint().put("o", &content).expect("an object");
        reads("gofakes3", on_s3(server.endpoint(), "o")).await;
    }
}

#[tokio::test]
async fn the_short_forms_work() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, 1000)));
    let mut reader = in_time(pget::open(&url)).await.expect("a reader");
    let lease = in_time(reader.next()).await.expect("bytes").expect("not the end");
    assert_eq!(PATTERN.check(0, &lease), Ok(()));
    let (read, stated) = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pget::blocking::open(&url).map(|mut reader| reader.read_to_end(&mut bytes).ok());
        (read, pget::blocking::stat(&url))
    })
    .join()
    .expect("no panic");
    assert_eq!(read.expect("a reader"), Some(1000));
    assert_eq!(stated.expect("an answer").size, Some(1000));
    for (address, kind) in [
        ("ftp://host/x", ErrorKind::InvalidArgument),
        ("/no/such/file", ErrorKind::NotFound),
        (server.url("/missing").as_str(), ErrorKind::NotFound),
    ] {
        assert_eq!(
            in_time(pget::open(address)).await.expect_err(address).kind(),
            kind,
            "{address}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_option_arrives() {
    let server = Hostile::start().expect("a server");
    let slow = Fault::Delay(Duration::from_millis(20));
    let url = server.route(
        "/o",
        Route::new(Object::new(7, 1 << 20)).fault(When::Always, slow),
    );
    let seen = Arc::new(AtomicU64::new(0));
    let last = Arc::clone(&seen);
    let builder = pget::builder(&url)
        .chunk_size(10_000)
        .concurrency(3)
        .window(5)
        .offset(5_000)
        .length(200_000)
        .header("X-Asked-By", "a test")
        .progress(move |progress| last.store(progress.stats.delivered, Ordering::Relaxed));
    let mut reader = in_time(open(&builder)).await.expect("a reader");
    // The test consumes nothing, so at most the window is requested.
    let wanted = in_time(server.wait_until(|server| server.requests("/o").len() == 5));
    wanted.await;
    let mut bytes = Vec::new();
    in_time(reader.copy_to(&mut bytes)).await.expect("all of it");
    assert_eq!((bytes.len(), PATTERN.check(5_000, &bytes)), (200_000, Ok(())));
    assert_eq!(seen.load(Ordering::Relaxed), 200_000);
    let requests = server.requests("/o");
    assert_eq!(requests.len(), 21);
    for request in &requests {
        let Some(Asked::From {
            start,
            end: Some(end),
        }) = request.asked
        else {
            panic!("no range: {request:?}");
        };
        assert!((5_000..205_000).contains(&start) && end <= 205_000 && end - start <= 10_000);
        assert_eq!(request.header("x-asked-by"), Some("a test"));
    }
    assert!(server.load().peak_in_flight <= 3, "{:?}", server.load());
}

#[tokio::test(flavor = "multi_thread")]
async fn patience_and_memory_arrive() {
    let server = Hostile::start().expect("a server");
    let silent = Route::new(Object::new(7, 1 << 20)).fault(When::HeadToo, Fault::StallBeforeHead);
    let silent = server.route("/silent", silent);
    let began = Instant::now();
    let builder = pget::builder(&silent)
        .retries(1)
        .first_byte_timeout(Duration::from_millis(100));
    let error = in_time(open(&builder)).await.expect_err("no answer");
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Timeout, 2));
    assert_eq!(
        in_time(builder.object().expect("an object").stat())
            .await
            .expect_err("no answer")
            .kind(),
        ErrorKind::Timeout
    );
    let stall = Route::new(Object::new(7, 1 << 20)).fault(When::Always, Fault::Stall { after: 10 });
    let stall = server.route("/stall", stall);
    let builder = pget::builder(&stall)
        .retries(0)
        .stall_timeout(Duration::from_millis(100));
    let mut reader = in_time(open(&builder)).await.expect("the head comes");
    let mut bytes = Vec::new();
    let error = in_time(reader.copy_to(&mut bytes))
        .await
        .expect_err("no more comes");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(PATTERN.check(0, &bytes), Ok(()));
    assert!(began.elapsed() < Duration::from_secs(5));

    let url = server.route("/o", Route::new(Object::new(7, 16 << 20)));
    let builder = pget::builder(&url)
        .chunk_size(256 << 10)
        .concurrency(16)
        .memory_limit(1 << 20);
    let mut reader = in_time(open(&builder)).await.expect("a reader");
    let read = in_time(reader.copy_to(&mut tokio::io::sink())).await;
    assert_eq!(read.expect("all of it"), 16 << 20);
    // The bound is the limit plus the chunk at the cursor, which never waits.
    assert!(
        reader.stats().peak_buffered <= (1 << 20) + (256 << 10),
        "{:?}",
        reader.stats()
    );
}

/// Runs the test `name` of this file in a process of its own.
///
/// Of the variables that the library reads, only `variables` are set.
fn in_child(name: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(variables.iter().copied())
        .output()
        .expect("a child");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");
    assert!(told.contains("1 passed"), "no such test: {name}");
    told
}

/// Runs inside [`in_child`]: reads `TEST_ADDRESS` with `TEST_PROPERTIES`, and prints the seed of
/// its pattern.
#[test]
#[ignore = "run by other tests in a process of its own"]
fn child_reads() {
    let mut builder = pget::builder(&std::env::var("TEST_ADDRESS").expect("an address")).retries(0);
    for property in std::env::var("TEST_PROPERTIES")
        .iter()
        .flat_map(|all| all.split(' '))
    {
        let (key, value) = property.split_once('=').expect("a property");
        builder = builder.property(key, value);
    }
    let mut bytes = Vec::new();
    match builder.blocking().and_then(|object| object.reader()) {
        Ok(mut reader) => {
            reader.read_to_end(&mut bytes).expect("all of it");
            println!("seed {}", u8::from(Pattern::new(1).check(0, &bytes).is_ok()));
        }
        Err(error) => println!("failed: {:?}", error.kind()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_go_before_the_environment() {
    // There are two servers of each kind with different bytes under the same name. The environment
    // names server 1.
    let clusters = [
        Cluster::start(ClusterOptions::default()).await,
        Cluster::start(ClusterOptions::default()).await,
    ];
    clusters[0].put("bucket", "o", aistore::Object::pattern(1, 1000));
    clusters[1].put("bucket", "o", aistore::Object::pattern(2, 1000));
    let [environment, property] = clusters.each_ref().map(Cluster::endpoint);
    let property = format!("ais.endpoint={property}");
    let ais = [("TEST_ADDRESS", "ais://bucket/o"), ("AIS_ENDPOINT", &environment)];
    let with = [&ais[..], &[("TEST_PROPERTIES", &property)]].concat();
    tokio::task::block_in_place(|| {
        assert!(in_child("child_reads", &ais).contains("seed 1"));
        assert!(in_child("child_reads", &with).contains("seed 0"));
        let none = [("TEST_ADDRESS", "ais://bucket/o")];
        assert!(in_child("child_reads", &none).contains("InvalidArgument"));
    });
    drop(clusters);

    let (Some(first), Some(second)) = (
        require(Versitygw::start(VersitygwOptions::default())),
        require(Versitygw::start(VersitygwOptions::default())),
    ) else {
        return;
    };
    let [environment, other] = [&first, &second].map(Versitygw::endpoint);
    environment
        .put("o", &Pattern::new(1).bytes(0, 1000))
        .expect("an object");
    other
        .put("o", &Pattern::new(2).bytes(0, 1000))
        .expect("an object");
    let endpoint = environment.url();
    let s3 = [
        ("TEST_ADDRESS", "s3://bucket/o"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", environment.region()),
        ("AWS_ACCESS_KEY_ID", environment.access_key()),
        ("AWS_SECRET_ACCESS_KEY", environment.secret_key()),
    ];
    let property = format!("aws.endpoint={}", other.url());
    let with = [&s3[..], &[("TEST_PROPERTIES", &property)]].concat();
    let wrong = format!(
        "aws.access_key_id={} aws.secret_access_key=wrong",
        environment.access_key()
    );
    let wrong = [&s3[..], &[("TEST_PROPERTIES", &wrong)]].concat();
    tokio::task::block_in_place(|| {
        assert!(in_child("child_reads", &s3).contains("seed 1"));
        assert!(in_child("child_reads", &with).contains("seed 0"));
        assert!(in_child("child_reads", &wrong).contains("PermissionDenied"));
    });
}

#[test]
fn the_system_s_authorities_may_be_replaced() {
    let authority = Authority::new().expect("an authority");
    let options = NginxOptions {
        tls: Some(
            authority
                .leaf(&["localhost"], Validity::Now)
                .expect("a certificate"),
        ),
        ..NginxOptions::default()
    };
    let Some(nginx) = require(Nginx::start(&options)) else {
        return;
    };
    nginx.put("o", Pattern::new(1).bytes(0, 1000)).expect("an object");
    let folder = tempfile::tempdir().expect("a folder");
    let trusted = folder.path().join("ca.pem");
    std::fs::write(&trusted, authority.pem()).expect("a file");
    let url = nginx.https_url("/o").expect("it has TLS");
    let variables = [
        ("TEST_ADDRESS", url.as_str()),
        ("SSL_CERT_FILE", trusted.to_str().expect("text")),
    ];
    assert!(in_child("child_reads", &variables).contains("seed 1"));
    assert!(in_child("child_reads", &variables[..1]).contains("failed"));
}

#[test]
fn a_file_appears_when_it_is_complete() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, SIZE as u64)));
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("x");
    let stats = pget::builder(&url)
        .chunk_size(64 << 10)
        .blocking()
        .expect("an object")
        .get_file(&target)
        .expect("a file");
    assert_eq!(stats.delivered, SIZE as u64);
    let bytes = std::fs::read(&target).expect("a file");
    assert_eq!((bytes.len(), PATTERN.check(0, &bytes)), (SIZE, Ok(())));
    let refused = pget::builder(&url)
        .blocking()
        .expect("an object")
        .get_file(Path::new("/no/such/folder/x"));
    assert_eq!(refused.expect_err("no folder").kind(), ErrorKind::Destination);
}
