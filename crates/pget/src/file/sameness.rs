//! Whether what is asked for is the object that a part was begun with, told from addresses as a digest that gives away none of them. Pure.
//!
//! Invariants: nothing that changes from run to run counts (a signature, its time), nor any credential; whatever else stands in an address does, and so does the endpoint that it
//! leaves to the settings. Called by the front of this folder.

use sha2::{Digest, Sha256};

/// A digest of an address, and of the `place` where what it names is looked for: what tells one object from another and is no secret. User and password, the fragment, and the parameters of a signature (S3's, Google's,
/// CloudFront's and Azure's) do not count, so that a part can be continued with an address that was signed anew.
pub(super) fn digest(address: &str, place: &str) -> String {
    let mut hasher = Sha256::new();
    let web = ["http:", "https:", "s3:", "gs:", "az:"];
    let is_web = web.iter().any(|scheme| {
        address
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    match url::Url::parse(address) {
        Ok(mut url) if is_web => {
            // Fails where there is nothing of the kind.
            url.set_username("").and_then(|()| url.set_password(None)).ok();
            url.set_fragment(None);
            let query = url.query().map(unsigned);
            url.set_query(query.as_deref().filter(|query| !query.is_empty()));
            hasher.update(url.as_str());
        }
        // Of files and AIStore's objects, every byte is the name.
        _ => hasher.update(address),
    }
    // No address has a line's end in it.
    if !place.is_empty() {
        hasher.update("\n");
        hasher.update(place);
    }
    hex(hasher)
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

pub(super) fn hex(hasher: Sha256) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_signed_anew_is_the_same_and_another_object_is_not() {
        let same = [
            "https://u:p@h/o?X-Amz-Date=1&X-Amz-Signature=2&versionId=3",
            "https://h/o?versionId=3&X-Amz-Date=4&X-Amz-Signature=5&X-Amz-Security-Token=6#f",
            "https://h/o?versionId=3",
        ];
        for address in same {
            assert_eq!(digest(address, ""), digest(same[0], ""), "{address}");
        }
        for other in [
            "https://h/o",
            "https://h/o?versionId=4",
            "https://h/p?versionId=3",
            "https://i/o?versionId=3",
        ] {
            assert_ne!(digest(other, ""), digest(same[0], ""), "{other}");
        }
        // Without a signature, short names are names like any other.
        assert_ne!(digest("http://h/o?st=1", ""), digest("http://h/o?st=2", ""));
        assert_eq!(
            digest("http://h/o?st=1&sig=3", ""),
            digest("http://h/o?st=2&sig=4", "")
        );
        assert_ne!(digest("ais://b/o?a&sig=1", ""), digest("ais://b/o?a&sig=2", ""));
        assert_ne!(digest("/a?sig=1", ""), digest("/a?sig=2", ""));
    }

    #[test]
    fn the_same_name_elsewhere_is_another_object() {
        let at = |place: &str| digest("ais://b/o", place);
        assert_eq!(at("http://one"), at("http://one"));
        assert_ne!(at("http://one"), at("http://two"));
        assert_ne!(at("http://one"), at(""));
        assert_ne!(digest("s3://b/o", "x"), digest("s3://b/ox", ""));
    }
}
