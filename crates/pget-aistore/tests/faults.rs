//! Errors, and failures on the way.

mod support;

use std::time::Duration;

use pget_core::{ErrorKind, Options};
use pget_testkit::{
    aistore::{ClusterOptions, Fault, Node, RateLimit, Rule},
    content::Pattern,
};
use support::{BUCKET, MIB, Place, cluster, expect_content, expect_error, options, pattern, standin, within};

const SIZE: u64 = 2_000_000;

async fn place() -> Place {
    let place = standin(ClusterOptions::default()).await;
    place.fake().put(BUCKET, "o", pattern(1, SIZE));
    place
}

/// Returns options with few retries, which end soon.
fn impatient() -> Options {
    let mut few = options(100_000, 4);
    few.retries = Some(1);
    few.deadlines.first_byte = Duration::from_millis(400);
    few.deadlines.stall = Duration::from_millis(400);
    few
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_429() {
    let limit = RateLimit {
        burst: 2,
        per_second: 20,
    };
    let place = standin(ClusterOptions {
        rate_limit: Some(limit),
        ..ClusterOptions::default()
    })
    .await;
    place.fake().put(BUCKET, "o", pattern(1, SIZE));
    // The concurrency is so large that the redirects come at the same time.
    let bytes = support::read(&place.object("o"), options(50_000, 16))
        .await
        .expect("it goes slower");
    assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
    assert_eq!(bytes.len() as u64, SIZE);
    let counts = place.counts();
    assert!(counts.throttled > 0, "the limit was met");
    assert!(
        counts.redirects <= 17,
        "a redirect for each connection, and one for HEAD: {}",
        counts.redirects
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limit_429_for_ever_is_unavailable() {
    let place = place().await;
    place
        .fake()
        .inject(Rule::new(Fault::Status(429)).at(Node::Proxy).times(u64::MAX));
    let error = support::read(&place.object("o"), impatient())
        .await
        .expect_err("never let through");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("ErrRateLimitFrontend"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_503_empty_body() {
    let place = place().await;
    place.fake().set_starting(true);
    let source = place.object("o");
    let reading = tokio::spawn(async move { support::read(&source, options(100_000, 4)).await });
    within(
        place
            .fake()
            .until(|counts| counts.answers.get(&(Node::Proxy, 503)).is_some_and(|n| *n >= 2)),
    )
    .await;
    place.fake().set_starting(false);
    let bytes = within(reading)
        .await
        .expect("no panic")
        .expect("once it has started it can be read");
    assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
    place.fake().set_starting(true);
    let error = support::read(&place.object("o"), impatient())
        .await
        .expect_err("it never starts");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = within(place.object("o").head())
        .await
        .expect_err("it never starts");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gone_410() {
    let place = place().await;
    place.fake().inject(Rule::new(Fault::Status(410)).at_targets());
    let error = expect_error(&place.object("o"), ErrorKind::NotFound).await;
    assert!(error.to_string().contains("gone"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_409_is_tried_again() {
    let place = place().await;
    place.fake().inject(
        Rule::new(Fault::Status(409))
            .at_targets()
            .method("GET")
            .skip(2)
            .times(4),
    );
    expect_content(&place.object("o"), Pattern::new(1), SIZE).await;
    assert_eq!(place.counts().fault("status"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_from_json_and_hdr_error() {
    let place = cluster().await;
    place.put("errors", b"so that the bucket is there").await;
    let missing = support::unique("missing");
    let no_bucket = support::unique("no-bucket");
    for (address, code) in [
        (format!("ais://{BUCKET}/{missing}"), "ErrNotFound"),
        (format!("ais://{no_bucket}/o"), "ErrBckNotFound"),
    ] {
        let source = place.open(&address, &[]);
        let error = expect_error(&source, ErrorKind::NotFound).await;
        assert!(error.to_string().contains(code), "{error}");
        assert!(error.to_string().contains(&address), "{error}");
        let error = within(source.head()).await.expect_err("it is not there");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(code), "in Hdr-Error: {error}");
    }
}

/// The server closes idle connections. The next request notices that without a retry.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connection_closed_by_server_costs_nothing() {
    let idle_close = Duration::from_millis(100);
    let place = standin(ClusterOptions {
        idle_close,
        ..ClusterOptions::default()
    })
    .await;
    place.fake().put(BUCKET, "o", pattern(1, SIZE));
    let source = place.object("o");
    let mut once = options(100_000, 4);
    once.retries = Some(0);
    for _ in 0..3 {
        let bytes = support::read(&source, once.clone())
            .await
            .expect("not one failed attempt");
        assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
        within(place.fake().until(|counts| counts.all_open() == 0)).await;
    }
    assert!(
        place.counts().at_proxy("GET") <= 4,
        "the redirects outlive the connections"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_bodies_go_on_where_they_broke() {
    for fault in [
        Fault::Reset { after: 70_000 },
        Fault::Cut { after: 70_000 },
        Fault::Cut { after: 0 },
        Fault::Hangup,
        Fault::Status(500),
    ] {
        let (place, name) = (place().await, fault.name());
        place
            .fake()
            .inject(Rule::new(fault).at_targets().method("GET").skip(1).times(4));
        for concurrency in [1, 4] {
            let bytes = support::read(&place.object("o"), options(100_000, concurrency))
                .await
                .expect("it goes on");
            assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()), "{name}");
            assert_eq!(bytes.len() as u64, SIZE, "{name}");
        }
        assert!(place.counts().fault(name) >= 3, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_is_ended_and_read_again() {
    let place = place().await;
    place.fake().inject(
        Rule::new(Fault::Stall { after: 50_000 })
            .at_targets()
            .skip(1)
            .times(2),
    );
    let bytes = support::read(&place.object("o"), impatient())
        .await
        .expect("it goes on");
    assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
    assert_eq!(place.counts().fault("stall"), 2);
    place
        .fake()
        .inject(Rule::new(Fault::Stall { after: 0 }).at_targets().times(u64::MAX));
    let error = support::read(&place.object("o"), impatient())
        .await
        .expect_err("nothing ever comes");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

/// A target is silent, and its object has moved to the other one. The second attempt asks the
/// proxy.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_target_is_not_asked_twice() {
    let place = place().await;
    let old = place.fake().target_of(BUCKET, "o");
    let source = place.object("o");
    support::read(&source, options(100_000, 4))
        .await
        .expect("redirects are remembered");
    place.fake().move_object(BUCKET, "o");
    place
        .fake()
        .inject(Rule::new(Fault::Silence).at(Node::Target(old)).times(u64::MAX));
    let bytes = support::read(&source, impatient())
        .await
        .expect("one retry is enough");
    assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
    assert!(place.counts().fault("silence") >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_down_is_unavailable_until_it_is_back() {
    let place = place().await;
    let target = Node::Target(place.fake().target_of(BUCKET, "o"));
    within(place.fake().stop(target)).await;
    let error = support::read(&place.object("o"), impatient())
        .await
        .expect_err("there is no server");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    place.fake().restart(target).await.expect("its ports are free");
    expect_content(&place.object("o"), Pattern::new(1), SIZE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_restarts_mid_read_is_waited_for() {
    let place = place().await;
    let target = Node::Target(place.fake().target_of(BUCKET, "o"));
    let source = place.object("o");
    let mut narrow = options(100_000, 2);
    narrow.window = Some(2);
    let mut reader = support::reader(&source, narrow);
    let first = support::first_of(&mut reader).await;
    within(place.fake().stop(target)).await;
    place.fake().restart(target).await.expect("its ports are free");
    let mut bytes = first.to_vec();
    drop(first);
    bytes.extend(within(support::rest_of(&mut reader)).await.expect("it goes on"));
    assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
    assert_eq!(bytes.len() as u64, SIZE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_read_leaves_nothing_behind() {
    let place = place().await;
    place.fake().put(BUCKET, "large", pattern(1, 64 * MIB));
    place.fake().inject(
        Rule::new(Fault::Pace { rate: 1_000_000 })
            .at_targets()
            .times(u64::MAX),
    );
    let source = place.object("large");
    let mut reader = support::reader(&source, options(MIB, 8));
    drop(support::first_of(&mut reader).await);
    drop(reader);
    // Connections with half an answer are closed. At most idle ones remain.
    within(
        place
            .fake()
            .until(|counts| counts.open_at(Node::Target(0)) + counts.open_at(Node::Target(1)) <= 1),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_117_a_first_range_that_is_refused_becomes_one_stream() {
    for status in [400, 403, 405, 416, 501] {
        let place = place().await;
        place.fake().inject(
            Rule::new(Fault::Status(status))
                .at_targets()
                .method("GET")
                .range_from(0)
                .times(u64::MAX),
        );
        let bytes = support::read(&place.object("o"), options(100_000, 4))
            .await
            .unwrap_or_else(|error| panic!("{status}: {error}"));
        assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
        assert_eq!(bytes.len() as u64, SIZE);
        assert!(place.counts().fault("status") >= 1, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_118_a_refused_head_is_made_up_for_by_a_byte() {
    for fault in [
        Fault::Status(400),
        Fault::Status(403),
        Fault::Status(404),
        Fault::Status(405),
        Fault::Status(501),
        Fault::Status(500),
        Fault::Hangup,
        Fault::Silence,
    ] {
        let place = place().await;
        let refused = Rule::new(fault.clone()).method("HEAD").times(u64::MAX);
        place.fake().inject(refused);
        let info = within(place.object("o").head()).await;
        let info = info.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!((info.size, info.ranges), (Some(SIZE), Some(true)), "{fault:?}");
        if let Fault::Status(400..=499) = fault {
            expect_content(&place.object("o"), Pattern::new(1), SIZE).await;
        }
    }
}

/// A live target answers a GET of a folder with status 500, and a HEAD with 404.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_not_an_object() {
    let place = place().await;
    place.fake().put(BUCKET, "folder/o", pattern(1, SIZE));
    let folder = place.object("folder");
    let mut patient = options(100_000, 4);
    patient.retries = None;
    let error = within(support::read(&folder, patient))
        .await
        .expect_err("a folder");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("ErrLmetaNotFound"), "{error}");
    let error = within(folder.head()).await.expect_err("a folder");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    expect_content(&place.object("folder/o"), Pattern::new(1), SIZE).await;
}

/// Targets and the proxy stop and restart one after another during downloads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_143_nodes_restart_one_after_another_in_mid_read() {
    const LARGE: u64 = 12_000_000;
    let place = standin(ClusterOptions::default()).await;
    for name in ["a", "b", "c", "d"] {
        place.fake().put(BUCKET, name, pattern(1, LARGE));
    }
    let read = async |name: &str| {
        let mut patient = options(200_000, 4);
        (patient.window, patient.retries) = (Some(4), None);
        patient.retry_timeout = Duration::from_secs(60);
        let download = pget_core::Download::new(place.object(name), patient).expect("good options");
        let mut reader = download.reader();
        let mut at = 0;
        while let Some(lease) = reader.next().await? {
            assert_eq!(Pattern::new(1).check(at, &lease), Ok(()));
            at += lease.len() as u64;
            drop(lease);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(at, LARGE);
        Ok::<u64, pget_core::Error>(reader.stats().retries)
    };
    let restarts = async {
        for down in [20, 300] {
            for node in [Node::Target(0), Node::Target(1), Node::Proxy] {
                tokio::time::sleep(Duration::from_millis(100)).await;
                place.fake().stop(node).await;
                tokio::time::sleep(Duration::from_millis(down)).await;
                place.fake().restart(node).await.expect("its ports are free");
            }
        }
    };
    let reads = async { tokio::join!(read("a"), read("b"), read("c"), read("d")) };
    let ((a, b, c, d), ()) = Box::pin(within(async { tokio::join!(reads, restarts) })).await;
    let mut retries = 0;
    for read in [a, b, c, d] {
        retries += read.unwrap_or_else(|error| panic!("{}", error.to_line()));
    }
    assert!(retries > 0, "no restart was met");
}

/// A target leaves the cluster for a restart. Other targets are asked for its objects, and do not
/// have them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_143_a_404_of_a_target_that_never_had_the_object_passes() {
    let place = place().await;
    let home = place.fake().target_of(BUCKET, "o");
    let mut patient = options(100_000, 2);
    (patient.window, patient.retries) = (Some(2), None);
    let download = pget_core::Download::new(place.object("o"), patient).expect("good options");
    let mut reader = download.reader();
    let first = within(reader.next()).await.expect("it reads").expect("some");
    let mut at = first.len() as u64;
    drop(first);
    place.fake().move_object(BUCKET, "o");
    place
        .fake()
        .inject(Rule::new(Fault::Status(404)).at(Node::Target(1 - home)).times(5));
    while let Some(lease) = within(reader.next()).await.expect("it comes back") {
        assert_eq!(Pattern::new(1).check(at, &lease), Ok(()));
        at += lease.len() as u64;
    }
    assert_eq!(at, SIZE);
    assert_eq!(place.counts().fault("status"), 5);
}
