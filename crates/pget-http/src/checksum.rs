//! The whole object's checksum, as the headers of object stores publish it. Pure; called by the
//! sources that speak HTTP.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::HeaderMap;
use pget_core::{
    Published,
    verify::{Algorithm, Digest},
};

/// S3's headers, those that cost least to verify first.
const AMAZON: [(&str, Algorithm); 5] = [
    ("x-amz-checksum-crc64nvme", Algorithm::Crc64Nvme),
    ("x-amz-checksum-crc32c", Algorithm::Crc32c),
    ("x-amz-checksum-crc32", Algorithm::Crc32),
    ("x-amz-checksum-sha256", Algorithm::Sha256),
    ("x-amz-checksum-sha1", Algorithm::Sha1),
];

/// What Google Cloud Storage says, on every answer, of the whole object: `x-goog-hash:
/// crc32c=…,md5=…`, in base64.
///
/// Of an object that is stored compressed, the hash is that of the stored bytes: `None`, unless
/// they are sent as they are. Source: "HTTP headers and common query string parameters for XML API"
/// and "Transcoding of gzip-compressed files" of the Cloud Storage documentation.
#[must_use]
pub fn google_checksum(headers: &HeaderMap) -> Option<Published> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let stored = text("x-goog-stored-content-encoding").unwrap_or("identity");
    if stored != "identity" && text("content-encoding") != Some(stored) {
        return None;
    }
    let hashes = || {
        headers
            .get_all("x-goog-hash")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|hash| hash.trim().split_once('='))
    };
    [("crc32c", Algorithm::Crc32c), ("md5", Algorithm::Md5)]
        .into_iter()
        .find_map(|(name, algorithm)| {
            let values = hashes().filter(|(key, _)| key.eq_ignore_ascii_case(name));
            let value = undisputed(values.map(|(_, value)| Some(value)))?;
            decode(algorithm, value).map(Published::Whole)
        })
}

/// What S3 says of the whole object in the answer to HEAD, or to a GET of all of it, with
/// `x-amz-checksum-mode: ENABLED`: `x-amz-checksum-*` in base64, with `x-amz-checksum-type:
/// FULL_OBJECT` or `COMPOSITE`; before there were types, a composite one ended with `-` and the
/// number of parts. Source: "Checking object integrity in Amazon S3" of the Amazon S3 user guide.
#[must_use]
pub fn amazon_checksum(headers: &HeaderMap) -> Option<Published> {
    let typed = headers
        .get_all("x-amz-checksum-type")
        .iter()
        .any(|kind| kind.as_bytes().eq_ignore_ascii_case(b"COMPOSITE"));
    let is_composite = |value: &str| typed || value.contains('-');
    let told = || {
        AMAZON.into_iter().filter_map(|(name, algorithm)| {
            let values = headers.get_all(name).iter().map(|value| value.to_str().ok());
            undisputed(values).map(|value| (algorithm, value))
        })
    };
    // A composite one cannot be verified, so any other comes before it.
    let whole = told()
        .filter(|(_, value)| !is_composite(value))
        .find_map(|(algorithm, value)| decode(algorithm, value));
    whole.map(Published::Whole).or_else(|| {
        let (algorithm, _) = told().find(|(_, value)| is_composite(value))?;
        Some(Published::Composite(algorithm))
    })
}

/// What all of them say; `None` if they contradict each other, as nothing shows which of them is
/// right.
fn undisputed<'a>(mut values: impl Iterator<Item = Option<&'a str>>) -> Option<&'a str> {
    let first = values.next()??;
    values.all(|other| other == Some(first)).then_some(first)
}

/// The MD5 that an S3 ETag is: of an object that was put in one request and is not encrypted under
/// a key of its own. Nothing shows that for sure, so it serves reads that require verification.
/// Source: "Object" (ETag) of the Amazon S3 API reference.
#[must_use]
pub fn amazon_etag(headers: &HeaderMap) -> Option<Published> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let by_key = text("x-amz-server-side-encryption").is_some_and(|kind| kind.starts_with("aws:"))
        || headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
    if by_key {
        return None;
    }
    let etag = text("etag")?.trim().strip_prefix('"')?.strip_suffix('"')?;
    Digest::from_hex(Algorithm::Md5, etag).map(Published::Whole)
}

