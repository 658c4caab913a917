//! The address of an object: `s3://bucket/key`, `gs://bucket/key`, `az://container/key`, with an
//! optional version.
//!
//! Pure. Invariant: a key is either read as exactly these bytes or refused; nothing is normalised
//! away.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use pget_core::{Error, ErrorKind};

use crate::arn::Arn;

/// What is encoded in a path: all but what RFC 3986 calls unreserved, and slashes. That is the
/// encoding of signatures ("Create a signed AWS API request" of the IAM user guide).
pub(crate) const PATH: AsciiSet = VALUE.remove(b'/');
/// What is encoded in a query's value, or in one segment of a path.
pub(crate) const VALUE: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Whose API an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cloud {
    Aws,
    Google,
    Azure,
}

/// One object, perhaps of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) cloud: Cloud,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) version: Option<String>,
    /// As given, for messages.
    pub(crate) text: String,
}

impl Address {
    /// Reads an address. The grammar is that of [`S3Source::open`](crate::S3Source::open).
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |why: String| Error::new(ErrorKind::InvalidArgument, shown(text), why);
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(refuse("an address begins with s3://, gs:// or az://".into()));
        };
        let cloud = match scheme.to_ascii_lowercase().as_str() {
            "s3" | "s3a" => Cloud::Aws,
            "gs" => Cloud::Google,
            "az" => Cloud::Azure,
            _ => return Err(refuse(format!("{scheme}:// is not one of s3://, gs://, az://"))),
        };
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        let Some((bucket, key)) = split(cloud, place) else {
            return Err(refuse("the address has no key after the bucket".into()));
        };
        check_bucket(cloud, bucket).map_err(refuse)?;
        let key = decode(key).map_err(refuse)?;
        check_key(&key).map_err(refuse)?;
        let version = match query {
            Some(query) => Some(version_of(cloud, query).map_err(refuse)?),
            None => None,
        };
        Ok(Self {
            cloud,
            bucket: bucket.to_owned(),
            key,
            version,
            text: shown(text),
        })
    }
}

/// Splits a bucket, or the ARN of an access point, from the key.
fn split(cloud: Cloud, place: &str) -> Option<(&str, &str)> {
    if cloud == Cloud::Aws && place.starts_with("arn:") {
        let (arn, rest) = place.split_at(Arn::length(place)?);
        return Some((arn, &rest[1..]));
    }
    place.split_once('/')
}

/// Checks that nothing but a name can stand in a URL's host or path.
fn check_bucket(cloud: Cloud, bucket: &str) -> Result<(), String> {
    // S3's naming rules, and `_` for old buckets; those of the others allow less.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '$');
    let is_name = |name: &str| !name.is_empty() && name.chars().all(plain) && !name.chars().all(|c| c == '.');
    if cloud == Cloud::Aws && bucket.starts_with("arn:") {
        return Arn::parse(bucket).map(|_| ());
    }
    let right = match bucket.split_once(':').filter(|_| cloud == Cloud::Aws) {
        // Ceph's tenants.
        Some((tenant, bucket)) => (tenant.is_empty() || is_name(tenant)) && is_name(bucket),
        None => is_name(bucket),
    };
    if right {
        Ok(())
    } else {
        Err("what stands before the key is no name of a bucket".into())
    }
}

fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("the address has no key after the bucket".into());
    }
    // The limit of S3 and of the others.
    if key.len() > 1024 {
        return Err(format!("the key has {} bytes, more than 1024", key.len()));
    }
    if key.chars().any(|c| c.is_ascii_control()) {
        return Err("the key has control characters".into());
    }
    // RFC 3986 section 5.2.4 has clients take such segments away, and every URL library does:
    // another object would be read.
    if key.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("a key with . or .. between slashes cannot be asked for over HTTP".into());
    }
    Ok(())
}

fn version_of(cloud: Cloud, query: &str) -> Result<String, String> {
    let name = match cloud {
        Cloud::Aws => "versionId",
        Cloud::Google => "generation",
        Cloud::Azure => {
            return Err("nothing may follow the key of an Azure blob; a ? in a key is written %3F".into());
        }
    };
    match query.split_once('=') {
        Some((key, value)) if key == name && !value.is_empty() && !value.contains('&') => {
            let version = decode(value)?;
            if version.chars().any(|c| c.is_ascii_control()) {
                return Err("the version has control characters".into());
            }
            Ok(version)
        }
        _ => Err(format!(
            "only ?{name}=… may follow the key; a ? in a key is written %3F"
        )),
    }
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit())) {
            Some(two) => bytes.push(u8::from_str_radix(two, 16).map_err(|error| error.to_string())?),
            None => return Err("a % in a key is written %25".into()),
        }
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| "the key is not UTF-8".into())
}

