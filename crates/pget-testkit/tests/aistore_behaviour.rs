//! The stand-in's behaviour beyond single recorded answers.
//!
//! Redirects, locks, cold objects, moves, tokens, and the stand-in's faults.

mod raw_http;

use std::net::SocketAddr;
use std::time::Duration;

use pget_testkit::aistore::{
    Bucket, BucketOptions, Cluster, ClusterOptions, Fault, Node, Object, Pull, RateLimit, Rule,
};
use raw_http::{Reply, ask};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);
const O: &str = "/v1/objects/b/o?provider=ais";
const COLD: &str = "/v1/objects/b/o?provider=aws";

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work).await.expect("within the deadline")
}

fn proxy(cluster: &Cluster) -> SocketAddr {
    cluster.addresses(Node::Proxy)[0]
}

/// Returns the address and the target to which the proxy redirects a GET.
async fn resolve(cluster: &Cluster, target: &str) -> (SocketAddr, String) {
    let reply = within(ask(proxy(cluster), "GET", target, &[], b"")).await;
    assert_eq!(reply.status, Some(301));
    let location = reply.header("location").expect("a Location");
    let (address, target) = location
        .trim_start_matches("http://")
        .split_once('/')
        .expect("a path");
    (address.parse().expect("an address"), format!("/{target}"))
}

/// Sends a ranged GET, and follows the redirect.
async fn ranged(cluster: &Cluster, target: &str, range: &str) -> Reply {
    let (address, target) = resolve(cluster, target).await;
    within(ask(address, "GET", &target, &[("Range", range)], b"")).await
}

async fn with_object(options: ClusterOptions, object: Object) -> Cluster {
    let cluster = Cluster::start(options).await;
    cluster.put("b", "o", object);
    cluster
}

#[tokio::test]
async fn a_moved_object_is_missing_at_its_old_target_only() {
    let cluster = with_object(ClusterOptions::default(), Object::pattern(1, 100)).await;
    let (old, target) = resolve(&cluster, O).await;
    assert!(cluster.move_object("b", "o"));
    let reply = within(ask(old, "GET", &target, &[], b"")).await;
    assert_eq!(reply.status, Some(404));
    assert!(String::from_utf8_lossy(&reply.body).contains("ErrNotFound"));
    let (new, target) = resolve(&cluster, O).await;
    assert_ne!(new, old);
    assert_eq!(within(ask(new, "GET", &target, &[], b"")).await.status, Some(200));
}

#[tokio::test]
async fn versions_start_again_after_a_delete() {
    let cluster = with_object(ClusterOptions::default(), Object::pattern(1, 100)).await;
    cluster.put("b", "o", Object::pattern(2, 100));
    let second = ranged(&cluster, O, "bytes=0-9").await;
    assert_eq!(second.header("ais-version"), Some("2"));
    assert!(cluster.delete("b", "o"));
    cluster.put("b", "o", Object::pattern(3, 100));
    let again = ranged(&cluster, O, "bytes=0-9").await;
    assert_eq!(again.header("ais-version"), Some("1"));
    assert_ne!(
        again.header("ais-checksum-value"),
        second.header("ais-checksum-value")
    );
    assert_eq!(again.body, Object::pattern(3, 100).read(0, 10));
}