fn decode(algorithm: Algorithm, text: &str) -> Option<Digest> {
    Digest::from_bytes(algorithm, &BASE64_STANDARD.decode(text.trim()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut all = HeaderMap::new();
        for (name, value) in list {
            all.append(*name, value.parse().expect("a value"));
        }
        all
    }

    fn told(published: Option<Published>) -> String {
        match published {
            Some(Published::Whole(digest)) => digest.to_string(),
            Some(Published::Composite(algorithm)) => format!("composite {algorithm}"),
            None => "nothing".into(),
        }
    }

    #[test]
    fn google() {
        // crc32c and MD5 of "123456789".
        let (crc, md5) = ("crc32c=4waSgw==", "md5=JfnnlDI7RTiF9RgfG2JNCw==");
        for (list, expected) in [
            (
                vec![("x-goog-hash", "crc32c=4waSgw==,md5=JfnnlDI7RTiF9RgfG2JNCw==")],
                "crc32c e3069283",
            ),
            (
                vec![("x-goog-hash", md5), ("x-goog-hash", crc)],
                "crc32c e3069283",
            ),
            (vec![("x-goog-hash", md5)], "md5 25f9e794323b453885f5181f1b624d0b"),
            (vec![("x-goog-hash", "crc32c=4waSgw=")], "nothing"),
            (
                vec![("x-goog-hash", crc), ("x-goog-hash", crc)],
                "crc32c e3069283",
            ),
            (
                vec![
                    ("x-goog-hash", crc),
                    ("x-goog-hash", "crc32c=AAAAAA=="),
                    ("x-goog-hash", md5),
                ],
                "md5 25f9e794323b453885f5181f1b624d0b",
            ),
            (vec![("x-goog-hash", "crc32c=!")], "nothing"),
            (vec![("x-goog-hash", "crc32c")], "nothing"),
            (vec![], "nothing"),
            (
                vec![
                    ("x-goog-hash", crc),
                    ("x-goog-stored-content-encoding", "identity"),
                ],
                "crc32c e3069283",
            ),
            (
                vec![("x-goog-hash", crc), ("x-goog-stored-content-encoding", "gzip")],
                "nothing",
            ),
            (
                vec![
                    ("x-goog-hash", crc),
                    ("x-goog-stored-content-encoding", "gzip"),
                    ("content-encoding", "gzip"),
                ],
                "crc32c e3069283",
            ),
        ] {
            assert_eq!(told(google_checksum(&headers(&list))), expected, "{list:?}");
        }
    }

    #[test]
    fn amazon() {
        for (list, expected) in [
            (
                vec![("x-amz-checksum-crc64nvme", "rosUhgp5mIg=")],
                "crc64nvme ae8b14860a799888",
            ),
            (
                vec![
                    ("x-amz-checksum-crc32c", "4waSgw=="),
                    ("x-amz-checksum-type", "FULL_OBJECT"),
                ],
                "crc32c e3069283",
            ),
            (vec![("x-amz-checksum-crc32", "y/Q5Jg==")], "crc32 cbf43926"),
            (vec![("x-amz-checksum-crc32c", "4waSgw==-3")], "composite crc32c"),
            (
                vec![
                    ("x-amz-checksum-sha256", "4waSgw=="),
                    ("x-amz-checksum-type", "COMPOSITE"),
                ],
                "composite sha256",
            ),
            (vec![("x-amz-checksum-crc32c", "4waSgw")], "nothing"),
            // What is whole comes before what costs less and is of the parts.
            (
                vec![
                    ("x-amz-checksum-crc32c", "4waSgw==-3"),
                    ("x-amz-checksum-crc32", "y/Q5Jg=="),
                ],
                "crc32 cbf43926",
            ),
            (
                vec![
                    ("x-amz-checksum-crc32c", "4waSgw==-3"),
                    ("x-amz-checksum-crc32", "y/Q5Jg=="),
                    ("x-amz-checksum-type", "COMPOSITE"),
                ],
                "composite crc32c",
            ),
            (
                vec![
                    ("x-amz-checksum-crc32c", "4waSgw"),
                    ("x-amz-checksum-crc32", "y/Q5Jg=="),
                ],
                "crc32 cbf43926",
            ),
            // Twice the same, and twice something else.
            (
                vec![
                    ("x-amz-checksum-crc32", "y/Q5Jg=="),
                    ("x-amz-checksum-crc32", "y/Q5Jg=="),
                ],
                "crc32 cbf43926",
            ),
            (
                vec![
                    ("x-amz-checksum-crc32", "y/Q5Jg=="),
                    ("x-amz-checksum-crc32", "4waSgw=="),
                ],
                "nothing",
            ),
            (vec![("etag", "\"25f9e794323b453885f5181f1b624d0b\"")], "nothing"),
        ] {
            assert_eq!(told(amazon_checksum(&headers(&list))), expected, "{list:?}");
        }
    }

    #[test]
    fn an_etag_that_is_an_md5() {
        let md5 = ("etag", "\"25f9e794323b453885f5181f1b624d0b\"");
        for (list, expected) in [
            (vec![md5], "md5 25f9e794323b453885f5181f1b624d0b"),
            (
                vec![md5, ("x-amz-server-side-encryption", "AES256")],
                "md5 25f9e794323b453885f5181f1b624d0b",
            ),
            (vec![md5, ("x-amz-server-side-encryption", "aws:kms")], "nothing"),
            (
                vec![md5, ("x-amz-server-side-encryption-customer-algorithm", "AES256")],
                "nothing",
            ),
            (
                vec![("etag", "\"25f9e794323b453885f5181f1b624d0b-3\"")],
                "nothing",
            ),
            (
                vec![("etag", "W/\"25f9e794323b453885f5181f1b624d0b\"")],
                "nothing",
            ),
            (vec![("etag", "\"\"")], "nothing"),
        ] {
            assert_eq!(told(amazon_etag(&headers(&list))), expected, "{list:?}");
        }
    }
}
