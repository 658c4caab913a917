//! What of an address goes where: path, version, payer and host.

use std::sync::Arc;

use pget_core::{ErrorKind, RangeSource};
use pget_s3::{S3Source, Settings};
use pget_testkit::{
    content::Pattern,
    hostile::{Hostile, Route},
};

use super::{
    answers::{CHUNK, SEED, SIZE, object, query, refused, settings},
    common::{check, client, open, options, read, within},
};

#[tokio::test]
async fn case_66_the_path_on_the_wire_is_the_key() {
    let server = Hostile::start().expect("a server");
    for (key, path) in [
        ("a+b c", "/bucket/a%2Bb%20c"),
        ("%2541~", "/bucket/%2541~"),
        ("dir//dbl", "/bucket/dir//dbl"),
        ("/lead", "/bucket//lead"),
        ("trail/", "/bucket/trail/"),
        ("ä?/€".replace('?', "%3F").as_str(), "/bucket/%C3%A4%3F/%E2%82%AC"),
        ("..a/b.", "/bucket/..a/b."),
    ] {
        server.route(path, Route::new(object()));
        let settings = settings(&server).property("aws.session_token", "canary");
        let bytes = within(read(
            open(&format!("s3://bucket/{key}"), &settings),
            options(CHUNK, 2),
        ))
        .await;
        check(
            &bytes.unwrap_or_else(|error| panic!("{key}: {}", error.to_line())),
            Pattern::new(SEED),
            SIZE,
        );
        for seen in server.requests(path) {
            let by_header =
                seen.header("authorization").is_some() && seen.header("x-amz-security-token").is_some();
            assert!(by_header && !seen.target.contains('?'), "{key}: {}", seen.target);
        }
    }
}

#[tokio::test]
async fn versions_payers_and_hosts_are_where_they_belong() {
    let server = Hostile::start().expect("a server");
    server.route("/bucket/k", Route::new(object()));
    server.route("/bucket/k/", Route::new(object()));
    server.route("/k", Route::new(object()));
    for (key, path) in [("k", "/bucket/k"), ("k/", "/bucket/k/")] {
        let payer = settings(&server).property("aws.request_payer", "requester");
        let source = open(&format!("s3://bucket/{key}?versionId=v%2F1"), &payer);
        within(read(source, options(CHUNK, 2))).await.expect("it reads");
        for seen in server.requests(path) {
            assert_eq!(query(&seen, "versionId"), Some("v%2F1"));
            let payer = seen.header("x-amz-request-payer");
            assert_eq!(payer, Some("requester"), "{key}");
        }
    }
    // The endpoint of a virtual-hosted bucket has the bucket's name in the host.
    for bucket in ["127", "127.0.0.1"] {
        let source = open(&format!("s3://{bucket}/k"), &hosted(settings(&server)));
        within(read(source, options(CHUNK, 2))).await.expect("it reads");
    }
    assert!(!server.requests("/k").is_empty());
}

/// Makes the server read the bucket from the host.
///
/// Every machine resolves 127.0.0.1, which here is the host of bucket `127`.
fn hosted(settings: Settings) -> Settings {
    settings.property("aws.virtual_hosted_style_request", "true")
}

#[tokio::test]
async fn a_virtual_hosted_endpoint_of_another_bucket_is_not_read_from() {
    let server = Hostile::start().expect("a server");
    server.route("/k", Route::new(object()));
    let by_variables = Settings::new().environment([
        ("AWS_ENDPOINT_URL_S3".to_owned(), server.url("")),
        ("AWS_ENDPOINT_URL".to_owned(), "http://other".to_owned()),
        ("AWS_SKIP_SIGNATURE".to_owned(), "true".to_owned()),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST".to_owned(), "true".to_owned()),
    ]);
    for settings in [hosted(settings(&server)), by_variables] {
        for bucket in ["other", "12", "127.0.0.2", "0.0.1"] {
            let address = format!("s3://{bucket}/k");
            let outcome = async {
                read(
                    Arc::new(S3Source::open(&address, &settings, client())?),
                    options(CHUNK, 2),
                )
                .await
            };
            let text = refused(within(outcome).await, ErrorKind::InvalidArgument);
            assert!(text.contains(&format!("{bucket}.HOST")), "{text}");
        }
    }
    assert!(server.requests("/k").is_empty(), "nothing is sent");
}

#[tokio::test]
async fn a_slash_behind_the_endpoint_does_not_become_the_keys() {
    let server = Hostile::start().expect("a server");
    for front in ["", "/", "//", "/a%20b", "/a%20b/"] {
        let trimmed = front.trim_end_matches('/');
        for (is_hosted, key) in [(false, "k"), (true, "k"), (false, "/k"), (true, "/k")] {
            let bucket = if is_hosted { "" } else { "/127" };
            let path = format!("{trimmed}{bucket}/{key}");
            server.route(&path, Route::new(object()));
            for unsigned in ["false", "true"] {
                let settings = settings(&server)
                    .property("aws.endpoint", server.url(front))
                    .property("aws.skip_signature", unsigned);
                let settings = if is_hosted { hosted(settings) } else { settings };
                let before = server.requests(&path).len();
                let source = open(&format!("s3://127/{key}"), &settings);
                let bytes = within(read(source, options(CHUNK, 2))).await;
                let bytes = bytes.unwrap_or_else(|error| panic!("{front} {path}: {}", error.to_line()));
                check(&bytes, Pattern::new(SEED), SIZE);
                assert!(server.requests(&path).len() > before, "{front} {path}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_of_another_version_than_asked_for_is_refused() {
    for (told, right) in [("v/1", true), ("w", false), ("null", false)] {
        let server = Hostile::start().expect("a server");
        let mut object = object();
        object.headers.push(("x-amz-version-id".into(), told.into()));
        server.route("/bucket/k", Route::new(object));
        let source = open("s3://bucket/k?versionId=v%2F1", &settings(&server));
        let info = within(source.head()).await;
        assert_eq!(
            info.map(|info| info.size).map_err(|error| error.kind()),
            if right {
                Ok(Some(SIZE))
            } else {
                Err(ErrorKind::Protocol)
            },
            "{told}"
        );
        for concurrency in [1, 4] {
            let outcome = within(read(Arc::clone(&source), options(CHUNK, concurrency))).await;
            if right {
                check(&outcome.expect("it reads"), Pattern::new(SEED), SIZE);
            } else {
                assert!(refused(outcome, ErrorKind::Protocol).contains("another version"));
            }
        }
    }
}
