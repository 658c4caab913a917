//! What must hold of addresses, properties and errors for any input; called by the fuzz targets of
//! `fuzz/`. Not in an ordinary build.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::{Config, ObjectAddress, failure::Failure, hint, properties::Properties};

/// An address that is taken and can be asked for leads to the endpoint's host, and to exactly that
/// object.
pub fn address(text: &str) {
    let Ok(address) = ObjectAddress::parse(text, None) else {
        return;
    };
    if address.check().is_err() {
        return;
    }
    let endpoint = Url::parse("http://endpoint.test:51080/prefix").expect("a URL");
    let Ok(url) = address.url(&endpoint, &[("props", "size")]) else {
        return;
    };
    assert_eq!(
        (url.host_str(), url.port()),
        (Some("endpoint.test"), Some(51080)),
        "{url}"
    );
    assert!(url.path().starts_with("/prefix/v1/objects/"), "{url}");
    assert!(
        url.fragment().is_none() && url.as_str().bytes().all(|byte| byte.is_ascii_graphic()),
        "{url}"
    );
    let given: Vec<String> = url.query_pairs().map(|(key, _)| key.into_owned()).collect();
    let namespace = address.bucket.namespace.is_some().then_some("namespace");
    let expected: Vec<&str> = ["provider"]
        .into_iter()
        .chain(namespace)
        .chain(["props"])
        .collect();
    assert_eq!(given, expected, "{url}");
    assert!(address.is_at(&url), "{url}");
}

/// Properties as a caller sets them: refused, or a token that can be sent and an endpoint that can
/// be asked.
pub fn settings(properties: &[(&str, &str)]) {
    let set: BTreeMap<String, String> = properties
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let Ok(config) = Config::new(|_| None, &set) else {
        return;
    };
    assert!(matches!(config.endpoint.scheme(), "http" | "https") && config.endpoint.has_host());
    if let Some(token) = &config.token {
        assert!(!token.chars().any(|c| c.is_control()));
        assert!(
            token.len() < 6 || !format!("{config:?}").contains(token),
            "{config:?}"
        );
    }
}

/// An error's text, and numbers in headers: reported short and on one line, and no number makes an
/// absurd hint.
pub fn answer(body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    let told = Failure::parse(&text).to_string();
    assert!(
        told.chars().count() <= 402 && !told.chars().any(char::is_control),
        "{told:?}"
    );
    let names = [
        "content-length",
        "ais-chunks-count",
        "ais-chunks-max-chunk-size",
        "ais-checksum-type",
        "ais-checksum-value",
        "ais-version",
        "ais-present",
    ];
    let headers: HeaderMap = names
        .into_iter()
        .zip(body.split(|&byte| byte == b'\n'))
        .filter_map(|(name, value)| {
            Some((
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value).ok()?,
            ))
        })
        .collect();
    if let Ok(properties) = Properties::read(&headers) {
        assert!(
            properties
                .chunk_hint
                .is_none_or(|hint| (1..=hint::LARGEST).contains(&hint)),
            "{headers:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use pget_testkit::corpus::replay;

    #[test]
    fn corpora_hold() {
        replay("answers", super::answer);
        replay("address", |input| super::address(&String::from_utf8_lossy(input)));
    }
}
