//! Whether what is asked for is the object that a part was begun with, known from a digest of
//! addresses that reveals none of them. Pure.
//!
//! Invariants: nothing that changes from run to run counts (a signature, its time), nor any
//! credential; whatever else stands in an address does, and so does the endpoint that it leaves to
//! the settings. Called by the front of this folder.

use std::os::unix::ffi::OsStrExt;

use sha2::{Digest, Sha256};
use url::Url;

use crate::Address;

/// A digest of an address, and of the `place` where what it names is looked for: what distinguishes
/// one object from another and is no secret. Of http and https, user and password, the fragment,
/// and the parameters of a signature (S3's, Google's, CloudFront's and Azure's) do not count, so
/// that a part can be continued with an address that was signed again. Of the others, every byte is
/// the name.
pub(crate) fn fingerprint(address: &Address, place: &str) -> String {
    let mut hasher = Sha256::new();
    match address {
        Address::File(path) => hasher.update(path.as_os_str().as_bytes()),
        Address::Http(text) => hasher.update(web(text)),
        Address::Aistore(text) | Address::S3(text) | Address::Gcs(text) | Address::Azure(text) => {
            let (scheme, name) = text.split_once("://").unwrap_or(("", text));
            hasher.update(format!("{}://{name}", scheme.to_ascii_lowercase()));
        }
    }
    // No address has a line's end in it; a file's name may have, and has no place.
    if !place.is_empty() {
        hasher.update("\n");
        hasher.update(place);
    }
    hex::encode(hasher.finalize())
}

/// A digest of a source that has no address: of its name, and of the server that it names.
pub(crate) fn of_source(name: &str, endpoint: Option<&str>) -> String {
    let mut hasher = Sha256::new();
    // No address begins so.
    hasher.update("source\n");
    hasher.update(name);
    if let Some(endpoint) = endpoint {
        hasher.update("\n");
        hasher.update(endpoint);
    }
    hex::encode(hasher.finalize())
}

/// An http or https address without what does not count. The host as it is looked up; path and
/// query as written, since that is how they are sent: the parser would have `/a/../o` and `/o` be
/// one.
fn web(address: &str) -> String {
    let Ok(url) = Url::parse(address) else {
        // Nothing that can be read.
        return address.to_owned();
    };
    let written = address.split_once("://").map_or("", |(_, rest)| rest);
    let path = written
        .find(['/', '?', '#'])
        .map_or("", |start| &written[start..]);
    let path = path.split_once('#').map_or(path, |(path, _)| path);
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let path = if path.is_empty() { "/" } else { path };
    let query = query
        // A query that was nothing but a signature does not count.
        .map(|query| (unsigned(query), query.is_empty()))
        .filter(|(counts, was_empty)| *was_empty || !counts.is_empty())
        .map(|(counts, _)| format!("?{counts}"))
        .unwrap_or_default();
    format!(
        "{}://{}:{}{path}{query}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        url.port_or_known_default().unwrap_or_default()
    )
}

/// A query without the parameters of a signature, if it has one.
fn unsigned(query: &str) -> String {
    const SIGNATURES: [&str; 4] = ["x-amz-signature", "x-goog-signature", "signature", "sig"];
    const WITH_THEM: [&str; 22] = [
        "awsaccesskeyid",
        "expires",
        "googleaccessid",
        "key-pair-id",
        "policy",
        "se",
        "sip",
        "ske",
        "skoid",
        "sks",
        "skt",
        "sktid",
        "skv",
        "sp",
        "spr",
        "sr",
        "srt",
        "ss",
        "st",
        "sv",
        "si",
        "security-token",
    ];
    let name = |parameter: &str| {
        parameter
            .split('=')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let is_signed = query
        .split('&')
        .any(|parameter| SIGNATURES.contains(&name(parameter).as_str()));
    let counts = |parameter: &&str| {
        let name = name(parameter);
        let name = name.as_str();
        !(is_signed
            && (SIGNATURES.contains(&name)
                || WITH_THEM.contains(&name)
                || name.starts_with("x-amz-")
                || name.starts_with("x-goog-")))
    };
    query.split('&').filter(counts).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> String {
        fingerprint(&Address::parse(address).expect(address), "")
    }

    #[test]
    fn an_address_signed_anew_is_the_same_and_another_object_is_not() {
        let same = [
            "https://u:p@h/o?X-Amz-Date=1&X-Amz-Signature=2&versionId=3",
            "https://h/o?versionId=3&X-Amz-Date=4&X-Amz-Signature=5&X-Amz-Security-Token=6#f",
            "HTTPS://H:443/o?versionId=3",
        ];
        for address in same {
            assert_eq!(of(address), of(same[0]), "{address}");
        }
        for other in [
            "https://h/o",
            "https://h/o?versionId=4",
            "https://h/p?versionId=3",
            "https://i/o?versionId=3",
            "https://h:444/o?versionId=3",
            "http://h:443/o?versionId=3",
        ] {
            assert_ne!(of(other), of(same[0]), "{other}");
        }
        // Without a signature, short names are names like any other.
        assert_ne!(of("http://h/o?st=1"), of("http://h/o?st=2"));
        assert_eq!(of("http://h/o?st=1&sig=3"), of("http://h/o?st=2&sig=4"));
        assert_eq!(of("http://h/o?st=1&sig=3"), of("http://h/o"));
        assert_eq!(of("http://h"), of("http://u:p@h/#f"));
        assert_ne!(of("ais://b/o?a&sig=1"), of("ais://b/o?a&sig=2"));
        assert_ne!(of("/a?sig=1"), of("/a?sig=2"));
    }

    #[test]
    fn what_a_parser_would_take_for_the_same_is_another_object() {
        for (one, other) in [
            ("s3://b/k#1", "s3://b/k#2"),
            ("gs://b/k#1", "gs://b/k"),
            ("az://c/a//k", "az://c/a/k"),
            ("s3://b/K", "s3://b/k"),
            ("http://h/dir\\o", "http://h/dir/o"),
            ("http://h/v1/../o", "http://h/o"),
            ("http://h/./o", "http://h/o"),
            ("http://h/%2e%2e/o", "http://h/o"),
            ("http://h/o?", "http://h/o"),
            ("http://h/o?a\\b", "http://h/o?a/b"),
            ("file:///a%ff", "file:///a%fe"),
        ] {
            assert_ne!(of(one), of(other), "{one} and {other}");
        }
        assert_eq!(of("S3://b/k"), of("s3://b/k"));
    }

    #[test]
    fn the_same_name_elsewhere_is_another_object() {
        let address = Address::parse("ais://b/o").expect("an address");
        let at = |place: &str| fingerprint(&address, place);
        assert_eq!(at("http://one"), at("http://one"));
        assert_ne!(at("http://one"), at("http://two"));
        assert_ne!(at("http://one"), at(""));
        let place_of =
            |address: &str, place| fingerprint(&Address::parse(address).expect("an address"), place);
        assert_ne!(place_of("s3://b/o", "x"), place_of("s3://b/ox", ""));
    }
}
