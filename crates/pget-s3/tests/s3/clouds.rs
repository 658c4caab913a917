//! GCS and Azure: that what `object_store` signs is what is sent, and that bodies come.

use std::process::Command;

use pget_core::{ErrorKind, RangeSource as _};
use pget_s3::{S3Source, Settings};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, Seen, When},
};

use super::common::{check, client, open, options, read, texts, within};

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

/// A service account whose key was made for this test.
fn service_account() -> Option<String> {
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
        r#"{{"type":"service_account","client_email":"reader@example","private_key_id":"id","private_key":"{pem}"}}"#
    ))
}

#[tokio::test]
async fn gcs_is_read_by_a_signed_address() {
    let Some(account) = service_account() else { return };
    // The library puts paths into URLs unencoded, so characters that mean something there are the test.
    let path = "/bucket/a%3Fb%2541/c%20d%2B%C3%A4";
    let address = "gs://bucket/a%3Fb%2541/c d+ä";
    // A slash at the endpoint's end means nothing.
    for end in ["", "/"] {
        let server = serve(path);
        let settings = Settings::new()
            .property("google.base_url", server.url(end))
            .property("google.service_account_key", &account);
        for seen in fetch(&server, path, &format!("{address}?generation=7"), &settings).await {
            for part in [
                "generation=7",
                "X-Goog-Algorithm=GOOG4-RSA-SHA256",
                "X-Goog-Expires=900",
                "X-Goog-Signature=",
            ] {
                assert!(seen.target.contains(part), "{part} in {}", seen.target);
            }
        }
        let info = within(open(address, &settings).head()).await.expect("head");
        assert_eq!(info.revision.version.as_deref(), Some("7"));
    }
}

/// Of both clouds, an endpoint may have a path.
#[tokio::test]
async fn a_slash_behind_the_endpoint_means_nothing() {
    for end in ["", "/", "/under", "/under/"] {
        let path = format!("{}/bucket/k", end.trim_end_matches('/'));
        let server = serve(&path);
        let google = Settings::new()
            .property("google.base_url", server.url(end))
            .property("google.skip_signature", "true");
        fetch(&server, &path, "gs://bucket/k", &google).await;
        // "canary" in base64.
        let azure = azure(&server)
            .property("azure.endpoint", server.url(end))
            .property("azure.storage_account_key", "Y2FuYXJ5");
        fetch(&server, &path, "az://bucket/k", &azure).await;
    }
}

/// It is asked for them by starting a program.
#[test]
fn credentials_of_the_azure_cli_are_not_supported() {
    let with = |name: &str, value: &str| {
        let variable = (name.replace('.', "_").to_uppercase(), value.to_owned());
        let account = "azure.storage_account_name";
        [
            Settings::new().property(account, "account").property(name, value),
            Settings::new()
                .property(account, "account")
                .environment([variable]),
        ]
    };
    for (name, value) in [
        ("azure.use_azure_cli", "true"),
        ("azure.use_azure_cli", "Yes"),
        ("azure.credential_type", "azure_cli"),
    ] {
        for settings in with(name, value) {
            let error = S3Source::open("az://container/k", &settings, client()).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", error.to_line());
            let open = settings.property("azure.skip_signature", "true");
            S3Source::open("az://container/k", &open, client()).expect("nothing is asked for");
        }
    }
    // With others it is not asked.
    let others: [&[(&str, &str)]; 4] = [
        &[("azure.storage_account_key", "Y2FuYXJ5")],
        &[("azure.storage_token", "canary")],
        &[
            ("azure.storage_client_id", "a"),
            ("azure.storage_tenant_id", "b"),
            ("azure.storage_client_secret", "canary"),
        ],
        &[
            ("azure.storage_client_id", "a"),
            ("azure.storage_tenant_id", "b"),
            ("azure.federated_token_file", "/nowhere"),
        ],
    ];
    for properties in others {
        for mut settings in with("azure.use_azure_cli", "true") {
            for (name, value) in properties {
                settings = settings.property(*name, *value);
            }
            let opened = S3Source::open("az://container/k", &settings, client());
            opened.unwrap_or_else(|error| panic!("{properties:?}: {}", error.to_line()));
        }
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
async fn azure_is_read_by_a_signed_address() {
    let path = "/container/a%3Fb%2541/c%20d+%C3%A4";
    let server = serve(path);
    // "canary" in base64.
    let settings = azure(&server).property("azure.storage_account_key", "Y2FuYXJ5");
    for seen in fetch(&server, path, "az://container/a%3Fb%2541/c d+ä", &settings).await {
        for part in ["sp=r&", "sr=b", "sig=", "se="] {
            assert!(seen.target.contains(part), "{part} in {}", seen.target);
        }
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
