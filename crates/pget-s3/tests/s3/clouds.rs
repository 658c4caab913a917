//! GCS and Azure: the addresses and headers of requests, and the bodies of replies.

use std::process::Command;

use pget_core::{ErrorKind, RangeSource as _};
use pget_s3::Settings;
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, Seen, When},
};

use super::{
    common::{check, open, options, read, texts, within},
    standin::{Reply, Standin},
};

const SEED: u64 = 61;
const CHUNK: u64 = 32 << 10;
const SIZE: u64 = 6 * CHUNK + 5;

fn serve(path: &str) -> Hostile {
    let server = Hostile::start().expect("a server");
    let mut object = Object::new(SEED, SIZE);
    object.headers.push(("x-goog-generation".into(), "7".into()));
    server.route(path, Route::new(object));
    server
}

async fn fetch(server: &Hostile, path: &str, address: &str, settings: &Settings) -> Vec<Seen> {
    let source = open(address, settings);
    assert!(!format!("{source:?} {settings:?}").contains("canary"));
    let bytes = within(read(source, options(CHUNK, 4))).await;
    check(
        &bytes.unwrap_or_else(|error| panic!("{address}: {}", error.to_line())),
        Pattern::new(SEED),
        SIZE,
    );
    let seen = server.requests(path);
    assert!(seen.len() > 1);
    seen
}

/// Returns a service account with a key made for this test.
fn service_account(tokens: &Standin) -> Option<String> {
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
        .output();
    let pem = match made {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).expect("PEM"),
        _ => {
            assert!(
                std::env::var_os("CI").is_none(),
                "openssl makes the key of a service account"
            );
            eprintln!("skipped: openssl, which makes the key of a service account, is not installed");
            return None;
        }
    };
    let pem = pem.replace('\n', "\\n");
    Some(format!(
        r#"{{"type":"service_account","client_email":"reader@example","private_key_id":"id","private_key":"{pem}","token_uri":"{}"}}"#,
        tokens.url("/token")
    ))
}

#[tokio::test]
async fn gcs_is_read_with_a_token_for_a_service_account() {
    let tokens = Standin::start(|got| {
        let grant = got.field("grant_type");
        if grant.as_deref() != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
            return Reply::new(400, r#"{"error":"invalid_grant"}"#);
        }
        Reply::new(
            200,
            r#"{"access_token":"canary","expires_in":3600,"token_type":"Bearer"}"#,
        )
    });
    let Some(account) = service_account(&tokens) else {
        return;
    };
    let path = "/bucket/a%3Fb%2541/c%20d%2B%C3%A4";
    let address = "gs://bucket/a%3Fb%2541/c d+ä";
    // A slash at the end of the endpoint has no effect.
    for end in ["", "/"] {
        let server = serve(path);
        let settings = Settings::new()
            .property("google.base_url", server.url(end))
            .property("google.service_account_key", &account);
        let before = tokens.seen("/token").len();
        for seen in fetch(&server, path, &format!("{address}?generation=7"), &settings).await {
            assert_eq!(seen.target, format!("{path}?generation=7"));
            assert_eq!(seen.header("authorization"), Some("Bearer canary"));
        }
        assert_eq!(
            tokens.seen("/token").len(),
            before + 1,
            "one token for all ranges"
        );
        let info = within(open(address, &settings).head()).await.expect("head");
        assert_eq!(info.revision.version.as_deref(), Some("7"));
    }
    let assertion = tokens.seen("/token")[0].field("assertion").expect("a JWT");
    let parts: Vec<_> = assertion.split('.').collect();
    let claims = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, parts[1]).expect("base64");
    let claims = String::from_utf8(claims).expect("text");
    for part in ["reader@example", "devstorage.read_only", &tokens.url("/token")] {
        assert!(claims.contains(part), "{part} in {claims}");
    }
}

