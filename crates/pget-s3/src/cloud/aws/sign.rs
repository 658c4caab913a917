//! AWS's Signature Version 4, by header, for a time that the caller says.
//!
//! Source: "Create a signed AWS API request" of the IAM user guide. S3 takes the path as it is sent
//! for its canonical form, encoded once.
//!
//! Pure. Invariant: every header that is signed is one of those returned, so what is signed is
//! sent.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use pget_core::SourceError;
use ring::{digest, hmac};
use url::Url;

use crate::cloud::keys::{Keys, unusable};

/// What a signature is for, beside the request.
pub(crate) struct Scope<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) time: SystemTime,
    /// The name of the header that carries a session's token.
    pub(crate) token: HeaderName,
}

/// The header of a session's token, except for the sessions of S3 Express.
pub(crate) const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// Adds to `headers`, all of which are signed, those that sign the request.
///
/// # Errors
/// If a credential, the region or the time cannot stand in a header.
pub(crate) fn sign(
    method: &str,
    url: &Url,
    headers: &mut HeaderMap,
    content: &[u8],
    keys: &Keys,
    scope: &Scope<'_>,
) -> Result<(), SourceError> {
    let Keys::Aws { id, secret, token } = keys else {
        return Err(unusable("only keys of AWS sign for it"));
    };
    let time = Timestamp::try_from(scope.time)
        .map_err(|_| unusable("this machine's clock is beyond all dates"))?
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    let day = &time[..8];
    let content = hex(digest::digest(&digest::SHA256, content).as_ref());
    insert(headers, DATE, &time)?;
    insert(headers, CONTENT, &content)?;
    if let Some(token) = token {
        insert(headers, scope.token.clone(), token.expose())?;
    }
    let (names, lines) = canonical_headers(url, headers)?;
    let canonical = format!(
        "{method}\n{}\n{}\n{lines}\n{names}\n{content}",
        url.path(),
        canonical_query(url)
    );
    let within = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{within}\n{hash}");
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{}", secret.expose()).as_bytes());
    for part in [day, scope.region, scope.service, "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    let signature = hex(hmac::sign(&key, text.as_bytes()).as_ref());
    let value = format!(
        "AWS4-HMAC-SHA256 Credential={}/{within}, SignedHeaders={names}, Signature={signature}",
        id.expose()
    );
    insert(headers, header::AUTHORIZATION, &value)
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), SourceError> {
    let visible = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let mut value = HeaderValue::from_str(value)
        .ok()
        .filter(|_| visible)
        .ok_or_else(|| unusable("a credential or the region cannot stand in a header"))?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// Returns the names, joined, and the lines of all headers and the host.
fn canonical_headers(url: &Url, headers: &HeaderMap) -> Result<(String, String), SourceError> {
    let host = url.host_str().unwrap_or_default();
    let host = url
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let mut all = vec![("host".to_owned(), host)];
    for (name, value) in headers {
        let value = value
            .to_str()
            .map_err(|_| unusable("a header that is to be signed is not text"))?;
        let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        all.push((name.as_str().to_owned(), value));
    }
    all.sort();
    let names = all
        .iter()
        .map(|(name, _)| name.as_str())
        .collect::<Vec<_>>()
        .join(";");
    let lines = all
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    Ok((names, lines))
}

/// Returns the query's pairs, encoded again and sorted.
fn canonical_query(url: &Url) -> String {
    let Some(query) = url.query() else {
        return String::new();
    };
    let mut pairs: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            format!("{}={}", again(name), again(value))
        })
        .collect();
    pairs.sort();
    pairs.join("&")
}

/// Encodes what is encoded in any way as signatures want it.
fn again(text: &str) -> String {
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
    percent_encoding::percent_encode(&bytes, &crate::address::VALUE).to_string()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cloud::keys::Secret;

    /// "Examples: Signature calculations" of the Amazon S3 API reference.
    #[test]
    fn the_documentations_signature_comes_out() {
        let url = Url::parse("https://examplebucket.s3.amazonaws.com/test.txt").expect("a URL");
        let keys = Keys::Aws {
            id: Secret::new("AKIAIOSFODNN7EXAMPLE"),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            token: None,
        };
        let scope = Scope {
            service: "s3",
            region: "us-east-1",
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600),
            token: TOKEN,
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-9"));
        sign("GET", &url, &mut headers, b"", &keys, &scope).expect("it signs");
        let value = headers[header::AUTHORIZATION].to_str().expect("text");
        assert!(
            value.ends_with("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
            "{value}"
        );
        assert!(headers.values().skip(1).all(HeaderValue::is_sensitive));
    }

    #[test]
    fn a_query_is_encoded_once_and_sorted() {
        for (given, wanted) in [
            ("b=2&a=1", "a=1&b=2"),
            ("versionId=a%2Fb%3d", "versionId=a%2Fb%3D"),
            ("versionId=x==", "versionId=x%3D%3D"),
            ("session", "session="),
            ("a=b+c d", "a=b%2Bc%20d"),
        ] {
            let url = Url::parse(&format!("http://h/k?{given}")).expect("a URL");
            assert_eq!(canonical_query(&url), wanted, "{given}");
        }
    }
}
