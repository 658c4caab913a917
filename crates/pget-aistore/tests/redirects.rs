//! Redirects: the requests to the proxy and to targets, and the redirects that are refused.

mod support;

use std::{collections::BTreeSet, sync::Arc};

use pget_core::{Collector, ErrorKind, ObjectInfo, RangeRequest, RangeSource, SourceError};
use pget_testkit::{
    aistore::{BucketOptions, ClusterOptions, Fault, Node, Rule},
    content::Pattern,
};
use support::{
    BUCKET, MIB, Place, cluster, expect_content, expect_error, options, pattern, script, standin, within,
};

/// Reads one range, as a download of an object of `size` bytes and version 1 would.
async fn range(
    source: &dyn RangeSource,
    start: u64,
    pinned: Option<&Arc<ObjectInfo>>,
) -> Result<Vec<u8>, SourceError> {
    let mut request = RangeRequest::new(start, Some(start + 1000));
    request.pinned = pinned.cloned();
    let collector = Collector::new(request);
    let writer = collector.writer().expect("the writer is not taken yet");
    within(source.read(&collector.rest(), writer)).await?;
    Ok(collector.bytes())
}

async fn pin(source: &dyn RangeSource) -> Arc<ObjectInfo> {
    Arc::new(within(source.head()).await.expect("it is there"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_redirect_for_each_connection_not_for_each_range() {
    let place = cluster().await;
    let name = support::unique("ranges");
    place.put(&name, &support::bytes(1, 64 * 10_000)).await;
    let source = place.object(&name);
    let bytes = support::read(&source, options(10_000, 4))
        .await
        .expect("it can be read");
    assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
    if place.standin().is_some() {
        let counts = place.counts();
        assert_eq!(counts.ranges, 64);
        let gets = counts.at_proxy("GET");
        assert!(
            (1..=4).contains(&gets),
            "{gets} GETs at the proxy for 4 connections"
        );
        assert_eq!(counts.at_proxy("HEAD"), 1);
        // A second download of the source uses the redirects that the first has learned.
        support::read(&source, options(10_000, 4))
            .await
            .expect("it can be read again");
        assert!(place.counts().at_proxy("GET") <= 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_404_from_a_remembered_target_asks_the_proxy_again_once() {
    for status in [401, 403, 404, 500, 502, 503, 504] {
        let place = standin(ClusterOptions::default()).await;
        place.fake().put(BUCKET, "o", pattern(1, 5000));
        let source = place.object("o");
        let pinned = pin(&*source).await;
        range(&*source, 0, Some(&pinned))
            .await
            .expect("the redirect is remembered");
        assert_eq!(place.counts().at_proxy("GET"), 1);
        let refuse = |times| {
            Rule::new(Fault::Status(status))
                .at_targets()
                .method("GET")
                .times(times)
        };
        place.fake().inject(refuse(1));
        let bytes = range(&*source, 1000, Some(&pinned))
            .await
            .expect("the proxy knows better");
        assert_eq!(Pattern::new(1).check(1000, &bytes), Ok(()));
        assert_eq!(place.counts().at_proxy("GET"), 2, "{status}");
        // The client retries once. After that, the refusal is the answer.
        place.fake().inject(refuse(u64::MAX));
        let before = place.counts();
        range(&*source, 2000, Some(&pinned))
            .await
            .expect_err("all targets refuse");
        let after = place.counts();
        assert_eq!(after.at_proxy("GET") - before.at_proxy("GET"), 1, "{status}");
        assert_eq!(after.at_targets("GET") - before.at_targets("GET"), 2, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_connection_to_a_remembered_target_asks_the_proxy_again() {
    let place = standin(ClusterOptions::default()).await;
    place.fake().put(BUCKET, "o", pattern(1, 5000));
    let source = place.object("o");
    let pinned = pin(&*source).await;
    range(&*source, 0, Some(&pinned))
        .await
        .expect("the redirect is remembered");
    let old = place.fake().target_of(BUCKET, "o");
    assert!(place.fake().move_object(BUCKET, "o"));
    within(place.fake().stop(Node::Target(old))).await;
    let bytes = range(&*source, 1000, Some(&pinned))
        .await
        .expect("the proxy knows where it is now");
    assert_eq!(Pattern::new(1).check(1000, &bytes), Ok(()));
    assert_eq!(place.counts().at_proxy("GET"), 2);
}

/// The download drops a read that makes no progress. The next one must not use the same redirect.
#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_target_that_stays_silent_is_forgotten() {
    let place = standin(ClusterOptions::default()).await;
    place.fake().put(BUCKET, "o", pattern(1, 5000));
    let source = place.object("o");
    let pinned = pin(&*source).await;
    range(&*source, 0, Some(&pinned))
        .await
        .expect("the redirect is remembered");
    place.fake().inject(Rule::new(Fault::Silence).at_targets());
    tokio::select! {
        result = range(&*source, 1000, Some(&pinned)) => panic!("an answer from a silent target: {result:?}"),
        _ = within(place.fake().until(|counts| counts.fault("silence") == 1)) => {}
    }
    assert_eq!(place.counts().at_proxy("GET"), 1);
    range(&*source, 1000, Some(&pinned))
        .await
        .expect("it can be read");
    assert_eq!(place.counts().at_proxy("GET"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_may_be_down_once_the_redirect_is_known() {
    let place = standin(ClusterOptions::default()).await;
    place.fake().put(BUCKET, "o", pattern(1, 5000));
    let source = place.object("o");
    let pinned = pin(&*source).await;
    range(&*source, 0, Some(&pinned))
        .await
        .expect("the redirect is remembered");
    within(place.fake().stop(Node::Proxy)).await;
    let bytes = range(&*source, 1000, Some(&pinned))
        .await
        .expect("the target is there");
    assert_eq!(Pattern::new(1).check(1000, &bytes), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_object_mid_read() {
    let place = standin(ClusterOptions::default()).await;
    place.fake().put(BUCKET, "o", pattern(1, 2_000_000));
    let rule = Rule::new(Fault::Move).at_targets().method("GET").skip(5);
    place.fake().inject(rule);
    expect_content(&place.object("o"), Pattern::new(1), 2_000_000).await;
    let counts = place.counts();
    assert_eq!(counts.fault("move"), 1);
    let old: u64 = counts
        .answers
        .iter()
        .filter(|((_, status), _)| *status == 404)
        .map(|(_, n)| n)
        .sum();
    assert!(old >= 1, "the old target was asked after the move");
}

/// Every query is decoded, sorted and encoded again, as the server does for such names.
#[tokio::test(flavor = "multi_thread")]
async fn location_is_kept_verbatim_although_the_proxy_reencodes() {
    let setup = ClusterOptions {
        reencode_queries: true,
        signing: true,
        ..ClusterOptions::default()
    };
    let place = standin(setup).await;
    place.fake().put(BUCKET, "dir/a b#c", pattern(1, 1_000_000));
    expect_content(&place.object("dir/a b#c"), Pattern::new(1), 1_000_000).await;
    let (_, targets) = place.exchanges();
    assert!(
        targets.iter().all(|exchange| exchange.status < 300),
        "no signature was refused"
    );
    let routes: BTreeSet<_> = targets
        .iter()
        .filter(|e| e.method == "GET")
        .map(|e| &e.target)
        .collect();
    assert_eq!(
        routes.len() as u64,
        place.counts().at_proxy("GET"),
        "one text for each redirect"
    );
    for route in routes {
        let query = route.split_once('?').expect("a query").1;
        assert!(
            query.starts_with("pid=") && query.contains("&provider=ais&"),
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn multi_homed_target_interfaces_in_turn() {
    let setup = ClusterOptions {
        interfaces: 3,
        ..ClusterOptions::default()
    };
    let place = standin(setup).await;
    place.fake().put(BUCKET, "o", pattern(1, 4 * MIB));
    // The rate is so low that all connections are in use at the same time.
    let slow = Rule::new(Fault::Pace { rate: 2_000_000 })
        .at_targets()
        .times(u64::MAX);
    place.fake().inject(slow);
    let source = place.object("o");
    let bytes = support::read(&source, options(200_000, 6))
        .await
        .expect("it can be read");
    assert_eq!(Pattern::new(1).check(0, &bytes), Ok(()));
    let (_, targets) = place.exchanges();
    let gets = targets.iter().filter(|exchange| exchange.method == "GET");
    let hosts: BTreeSet<_> = gets.filter_map(|exchange| exchange.header("host")).collect();
    assert_eq!(hosts.len(), 3, "{hosts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_percent_encoded() {
    let place = cluster().await;
    let prefix = support::unique("names");
    for (seed, name) in (1..).zip([
        "dir/a b#c",
        "100%",
        "%41",
        "a+b",
        "q?x=y&z",
        "é/日本",
        "semi;colon",
        "quo\"te'",
        "[x]{y}|\\^`",
        "..c/...",
        "tab\tname",
    ]) {
        let name = format!("{prefix}/{name}");
        place.put(&name, &support::bytes(seed, 1000)).await;
        let source = place.object(&name);
        expect_content(&source, Pattern::new(seed), 1000).await;
        let info = within(source.head()).await.expect("it is there");
        assert_eq!(info.size, Some(1000), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_object_is_refused() {
    let target = script::Script::start(|_| script::whole("of another object")).await;
    let to = format!("{}/v1/objects/b/a/o?pid=p&utm=1", target.endpoint());
    let proxy = script::Script::start(move |_| script::redirect(&to)).await;
    let source = support::open_at(&support::client(), &proxy.endpoint(), "ais://b/a//o", &[]);
    let error = expect_error(&source, ErrorKind::Unsupported).await;
    assert!(!error.to_string().contains("utm=1"), "{error}");
    assert_eq!(target.heads().len(), 0, "the other object was not asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_do_not_go_in_a_circle() {
    // The proxy redirects to itself.
    let proxy = script::Script::start(|head| script::redirect(script::target(head))).await;
    let source = support::open_at(
        &support::client(),
        &proxy.endpoint(),
        "ais://b/o",
        &[("ais.token", "secret")],
    );
    expect_error(&source, ErrorKind::Protocol).await;
    let heads = proxy.heads();
    assert_eq!(heads.len(), 2);
    assert!(heads[0].contains("Bearer secret") && !heads[1].contains("secret"));
    // The target redirects back to the proxy, and elsewhere.
    let elsewhere = script::Script::start(|_| script::whole("never asked for")).await;
    let to = format!("{}/v1/objects/b/o", elsewhere.endpoint());
    let target = script::Script::start(move |_| script::redirect(&to)).await;
    let to = format!("{}/v1/objects/b/o?sign=SECRET", target.endpoint());
    let proxy = script::Script::start(move |_| script::redirect(&to)).await;
    let source = support::open_at(&support::client(), &proxy.endpoint(), "ais://b/o", &[]);
    let error = expect_error(&source, ErrorKind::Protocol).await;
    assert!(!format!("{error:?} {source:?}").contains("SECRET"), "{error:?}");
    assert_eq!(
        (proxy.heads().len(), target.heads().len(), elsewhere.heads().len()),
        (1, 1, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_without_a_usable_location_is_refused() {
    for location in [
        "",
        "file:///v1/objects/b/o",
        "http://169.254.169.254/v1/objects/b/o",
        "http://",
    ] {
        let proxy = script::Script::start(move |_| script::redirect(location)).await;
        let source = support::open_at(&support::client(), &proxy.endpoint(), "ais://b/x/o", &[]);
        let error = support::read(&source, options(1000, 2))
            .await
            .expect_err("nowhere to go");
        assert!(
            matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Unsupported),
            "{location}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_may_have_a_path_and_a_slash_at_its_end() {
    let place = standin(ClusterOptions::default()).await;
    place.fake().put(BUCKET, "o", pattern(1, 5000));
    let expected = place.endpoint().to_owned();
    let gate = script::Script::start(move |head| {
        let inner = script::target(head)
            .strip_prefix("/gate/ais")
            .expect("the prefix");
        script::redirect(&format!("{expected}{inner}"))
    })
    .await;
    // The stand-in's proxy takes the place of the target here, so its own redirect is one too many.
    // The test checks the requests.
    let source = support::open_at(
        &support::client(),
        &format!("{}/gate/ais/", gate.endpoint()),
        &format!("ais://{BUCKET}/o"),
        &[],
    );
    expect_error(&source, ErrorKind::Protocol).await;
    assert!(gate.heads()[0].starts_with(&format!(
        "GET /gate/ais/v1/objects/{BUCKET}/o?provider=ais HTTP/1.1\r\n"
    )));
    let slash = format!("{}/", place.endpoint());
    let source = support::open_at(&support::client(), &slash, &format!("ais://{BUCKET}/o"), &[]);
    expect_content(&source, Pattern::new(1), 5000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_may_be_ipv6() {
    if tokio::net::TcpListener::bind("[::1]:0").await.is_err() {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let target = script::Script::serve("[::1]:0", None, |_| script::whole("content")).await;
    let to = format!("http://[::1]:{}/v1/objects/b/o?pid=p", target.port());
    let proxy = script::Script::serve("[::1]:0", None, move |_| script::redirect(&to)).await;
    for endpoint in [
        format!("http://[::1]:{}", proxy.port()),
        format!("[::1]:{}", proxy.port()),
    ] {
        let source = support::open_at(&support::client(), &endpoint, "ais://b/o", &[]);
        let bytes = support::read(&source, options(1000, 2))
            .await
            .expect("it can be read");
        assert_eq!(bytes, b"content");
    }
}

/// Faults do not make remembered redirects pile up: there are at most as many as connections.
#[tokio::test(flavor = "multi_thread")]
async fn remembered_redirects_do_not_pile_up() {
    let place: Place = standin(ClusterOptions::default()).await;
    place.fake().create_bucket(BUCKET, BucketOptions::default());
    place.fake().put(BUCKET, "o", pattern(1, 2_000_000));
    let source = place.object("o");
    for fault in [
        Fault::Status(500),
        Fault::Hangup,
        Fault::Reset { after: 10 },
        Fault::Cut { after: 10 },
    ] {
        place
            .fake()
            .inject(Rule::new(fault).at_targets().method("GET").skip(3).times(5));
    }
    for _ in 0..5 {
        expect_content(&source, Pattern::new(1), 2_000_000).await;
    }
    let shown = format!("{source:?}");
    let count = shown
        .split_once("Routes(")
        .expect("they show")
        .1
        .split(')')
        .next()
        .expect("a number");
    assert!(count.parse::<u32>().expect("a number") <= 4, "{shown}");
}