/// In both clouds, an endpoint may have a path.
#[tokio::test]
async fn a_slash_behind_the_endpoint_means_nothing() {
    for end in ["", "/", "/under", "/under/"] {
        let path = format!("{}/bucket/k", end.trim_end_matches('/'));
        let server = serve(&path);
        let google = Settings::new()
            .property("google.base_url", server.url(end))
            .property("google.skip_signature", "true");
        fetch(&server, &path, "gs://bucket/k", &google).await;
        // The key is "canary" in base64.
        let azure = azure(&server)
            .property("azure.endpoint", server.url(end))
            .property("azure.storage_account_key", "Y2FuYXJ5");
        fetch(&server, &path, "az://bucket/k", &azure).await;
    }
}

#[tokio::test]
async fn open_gcs_buckets_need_no_credentials() {
    let server = serve("/bucket/a//b");
    let settings = Settings::new()
        .property("google.base_url", server.url(""))
        .property("google.skip_signature", "true");
    for seen in fetch(&server, "/bucket/a//b", "gs://bucket/a//b", &settings).await {
        assert_eq!(seen.target, "/bucket/a//b");
        assert_eq!(seen.header("authorization"), None);
    }
}

fn azure(server: &Hostile) -> Settings {
    Settings::new()
        .property("azure.storage_account_name", "account")
        .property("azure.endpoint", server.url(""))
}

#[tokio::test]
async fn azure_is_read_with_an_account_s_key() {
    let path = "/container/a%3Fb%2541/c%20d%2B%C3%A4";
    let server = serve(path);
    // The key is "canary" in base64.
    let settings = azure(&server).property("azure.storage_account_key", "Y2FuYXJ5");
    for seen in fetch(&server, path, "az://container/a%3Fb%2541/c d+ä", &settings).await {
        assert_eq!(seen.target, path);
        let header = |name: &str| seen.header(name).unwrap_or_default().to_owned();
        let text = format!(
            "GET\n\n\n\n\n\n\n\n{}\n\n\n{}\nx-ms-date:{}\nx-ms-version:{}\n/account{path}",
            header("if-match"),
            header("range"),
            header("x-ms-date"),
            header("x-ms-version")
        );
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"canary");
        let signature = base64::Engine::encode(
            &base64::prelude::BASE64_STANDARD,
            ring::hmac::sign(&key, text.as_bytes()),
        );
        assert_eq!(header("authorization"), format!("SharedKey account:{signature}"));
    }
}

#[tokio::test]
async fn azure_is_read_by_a_shared_access_signature_as_it_is() {
    let server = serve("/container/k");
    for sas in ["sv=1&sp=r&sig=canary%2B%3D", "?sv=1&sp=r&sig=canary%2B%3D"] {
        let settings = azure(&server).property("azure.sas_token", sas);
        for seen in fetch(&server, "/container/k", "az://container/k", &settings).await {
            assert_eq!(seen.target, "/container/k?sv=1&sp=r&sig=canary%2B%3D");
        }
    }
}

#[tokio::test]
async fn open_azure_containers_need_no_credentials() {
    let server = serve("/container/k");
    let settings = azure(&server).property("azure.skip_signature", "true");
    for seen in fetch(&server, "/container/k", "az://container/k", &settings).await {
        assert_eq!(seen.target, "/container/k");
    }
}

#[tokio::test]
async fn azure_errors_have_their_kinds() {
    for (status, code, kind) in [
        (404, "BlobNotFound", ErrorKind::NotFound),
        (403, "AuthenticationFailed", ErrorKind::PermissionDenied),
        (503, "ServerBusy", ErrorKind::Unavailable),
    ] {
        let server = Hostile::start().expect("a server");
        let fault = Fault::Answer {
            status,
            headers: Vec::new(),
            body: format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>")
                .into_bytes(),
        };
        server.route(
            "/container/k",
            Route::new(Object::new(SEED, SIZE)).fault(When::Always, fault),
        );
        let settings = azure(&server).property("azure.sas_token", "sig=canary");
        let error = within(read(open("az://container/k", &settings), options(CHUNK, 4)))
            .await
            .expect_err("refused");
        assert_eq!(error.kind(), kind, "{}", error.to_line());
        texts(&error);
        assert!(server.served("/container/k") > 0);
    }
}
