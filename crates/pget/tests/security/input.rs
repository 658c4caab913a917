//! Case 65: text that would break out of a header or a request line is refused before a socket
//! opens.
//!
//! It does not matter which input contains the text.

use pget::{Builder, ErrorKind};
use pget_testkit::hostile::{Hostile, Object, Route};

use crate::{on_aistore, on_s3, quick, read};

const BAD: [&str; 5] = ["\r\nX-Evil: 1", "\n", "\r", "\0", "a\r\n\r\nGET / HTTP/1.1"];

#[tokio::test]
async fn case_65_every_input_that_reaches_a_header() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, 1000)));
    let endpoint = server.url("");
    let mut refused = 0;
    for bad in BAD {
        let inputs: Vec<(&str, Builder)> = vec![
            ("an HTTP address", quick(pget::builder(&format!("{url}{bad}")))),
            ("its query", quick(pget::builder(&format!("{url}?a={bad}")))),
            (
                "its user",
                quick(pget::builder(&url.replace("http://", &format!("http://u{bad}@")))),
            ),
            (
                "a header's name",
                quick(pget::builder(&url)).header(format!("x{bad}"), "v"),
            ),
            (
                "a header's value",
                quick(pget::builder(&url)).header("x", format!("v{bad}")),
            ),
            (
                "an AIStore object",
                on_aistore(&format!("ais://b/o{bad}"), &endpoint),
            ),
            (
                "an AIStore bucket",
                on_aistore(&format!("ais://b{bad}/o"), &endpoint),
            ),
            (
                "a namespace",
                on_aistore(&format!("ais://@a#{bad}/b/o"), &endpoint),
            ),
            (
                "a token",
                on_aistore("ais://b/o", &endpoint).property("ais.token", format!("t{bad}")),
            ),
            (
                "a provider",
                on_aistore("ais://b/o", &endpoint).property("ais.provider", format!("aws{bad}")),
            ),
            ("a key", on_s3(&format!("s3://b/k{bad}"), &endpoint)),
            ("a bucket", on_s3(&format!("s3://b{bad}/k"), &endpoint)),
            (
                "a version",
                on_s3(&format!("s3://b/k?versionId=1{bad}"), &endpoint),
            ),
        ];
        for (what, builder) in inputs {
            let error = read(&builder).await.expect_err(what);
            assert_eq!(
                error.kind(),
                ErrorKind::InvalidArgument,
                "{what} with {bad:?}: {}",
                error.to_line()
            );
            refused += 1;
        }
    }
    // The text is percent-encoded where the transport decodes it.
    for address in ["s3://b/k%0d%0ax", "s3://b/%00", "s3://b/k?versionId=1%0a"] {
        let outcome = read(&on_s3(address, &endpoint)).await;
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{address}");
        } else {
            panic!("{address} was read");
        }
        refused += 1;
    }
    assert_eq!(refused, BAD.len() * 13 + 3);
    assert_eq!(server.load().connections, 0, "a socket was opened");
}

#[tokio::test]
async fn a_header_that_would_not_be_sent_is_refused() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, 1000)));
    for name in [
        "Host",
        "range",
        "Connection",
        "Accept-Encoding",
        "Content-Length",
        "Transfer-Encoding",
        "TE",
        "Upgrade",
        "Expect",
    ] {
        let error = read(&quick(pget::builder(&url)).header(name, "hunter2"))
            .await
            .expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name}");
        let line = error.to_line();
        assert!(line.contains(name) && !line.contains("hunter2"), "{line}");
    }
    assert_eq!(server.load().connections, 0, "a socket was opened");
}

#[tokio::test]
async fn values_that_are_signed_or_encoded_cannot_break_a_header_either() {
    let server = Hostile::start().expect("a server");
    let endpoint = server.url("");
    for bad in BAD.into_iter().chain(["\u{e9}", "\u{7f}"]) {
        for key in [
            "aws.region",
            "aws.access_key_id",
            "aws.secret_access_key",
            "aws.session_token",
            "ais.archpath",
            "ais.etl",
        ] {
            // A key with an empty part is signed in headers instead of the query.
            for address in ["s3://b/k", "s3://b/a//k", "ais://b/o"] {
                let base = if address.starts_with("s3") {
                    on_s3(address, &endpoint)
                } else {
                    on_aistore(address, &endpoint)
                };
                // Whatever the result, nothing panics, and no part of the value appears as a
                // line of its own.
                if let Err(error) = read(&base.property(key, format!("v{bad}"))).await {
                    assert_ne!(error.kind(), ErrorKind::Internal, "{key}: {}", error.to_line());
                }
            }
        }
    }
    for path in ["/b/k", "/b/a//k", "/v1/objects/b/o", "/"] {
        for request in server.requests(path) {
            assert!(request.header("x-evil").is_none(), "{request:?}");
        }
    }
}
