//! Rules for every cloud: clocks, settings, proxies, and rejected signatures.

use std::sync::Arc;

use pget_core::ErrorKind;
use pget_http::{Client, ClientOptions, ProxyChoice};

use crate::{
    azure::microsoft,
    common::{self, check, options, read, texts, within},
    google::{USER, google},
    standin::{Got, Reply},
    world::{CHUNK, PATTERN, SIZE, World, log, sts_xml},
};

/// The clock is twenty minutes wrong, in both directions, at each service that checks the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_36_a_clock_that_is_off_is_corrected_at_every_service() {
    for ahead in [20 * 60, -20 * 60_i64] {
        let now = move || jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
        let refused = move |code: &str| {
            let date = now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
            Some(Reply::new(403, body).with("Date", date))
        };
        let is_off = move |said: Option<jiff::Timestamp>| {
            let said = said.expect("a time");
            said.duration_since(now()).as_secs().abs() > 15 * 60
        };
        let world = World::new(move |got| {
            let azure = got
                .header("x-ms-date")
                .map(|date| jiff::fmt::rfc2822::parse(date).expect("a date").timestamp());
            let aws = got.header("x-amz-date").map(|date| {
                let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).expect("a date");
                date.to_zoned(jiff::tz::TimeZone::UTC)
                    .expect("a time")
                    .timestamp()
            });
            match (azure, aws) {
                (Some(_), _) if is_off(azure) => refused("AuthenticationFailed"),
                (_, Some(_)) if is_off(aws) => refused(if got.method == "POST" {
                    "SignatureDoesNotMatch"
                } else {
                    "RequestTimeTooSkewed"
                }),
                (None, Some(_)) if got.method == "POST" => Some(sts_xml("A1")),
                _ => None,
            }
        });
        let world = world
            .here("AWS_ENDPOINT_URL_STS", "/")
            .file(
                ".aws/config",
                "[default]\naws_access_key_id = AK\naws_secret_access_key = canary\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = default\n",
            )
            .set("AZURE_STORAGE_KEY", "Y2FuYXJ5");
        world.reads("s3://bucket/k").await;
        world.reads("az://bucket/k").await;
        let asked = world
            .server
            .seen("/")
            .into_iter()
            .filter(|got| got.method == "POST")
            .count();
        assert_eq!(asked, 2, "once more for the role");
    }
}

/// The official tools have settings that concern safety. Each is obeyed, or refused by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_129_a_setting_that_cannot_be_heeded_is_refused_by_name() {
    let keyed = || {
        World::new(|_| None)
            .set("AWS_ACCESS_KEY_ID", "AK")
            .set("AWS_SECRET_ACCESS_KEY", "canary")
    };
    for (settings, named) in [
        (&[("AWS_USE_FIPS_ENDPOINT", "perhaps")][..], "fips"),
        (&[("AWS_USE_DUALSTACK_ENDPOINT", "2")], "dualstack"),
        (&[("AWS_PROFILE", "no-such")], "no-such"),
    ] {
        let mut world = keyed();
        for (name, value) in settings {
            world = world.set(name, value);
        }
        let text = world.fails("s3://bucket/k", ErrorKind::InvalidArgument).await;
        assert!(text.to_ascii_lowercase().contains(named), "{settings:?}: {text}");
        assert!(world.server.seen("/bucket").is_empty(), "{settings:?}");
    }
    // A custom endpoint makes these settings irrelevant, as in the official tools. The library
    // reports that.
    for name in ["USE_FIPS_ENDPOINT", "USE_DUALSTACK_ENDPOINT"] {
        let world = keyed().set(&format!("AWS_{name}"), "true");
        world.reads("s3://bucket/k").await;
        let report = format!("{} is without effect", name.to_ascii_lowercase());
        assert!(log().contains(&report), "{report}");
    }
    // The settings of a profile have the same effect.
    for (line, named) in [
        ("use_fips_endpoint = perhaps", "fips"),
        ("use_dualstack_endpoint = maybe", "dualstack"),
        (
            "mfa_serial = arn:x\nrole_arn = arn:r\nsource_profile = default",
            "mfa_serial",
        ),
    ] {
        let mut world = World::new(|_| None).file(
            ".aws/config",
            &format!("[default]\naws_access_key_id = AK\naws_secret_access_key = canary\n{line}\n"),
        );
        world.variables.retain(|(name, _)| name != "AWS_REGION");
        let world = world.set("AWS_REGION", "eu-north-9");
        let text = match pget_s3::S3Source::open("s3://bucket/k", &world.settings(), common::client()) {
            Err(error) => texts(&error),
            Ok(source) => {
                let read = within(read(Arc::new(source), options(CHUNK, 4))).await;
                texts(&read.map(|bytes| bytes.len()).expect_err(line))
            }
        };
        assert!(text.to_ascii_lowercase().contains(named), "{line}: {text}");
        assert!(world.server.seen("/bucket").is_empty(), "{line}");
    }
}