/// For messages: without control characters, not endless. What may stand after `?` is no secret
/// unless it is misplaced, so only a version is shown.
fn shown(text: &str) -> String {
    let (place, query) = match text.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (text, None),
    };
    // Credentials in an address (user:password@) are refused as a bucket's name, and not repeated.
    let place = match place.split_once("://") {
        Some((scheme, rest)) => {
            let (bucket, key) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            match bucket.rsplit_once('@') {
                Some((_, host)) => format!("{scheme}://…@{host}{key}"),
                None => place.to_owned(),
            }
        }
        None => place.to_owned(),
    };
    let mut out = clip(&place);
    if let Some(query) = query {
        let known = query.starts_with("versionId=") || query.starts_with("generation=");
        out.push_str(&if known && !query.contains('&') {
            format!("?{}", clip(query))
        } else {
            "?…".into()
        });
    }
    out
}

fn clip(text: &str) -> String {
    text.chars()
        .take(1100)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> String {
        Address::parse(text).expect(text).key
    }

    #[test]
    fn keys_are_taken_byte_for_byte() {
        for (given, meant) in [
            ("s3://b/a+b c", "a+b c"),
            ("s3://b/a%20b%2Bc", "a b+c"),
            ("s3://b/%2541", "%41"),
            ("s3://b/dir//dbl", "dir//dbl"),
            ("s3://b//lead", "/lead"),
            ("s3://b/trail/", "trail/"),
            ("s3://b/what%3f#x@y", "what?#x@y"),
            ("s3://b/ä€𝄞/%C3%A4", "ä€𝄞/ä"),
            ("s3://b/..a/.b/c..", "..a/.b/c.."),
        ] {
            assert_eq!(key(given), meant);
        }
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused() {
        let long = format!("s3://b/{}", "k".repeat(1025));
        for given in [
            "b/k",
            "http://b/k",
            "s3://b",
            "s3://b/",
            "s3:///k",
            "s3://b/../k",
            "s3://b/a/./k",
            "s3://b/%2e%2E/k",
            "s3://b/50%",
            "s3://b/%zz",
            "s3://b/%+1",
            "s3://b/%ff",
            "s3://b/a%00b",
            "s3://b/a\nb",
            "s3://b/k?x=1",
            "s3://b/k?",
            "s3://b/k?versionId=",
            "s3://b/k?versionId=1%0a",
            "s3://b/k?versionId=1&x=2",
            "az://b/k?versionId=1",
            "s3://a:b@c/k",
            "s3://b#/k",
            "s3://../k",
            &long,
        ] {
            let error = Address::parse(given).expect_err(given);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{given}");
        }
    }

    #[test]
    fn versions_are_told_apart_from_keys() {
        let address = Address::parse("s3://b/k?versionId=a%2Fb").expect("an address");
        assert_eq!(address.version.as_deref(), Some("a/b"));
        assert_eq!(address.text, "s3://b/k?versionId=a%2Fb");
        let address = Address::parse("gs://b/k?generation=12").expect("an address");
        assert_eq!(
            (address.cloud, address.version.as_deref()),
            (Cloud::Google, Some("12"))
        );
    }

    #[test]
    fn messages_show_no_credential() {
        for given in [
            "s3://user:canary@b/k",
            "s3://b/k?X-Amz-Signature=canary",
            "s3://b/k?versionId=1&sig=canary",
        ] {
            let error = Address::parse(given).expect_err(given);
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_bucket_may_have_a_tenant_or_be_an_access_point() {
        for (given, bucket, key) in [
            ("s3://tenant:bucket/k", "tenant:bucket", "k"),
            ("s3://:bucket/k", ":bucket", "k"),
            (
                "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/a/b",
                "arn:aws:s3:eu-west-1:123456789012:accesspoint/ap",
                "a/b",
            ),
        ] {
            let address = Address::parse(given).expect(given);
            assert_eq!(
                (address.bucket.as_str(), address.key.as_str()),
                (bucket, key),
                "{given}"
            );
        }
        for given in [
            "gs://a:b/k",
            "s3://a:b:c/k",
            "s3://a:/k",
            "s3://arn:aws:ec2:r:1:accesspoint/ap/k",
        ] {
            assert!(Address::parse(given).is_err(), "{given}");
        }
    }

    #[test]
    fn a_version_may_end_as_base64_does() {
        for given in ["s3://b/k?versionId=3HL4d==", "s3://b/k?versionId=3HL4d%3D%3D"] {
            let address = Address::parse(given).expect(given);
            assert_eq!(address.version.as_deref(), Some("3HL4d=="));
        }
    }
}