#[tokio::test]
async fn an_answer_under_way_keeps_its_revision_and_a_put_waits_for_it() {
    let size = 64 << 20;
    let cluster = with_object(ClusterOptions::default(), Object::pattern(1, size)).await;
    let (address, target) = resolve(&cluster, O).await;
    let mut reader = TcpStream::connect(address).await.expect("connect");
    let request = format!("GET {target} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    reader.write_all(request.as_bytes()).await.expect("send");
    within(cluster.until(|counts| counts.body_bytes > 0)).await;
    let moved = within(ask(proxy(&cluster), "PUT", O, &[], b"new")).await;
    let location = moved.header("location").expect("a Location").to_owned();
    let (_, put_target) = location
        .trim_start_matches("http://")
        .split_once('/')
        .expect("a path");
    let put_target = format!("/{put_target}");
    let put = tokio::spawn(async move { ask(address, "PUT", &put_target, &[], b"new").await });
    within(cluster.until(|counts| counts.at_targets("PUT") == 1)).await;
    let mut all = Vec::new();
    within(reader.read_to_end(&mut all)).await.expect("read");
    let start = all.len() - usize::try_from(size).expect("in memory");
    assert_eq!(Object::pattern(1, size).check(0, &all[start..]), Ok(()));
    assert_eq!(within(put).await.expect("joined").status, Some(200));
    assert_eq!(ranged(&cluster, O, "bytes=0-9").await.body, b"new");
}

#[tokio::test]
async fn an_empty_range_drops_the_connection_and_leaves_the_object_locked() {
    let cluster = with_object(ClusterOptions::default(), Object::pattern(1, 100)).await;
    assert_eq!(ranged(&cluster, O, "bytes=").await.status, None);
    assert_eq!(ranged(&cluster, O, "bytes=0-9").await.status, Some(206));
    let (address, target) = resolve(&cluster, O).await;
    let put = tokio::spawn(async move { ask(address, "PUT", &target, &[], b"new").await });
    within(cluster.until(|counts| counts.at_targets("PUT") == 1)).await;
    // A test cannot show that the answer never ends. It shows that the answer has not ended while
    // other requests were served.
    for _ in 0..20 {
        assert_eq!(
            ranged(&cluster, O, "bytes=0-9").await.header("ais-version"),
            Some("1")
        );
    }
    assert!(!put.is_finished());
}

#[tokio::test]
async fn ranges_of_a_cold_object_wait_for_the_whole_pull() {
    let bucket = Bucket::new("aws", "", "b");
    let cluster = Cluster::start(ClusterOptions::default()).await;
    cluster.put(&bucket, "o", Object::pattern(1, 100).cold(Pull::WhenReleased));
    assert_eq!(cluster.is_present(&bucket, "o"), Some(false));
    let (address, target) = resolve(&cluster, COLD).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let target = target.clone();
        waiting.push(tokio::spawn(async move {
            ask(address, "GET", &target, &[("Range", "bytes=5-9")], b"").await
        }));
    }
    within(cluster.until(|counts| counts.at_targets("GET") == 3)).await;
    assert_eq!(cluster.counts().ranges, 0);
    cluster.release_pull(&bucket, "o");
    for reply in waiting {
        let reply = within(reply).await.expect("joined");
        assert_eq!(
            (reply.status, reply.body),
            (Some(206), Object::pattern(1, 100).read(5, 5))
        );
    }
    assert_eq!(cluster.is_present(&bucket, "o"), Some(true));
}

#[tokio::test]
async fn a_cold_object_streams_at_once_when_asked_to() {
    let bucket = Bucket::new("aws", "", "b");
    let cluster = Cluster::start(ClusterOptions::default()).await;
    cluster.put(&bucket, "o", Object::pattern(1, 100).cold(Pull::WhenReleased));
    let (address, target) = resolve(&cluster, COLD).await;
    let blob = [("Ais-Blob-Download", "true")];
    let reply = within(ask(address, "GET", &target, &blob, b"")).await;
    assert_eq!((reply.status, reply.body.len()), (Some(200), 100));
    assert_eq!(ranged(&cluster, COLD, "bytes=0-9").await.status, Some(206));
}

#[tokio::test]
async fn who_waits_too_long_for_another_pull_gets_a_conflict() {
    let options = ClusterOptions {
        cold_get_conflict: Duration::from_millis(10),
        ..ClusterOptions::default()
    };
    let bucket = Bucket::new("aws", "", "b");
    let cluster = Cluster::start(options).await;
    cluster.put(&bucket, "o", Object::pattern(1, 100).cold(Pull::WhenReleased));
    let (address, target) = resolve(&cluster, COLD).await;
    let first = tokio::spawn({
        let target = target.clone();
        async move { ask(address, "GET", &target, &[], b"").await }
    });
    within(cluster.until(|counts| counts.at_targets("GET") == 1)).await;
    assert_eq!(
        within(ask(address, "GET", &target, &[], b"")).await.status,
        Some(409)
    );
    cluster.release_pull(&bucket, "o");
    assert_eq!(within(first).await.expect("joined").status, Some(200));
}

#[tokio::test]
async fn a_token_is_for_the_proxy_only() {
    let options = ClusterOptions {
        token: Some("secret".into()),
        ..ClusterOptions::default()
    };
    let cluster = with_object(options, Object::pattern(1, 100)).await;
    cluster.deny_token("reader");
    let mut statuses = Vec::new();
    for token in ["Bearer secret", "Bearer old", "Bearer reader", "Basic secret"] {
        let reply = within(ask(proxy(&cluster), "GET", O, &[("Authorization", token)], b"")).await;
        statuses.push(reply.status);
        if let Some(location) = reply.header("location") {
            let (address, target) = location
                .trim_start_matches("http://")
                .split_once('/')
                .expect("a path");
            let address = address.parse().expect("an address");
            let target = format!("/{target}");
            assert_eq!(
                within(ask(address, "GET", &target, &[], b"")).await.status,
                Some(200)
            );
            assert_eq!(cluster.counts().tokens_at_targets, 0);
            within(ask(address, "GET", &target, &[("Authorization", token)], b"")).await;
            assert_eq!(within(ask(address, "GET", O, &[], b"")).await.status, Some(403));
        }
    }
    assert_eq!(statuses, [Some(301), Some(401), Some(403), Some(401)]);
    assert_eq!(cluster.counts().tokens_at_targets, 1);
    cluster.set_token(Some("old"));
    let renewed = within(ask(
        proxy(&cluster),
        "HEAD",
        O,
        &[("Authorization", "Bearer old")],
        b"",
    ))
    .await;
    assert_eq!(renewed.status, Some(307));
}