/// Requests for credentials take the same way as others: here through a proxy that alone knows the
/// hosts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_130_requests_for_credentials_go_through_the_proxy() {
    const HOST: &str = "http://clouds.invalid";
    let object = PATTERN.bytes(0, usize::try_from(SIZE).expect("small"));
    let beyond = move |got: &Got| {
        let mut got = got.clone();
        got.target = got.target.strip_prefix(HOST)?.to_owned();
        Some(match got.path() {
            "/bucket/k" | "/account/bucket/k" => Reply::object(&got, &object),
            _ => google(&got)
                .or_else(|| microsoft(&got))
                .unwrap_or_else(|| sts_xml("AKPROXY")),
        })
    };
    let user = USER.replace("HERE", HOST);
    let world = World::new(beyond)
        .file("adc.json", &user)
        .file("token", "canary-web")
        .set("GOOGLE_BASE_URL", HOST)
        .set("AWS_ENDPOINT_URL_S3", HOST)
        .set("AWS_ENDPOINT_URL_STS", HOST)
        .set("AWS_ROLE_ARN", "arn:aws:iam::1:role/r");
    let (document, token) = (world.path("adc.json"), world.path("token"));
    let world = world
        .set("GOOGLE_APPLICATION_CREDENTIALS", &document)
        .set("AWS_WEB_IDENTITY_TOKEN_FILE", &token);
    let mut through = ClientOptions::default();
    through.proxy = ProxyChoice::Url(world.server.url("").parse().expect("an address"));
    for (address, service) in [("gs://bucket/k", "/token"), ("s3://bucket/k", "/")] {
        let client = Client::new(&through).expect("a client");
        let source = pget_s3::S3Source::open(address, &world.settings(), client);
        let source = source.unwrap_or_else(|error| panic!("{address}: {}", error.to_line()));
        let bytes = within(read(Arc::new(source), options(CHUNK, 4))).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{address}: {}", error.to_line()));
        check(&bytes, PATTERN, SIZE);
        let asked = world.server.seen(&format!("{HOST}{service}"));
        assert!(!asked.is_empty(), "{address}");
    }
    // No request bypassed the proxy.
    assert!(world.server.seen("/").is_empty());
    world.check_log();
}

/// A server that accepts no signature in a query can be read, because pget sends none there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_query_signatures_is_read() {
    let world = World::new(|got| {
        let signed = ["X-Amz-Signature", "x-goog-signature", "sig"];
        let query = got.target.split_once('?').map_or("", |(_, query)| query);
        let names = query.split('&').filter_map(|pair| pair.split('=').next());
        names
            .into_iter()
            .any(|name| signed.iter().any(|signed| signed.eq_ignore_ascii_case(name)))
            .then(|| {
                Reply::new(
                    403,
                    "<Error><Code>AccessDenied</Code><Message>no query</Message></Error>",
                )
            })
    });
    let world = world
        .set("AWS_ACCESS_KEY_ID", "AK")
        .set("AWS_SECRET_ACCESS_KEY", "canary")
        .set("AZURE_STORAGE_KEY", "Y2FuYXJ5");
    world.signs_with("AK", None).await;
    world.reads("az://bucket/k").await;
}

/// A server accepts no signature in headers. The error contains the server's message, the way in
/// which the request was signed, and the source of the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_header_signatures_is_named_clearly() {
    let bodies = [
        "<Error><Code>AccessDenied</Code><Message>presigned URLs only</Message></Error>",
        "<Error><Code>InvalidRequest</Code><Message>presigned URLs only</Message></Error>",
        "presigned URLs only",
        "",
    ];
    for (status, body) in [400, 401, 403]
        .into_iter()
        .flat_map(|status| bodies.map(|body| (status, body)))
    {
        let world = World::new(move |got| got.header("authorization").map(|_| Reply::new(status, body)));
        let world = world
            .file(
                ".aws/credentials",
                "[default]\naws_access_key_id=AK\naws_secret_access_key=canary\n",
            )
            .set("AZURE_STORAGE_KEY", "Y2FuYXJ5")
            .set("GOOGLE_BEARER_TOKEN", "canary-token");
        for (address, with) in [
            (
                "s3://bucket/k",
                r#"signed in its headers with the keys of the profile "default""#,
            ),
            ("az://bucket/k", "signed in its headers with the account's key"),
            (
                "gs://bucket/k",
                "authorized by a token in its headers with google.bearer_token",
            ),
        ] {
            let text = world.refuses(address).await;
            assert!(
                text.contains(with) && text.contains(&status.to_string()),
                "{text}"
            );
            assert!(
                text.contains("presigned URLs only") == body.contains("<Message>"),
                "{text}"
            );
        }
    }
}
