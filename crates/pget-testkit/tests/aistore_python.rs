//! The official Python client (`aistore` 2.0.0) reads from the stand-in as it does from a cluster.
//!
//! `AIS_ENDPOINT` names a real cluster to read from instead. The test stores the objects of
//! `OBJECTS` there over HTTP, in `ais://python`.

mod raw_http;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use pget_testkit::aistore::{Bucket, BucketOptions, Cluster, ClusterOptions, Node, Object};
use pget_testkit::content::Pattern;
use tokio::process::Command;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(120);
/// Time limit of the client's installation over a network.
const INSTALL: Duration = Duration::from_secs(300);
const BUCKET: &str = "python";
const OBJECTS: [(&str, u64); 4] = [
    ("empty", 0),
    ("small", 100),
    ("dir/a b#c", 4097),
    ("large", 40 << 20),
];

/// Returns the interpreter that has the client.
///
/// Returns `None` and prints a message if the client cannot be installed.
async fn python() -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/python-env.sh");
    let output = timeout(INSTALL, run(Command::new(script)))
        .await
        .expect("installed in time");
    if output.status.success() {
        return Some(
            String::from_utf8(output.stdout)
                .expect("a path")
                .trim()
                .to_owned(),
        );
    }
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(std::env::var_os("CI").is_none(), "no Python client: {why}");
    eprintln!("skipped: no Python client: {why}");
    None
}

async fn run(mut command: Command) -> Output {
    command
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("the program starts")
}

/// Returns the client's output: one line for each object.
async fn client(python: &str, endpoint: &str, mode: &str) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aistore_client.py");
    let mut command = Command::new(python);
    command
        .arg(script)
        .args([endpoint, BUCKET, mode])
        .args(OBJECTS.map(|(name, _)| name));
    let output = timeout(DEADLINE, run(command))
        .await
        .expect("the client ends in time");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
    out.lines().map(str::to_owned).collect()
}

fn expected() -> Vec<String> {
    let line = |(name, size)| format!("{name} {size} {}", Pattern::new(11).sha256(size));
    OBJECTS.map(line).into()
}

/// Returns a cluster with the objects: the stand-in, or the real one that the environment names.
async fn cluster(options: ClusterOptions) -> (Option<Cluster>, String) {
    if let Some(endpoint) = std::env::var("AIS_ENDPOINT")
        .ok()
        .filter(|endpoint| !endpoint.is_empty())
    {
        store(&endpoint).await;
        return (None, endpoint);
    }
    let cluster = Cluster::start(options).await;
    cluster.create_bucket(Bucket::ais(BUCKET), BucketOptions::default());
    for (name, size) in OBJECTS {
        cluster.put(BUCKET, name, Object::pattern(11, size));
    }
    let endpoint = cluster.endpoint();
    (Some(cluster), endpoint)
}

async fn store(endpoint: &str) {
    let proxy = endpoint
        .trim_start_matches("http://")
        .parse()
        .expect("an address");
    let json = [("Content-Type", "application/json")];
    let bucket = format!("/v1/buckets/{BUCKET}?provider=ais");
    // The answer is 409 if the bucket exists.
    raw_http::ask(proxy, "POST", &bucket, &json, br#"{"action":"create-bck"}"#).await;
    for (name, size) in OBJECTS {
        let name = name.replace(' ', "%20").replace('#', "%23");
        let target = format!("/v1/objects/{BUCKET}/{name}?provider=ais");
        let data = Pattern::new(11).bytes(0, usize::try_from(size).expect("in memory"));
        let moved = raw_http::ask(proxy, "PUT", &target, &[("Content-Length", "0")], b"").await;
        let location = moved.header("location").expect("a redirect");
        let (address, target) = location
            .trim_start_matches("http://")
            .split_once('/')
            .expect("a path");
        let address = address.parse().expect("an address");
        let reply = raw_http::ask(address, "PUT", &format!("/{target}"), &[], &data).await;
        assert_eq!(reply.status, Some(200), "put {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_sequentially() {
    let Some(python) = python().await else { return };
    let (cluster, endpoint) = cluster(ClusterOptions::default()).await;
    assert_eq!(client(&python, &endpoint, "get").await, expected());
    if let Some(cluster) = cluster {
        let counts = cluster.counts();
        assert_eq!(
            (counts.at_proxy("GET"), counts.redirects, counts.ranges),
            (4, 4, 0)
        );
        assert_eq!(
            counts.body_bytes,
            OBJECTS.iter().map(|(_, size)| size).sum::<u64>()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_with_workers() {
    let Some(python) = python().await else { return };
    let (cluster, endpoint) = cluster(ClusterOptions::default()).await;
    let mut expected = expected();
    // The client refuses to read an empty object in parallel.
    expected[0] = "empty error ValueError".into();
    assert_eq!(client(&python, &endpoint, "4").await, expected);
    if let Some(cluster) = cluster {
        let counts = cluster.counts();
        // The client reads 40 MiB in ranges of 8 MiB, and two small objects in one range each. Each
        // range costs a redirect.
        assert_eq!((counts.ranges, counts.at_proxy("GET")), (7, 7));
        assert_eq!(counts.answers.get(&(Node::Proxy, 301)), Some(&7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_a_protected_cluster() {
    let Some(python) = python().await else { return };
    if std::env::var_os("AIS_ENDPOINT").is_some() {
        eprintln!("skipped: these settings are the stand-in's");
        return;
    }
    let options = ClusterOptions {
        signing: true,
        reencode_queries: true,
        interfaces: 3,
        ..ClusterOptions::default()
    };
    let (cluster, endpoint) = cluster(options).await;
    assert_eq!(client(&python, &endpoint, "get").await, expected());
    let counts = cluster.expect("the stand-in").counts();
    assert_eq!((counts.redirects, counts.tokens_at_targets), (4, 0));
}