#[tokio::test]
async fn a_signed_redirect_serves_many_requests_for_its_object() {
    let options = ClusterOptions {
        signing: true,
        ..ClusterOptions::default()
    };
    let cluster = with_object(options, Object::pattern(1, 100)).await;
    let (address, target) = resolve(&cluster, O).await;
    for range in ["bytes=0-9", "bytes=50-"] {
        let reply = within(ask(address, "GET", &target, &[("Range", range)], b"")).await;
        assert_eq!(reply.status, Some(206));
    }
    let other = target.replace("/b/o?", "/b/p?");
    assert_eq!(
        within(ask(address, "GET", &other, &[], b"")).await.status,
        Some(401)
    );
    assert_eq!(within(ask(address, "GET", O, &[], b"")).await.status, Some(403));
}

#[tokio::test]
async fn interfaces_are_handed_out_in_turn() {
    let options = ClusterOptions {
        interfaces: 3,
        ..ClusterOptions::default()
    };
    let cluster = with_object(options, Object::pattern(1, 100)).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let (address, target) = resolve(&cluster, O).await;
        seen.insert(address.ip().to_string());
        assert_eq!(
            within(ask(address, "GET", &target, &[], b"")).await.status,
            Some(200)
        );
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    );
}

#[tokio::test]
async fn queries_may_be_encoded_anew() {
    let options = ClusterOptions {
        reencode_queries: true,
        ..ClusterOptions::default()
    };
    let cluster = with_object(options, Object::pattern(1, 100)).await;
    let (_, target) = resolve(&cluster, "/v1/objects/b/o?provider=ais&latest-ver=true&a=x%2Cy").await;
    assert!(
        target.starts_with("/v1/objects/b/o?a=x%2Cy&latest-ver=true&pid=proxy0-8080&provider=ais&utm="),
        "{target}"
    );
}

#[tokio::test]
async fn the_rate_limit_is_of_the_proxy() {
    let options = ClusterOptions {
        rate_limit: Some(RateLimit {
            burst: 2,
            per_second: 0,
        }),
        ..ClusterOptions::default()
    };
    let cluster = with_object(options, Object::pattern(1, 100)).await;
    let (address, target) = resolve(&cluster, O).await;
    resolve(&cluster, O).await;
    let refused = within(ask(proxy(&cluster), "GET", O, &[], b"")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (Some(429), None));
    assert_eq!(
        within(ask(address, "GET", &target, &[], b"")).await.status,
        Some(200)
    );
    assert_eq!(cluster.counts().throttled, 1);
}

#[tokio::test]
async fn old_servers_answer_a_range_with_200() {
    let options = ClusterOptions {
        before_4_1: true,
        ..ClusterOptions::default()
    };
    let cluster = with_object(options, Object::pattern(1, 100)).await;
    let reply = ranged(&cluster, O, "bytes=5-9").await;
    assert_eq!(
        (reply.status, reply.header("content-range")),
        (Some(200), Some("bytes 5-9/100"))
    );
    assert_eq!(reply.body.len(), 5);
}

#[tokio::test]
async fn a_stopped_target_refuses_until_it_is_back() {
    let cluster = with_object(ClusterOptions::default(), Object::pattern(1, 100)).await;
    let (address, target) = resolve(&cluster, O).await;
    let node = Node::Target(cluster.target_of("b", "o"));
    within(cluster.stop(node)).await;
    assert!(TcpStream::connect(address).await.is_err());
    cluster.restart(node).await.expect("the same ports");
    assert_eq!(
        within(ask(address, "GET", &target, &[], b"")).await.status,
        Some(200)
    );
}

#[tokio::test]
async fn starting_nodes_and_idle_connections() {
    let options = ClusterOptions {
        idle_close: Duration::from_millis(50),
        ..ClusterOptions::default()
    };
    let cluster = with_object(options, Object::pattern(1, 100)).await;
    cluster.set_starting(true);
    let reply = within(ask(proxy(&cluster), "GET", O, &[], b"")).await;
    assert_eq!((reply.status, reply.body.len()), (Some(503), 0));
    cluster.set_starting(false);
    let mut idle = TcpStream::connect(proxy(&cluster)).await.expect("connect");
    assert_eq!(within(idle.read(&mut [0; 1])).await.expect("a clean end"), 0);
    within(cluster.until(|counts| counts.all_open() == 0)).await;
}

