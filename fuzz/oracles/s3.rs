//! What must hold of addresses, settings and error documents for any input; called by the fuzz
//! targets of `fuzz/` and over their corpora by this crate's tests. Not in an ordinary build.

use std::{sync::LazyLock, time::SystemTime};

use http::StatusCode;
use percent_encoding::percent_decode_str;
use pget_core::redact;
use pget_http::{Client, ClientOptions, Method};

use crate::{
    Settings,
    address::{Address, Cloud},
    cloud::{
        self,
        contract::Ask,
        keys::{Keys, Secret},
    },
    errors::Document,
};

static CLIENT: LazyLock<Client> =
    LazyLock::new(|| Client::new(&ClientOptions::default()).expect("the default options are sound"));

/// An address that is taken is asked for as exactly its key, at the endpoint's host, and shows
/// nothing but itself.
pub fn address(text: &str) {
    let settings = Settings::new()
        .property("aws.endpoint", "http://endpoint.test:9000")
        .property("aws.allow_http", "true")
        .property("aws.access_key_id", "id")
        .property("aws.secret_access_key", "secret")
        .property("azure.account_name", "account");
    signed(text, &settings, true);
}

/// Properties that a caller sets, whatever they are: refused or signed with, and then in no way
/// that breaks a request.
pub fn settings(address: &str, properties: &[(&str, &str)]) {
    let mut settings = Settings::new()
        .property("aws.access_key_id", "id")
        .property("aws.secret_access_key", "secret")
        .property("azure.account_name", "account");
    for (key, value) in properties {
        // These read files and ask services of the caller's choice.
        let lower = key.to_ascii_lowercase();
        if ![
            "path",
            "service",
            "credential",
            "uri",
            "metadata",
            "role",
            "imdsv1",
            "cli",
            "msi",
            "identity",
            "client",
            "tenant",
            "authority",
            "federated",
            "file",
            "bundle",
        ]
        .iter()
        .any(|word| lower.contains(word))
        {
            settings = settings.property(*key, *value);
        }
    }
    signed(address, &settings, false);
}

fn signed(text: &str, settings: &Settings, known_host: bool) {
    let Ok(address) = Address::parse(text) else { return };
    assert!(!address.key.chars().any(|c| c.is_ascii_control()) && !address.key.is_empty());
    assert!(!address.key.split('/').any(|part| part == "." || part == ".."));
    assert!(!address.text.chars().any(char::is_control));
    let (cloud, bucket, key) = (address.cloud, address.bucket.clone(), address.key.clone());
    if bucket.starts_with("arn:") {
        // The endpoint's host is then another.
        return;
    }
    let Ok(opened) = cloud::open(address, settings, CLIENT.clone()) else {
        return;
    };
    let keys = match cloud {
        Cloud::Aws => Keys::Aws {
            id: Secret::new("id"),
            secret: Secret::new("secret"),
            token: None,
        },
        Cloud::Google => Keys::Bearer {
            token: Secret::new("secret"),
            project: None,
        },
        Cloud::Azure => Keys::Shared(Secret::new("c2VjcmV0")),
    };
    let ask = Ask {
        method: Method::Get,
        keys: Some(&keys),
        time: SystemTime::now(),
        region: None,
        to: None,
        range: Some("bytes=0-9"),
        pin: None,
    };
    let Ok(signed) = opened.request(&ask) else { return };
    let path: Vec<u8> = percent_decode_str(signed.url.path()).collect();
    assert!(
        path.ends_with(format!("/{key}").as_bytes()),
        "{} for {key:?}",
        signed.url
    );
    assert!(
        signed.url.as_str().bytes().all(|byte| byte.is_ascii_graphic()),
        "{}",
        signed.url
    );
    assert!(signed.url.fragment().is_none());
    if known_host {
        let host = match cloud {
            Cloud::Aws => "endpoint.test",
            Cloud::Google => "storage.googleapis.com",
            Cloud::Azure => "account.blob.core.windows.net",
        };
        assert_eq!(signed.url.host_str(), Some(host), "{text}");
        assert_eq!(path, format!("/{bucket}/{key}").as_bytes(), "{text}");
    }
    assert!(signed.headers.values().any(http::HeaderValue::is_sensitive));
    for value in signed.headers.values() {
        assert!(!value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte)));
    }
    assert!(!format!("{signed:?}").contains("Signature="), "{signed:?}");
}

/// An error document, or any other text: its report is one short line, without the queries of
/// addresses.
pub fn document(body: &[u8]) {
    let document = Document::parse(body);
    for text in [&document.code, &document.message] {
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.chars().count() <= 601);
    }
    for status in [200, 301, 400, 403, 404, 416, 429, 503] {
        let status = StatusCode::from_u16(status).expect("a status");
        let text = document.failure(status, None).to_string();
        assert!(
            text.chars().count() < 1400 && !text.chars().any(char::is_control),
            "{text:?}"
        );
    }
    let text = String::from_utf8_lossy(body);
    if !text.contains("CANARY") {
        let shown = redact::message(&format!("{text} http://u:CANARY@h/k?sig=CANARY {text}"));
        assert!(!shown.contains("CANARY"), "{shown}");
        let shown = redact::message(&format!(
            "<Error><StringToSign>CANARY {text}</StringToSign></Error>"
        ));
        assert!(!shown.contains("CANARY"), "{shown}");
    }
}

#[cfg(test)]
mod tests {
    use pget_testkit::corpus::replay;

    #[test]
    fn corpora_hold() {
        replay("answers", super::document);
        replay("address", |input| super::address(&String::from_utf8_lossy(input)));
    }
}
