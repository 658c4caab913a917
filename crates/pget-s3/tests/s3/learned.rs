//! Cases 115, 117 and 118 over S3: codings, ranges and HEAD.

use pget_core::{ErrorKind, RangeSource as _};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Route, When},
};

use crate::{
    answers::{SEED, document, object, settings},
    common::{check, open, options, read, within},
};

const CHUNK: u64 = 100_000;

fn served(route: Route) -> Hostile {
    let server = Hostile::start().expect("a server");
    server.route("/bucket/k", route);
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_115_codings_that_come_and_go_are_refused() {
    let coded = Fault::ContentEncoding("gzip".into());
    for when in [When::Later, When::First] {
        let server = served(Route::new(object()).fault(when, coded.clone()));
        let source = open("s3://bucket/k", &settings(&server));
        let error = within(read(source, options(CHUNK, 4))).await.expect_err("mixed");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{}", error.to_line());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_117_a_refused_first_range_of_s3_becomes_one_stream() {
    for fault in [
        Fault::status(400),
        Fault::status(405),
        Fault::status(416),
        Fault::status(501),
        document(403, "AccessDenied", "Access Denied"),
    ] {
        let server = served(Route::new(object()).fault(When::Ranged, fault.clone()));
        let source = open("s3://bucket/k", &settings(&server));
        let bytes = within(read(source, options(CHUNK, 4))).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{fault:?}: {}", error.to_line()));
        check(&bytes, Pattern::new(SEED), object().size);
        assert!(server.served("/bucket/k") > 0);
    }
    // A real refusal causes few requests.
    let refusal = document(403, "AccessDenied", "Access Denied");
    let server = served(Route::new(object()).fault(When::HeadToo, refusal));
    let source = open("s3://bucket/k", &settings(&server));
    let error = within(read(source, options(CHUNK, 4)))
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let asked = server.requests("/bucket/k").len();
    assert!(asked <= 8, "{asked} requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_118_a_refused_head_of_s3_is_made_up_for_by_a_byte() {
    for fault in [
        Fault::status(400),
        Fault::status(403),
        Fault::status(404),
        Fault::status(405),
        Fault::status(500),
        Fault::status(503),
        Fault::Empty,
        Fault::ResetBeforeHead,
        Fault::StallBeforeHead,
    ] {
        let server = served(Route::new(object()).fault(When::Head, fault.clone()));
        let source = open("s3://bucket/k", &settings(&server));
        let info = within(source.head()).await;
        let info = info.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(info.size, Some(object().size), "{fault:?}");
    }
}