#[tokio::test]
async fn dropping_the_cluster_ends_its_connections() {
    let huge = Object::repeated(1, 1 << 40).with_stated_checksum("xxhash2", "0123456789abcdef");
    let cluster = with_object(ClusterOptions::default(), huge).await;
    let (address, target) = resolve(&cluster, O).await;
    cluster.inject(Rule::new(Fault::Stall { after: 10 }));
    let stalled = tokio::spawn(async move { ask(address, "GET", &target, &[], b"").await });
    within(cluster.until(|counts| counts.fault("stall") == 1)).await;
    drop(cluster);
    assert_eq!(within(stalled).await.expect("joined").body.len(), 10);
}

#[tokio::test]
async fn faults_happen_as_often_as_they_are_counted() {
    let object = Object::pattern(1, 1 << 20);
    let cluster = with_object(ClusterOptions::default(), object.clone()).await;
    let whole = "bytes=0-";

    cluster.inject(Rule::new(Fault::Status(409)).at_targets().skip(1).times(2));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(ranged(&cluster, O, whole).await.status);
    }
    assert_eq!(statuses, [Some(206), Some(409), Some(409), Some(206)]);
    assert_eq!(cluster.counts().fault("status"), 2);

    cluster.inject(Rule::new(Fault::Cut { after: 1000 }));
    assert_eq!(
        ranged(&cluster, O, "bytes=0-99").await.body.len(),
        100,
        "too short to be cut"
    );
    assert_eq!(cluster.counts().fault("cut"), 0);
    assert_eq!(ranged(&cluster, O, whole).await.body.len(), 1000);

    cluster.inject(Rule::new(Fault::Reset { after: 1000 }));
    assert!(ranged(&cluster, O, whole).await.body.len() <= 1000);

    cluster.inject(Rule::new(Fault::Flip { offset: 700_001 }));
    assert_eq!(ranged(&cluster, O, "bytes=0-9").await.body.len(), 10);
    assert_eq!(
        object.check(0, &ranged(&cluster, O, whole).await.body),
        Err(700_001)
    );

    cluster.inject(Rule::new(Fault::Hangup).at_targets().range_from(5));
    assert_eq!(ranged(&cluster, O, "bytes=6-9").await.status, Some(206));
    assert_eq!(ranged(&cluster, O, "bytes=5-9").await.status, None);

    cluster.inject(Rule::new(Fault::IgnoreRange).at_targets());
    assert_eq!(ranged(&cluster, O, "bytes=5-9").await.status, Some(200));

    cluster.inject(
        Rule::new(Fault::Replace(Object::pattern(2, 1 << 20)))
            .at_targets()
            .object("o"),
    );
    assert_eq!(
        ranged(&cluster, O, "bytes=5-9").await.header("ais-version"),
        Some("2")
    );

    cluster.inject(Rule::new(Fault::Pace { rate: 1000 }));
    assert_eq!(ranged(&cluster, O, "bytes=0-99").await.body.len(), 100);

    cluster.inject(Rule::new(Fault::Move).at_targets());
    assert_eq!(ranged(&cluster, O, "bytes=5-9").await.status, Some(404));
    cluster.inject(Rule::new(Fault::Delete).at(Node::Proxy));
    assert_eq!(ranged(&cluster, O, "bytes=5-9").await.status, Some(404));

    let counts = cluster.counts();
    for name in [
        "cut",
        "reset",
        "flip",
        "hangup",
        "ignore_range",
        "replace",
        "pace",
        "move",
        "delete",
    ] {
        assert_eq!(counts.fault(name), 1, "{name}");
    }
}

#[tokio::test]
async fn checksums_of_ranges_and_namespaces() {
    let bucket = Bucket::new("ais", "@uuid#ns", "b");
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let options = BucketOptions::default().checksum("crc32c").read_range_checksum();
    assert!(cluster.create_bucket(&bucket, options));
    cluster.put(&bucket, "o", Object::bytes("123456789xyz"));
    let target = "/v1/objects/b/o?provider=ais&namespace=%40uuid%23ns";
    let reply = ranged(&cluster, target, "bytes=0-8").await;
    // The value is the check value of CRC-32C.
    assert_eq!(reply.header("ais-checksum-value"), Some("e3069283"));
    assert_eq!(
        within(ask(proxy(&cluster), "GET", O, &[], b"")).await.status,
        Some(404)
    );
}
