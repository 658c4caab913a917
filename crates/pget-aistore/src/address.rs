//! `ais://` addresses and the URLs that they mean on the wire. Pure; called by the source.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use pget_core::{Error, ErrorKind};
use url::Url;

/// What stays as it is in a path: unreserved characters (RFC 3986 section 2.3) and the slash.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');
/// The same without the slash, for query values.
const VALUE: &AsciiSet = &PATH.add(b'/');

/// A bucket: its name, its namespace and the backend that it fronts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket's name.
    pub name: String,
    /// `@uuid#name`, as AIStore writes it; `None`: the global namespace.
    pub namespace: Option<String>,
    /// `ais`, `aws`, `gcp`, `azure`, `oci` or `ht`.
    pub provider: String,
}

impl Bucket {
    /// Whether its objects may live only in a backend until they are read.
    #[must_use]
    pub fn can_be_cold(&self) -> bool {
        self.provider != "ais"
            || self
                .namespace
                .as_ref()
                .is_some_and(|namespace| namespace.starts_with('@'))
    }

    /// The bucket's URL at `endpoint`.
    ///
    /// # Errors
    /// As of [`ObjectAddress::url`].
    pub(crate) fn url(&self, endpoint: &Url) -> Result<Url, Error> {
        let path = format!("buckets/{}", utf8_percent_encode(&self.name, VALUE));
        self.url_of(endpoint, &path, &[])
    }

    fn url_of(&self, endpoint: &Url, path: &str, query: &[(&str, &str)]) -> Result<Url, Error> {
        if endpoint.query().is_some() || endpoint.fragment().is_some() {
            let message =
                "the AIStore endpoint must end with its host or a path: it has a query or a fragment";
            return Err(Error::new(ErrorKind::InvalidArgument, "", message));
        }
        let base = endpoint.as_str().trim_end_matches('/');
        let mut text = format!("{base}/v1/{path}?provider={}", self.provider);
        let namespace = self
            .namespace
            .as_deref()
            .map(|namespace| ("namespace", namespace));
        for (key, value) in namespace.iter().chain(query) {
            text.push_str(&format!("&{key}={}", utf8_percent_encode(value, VALUE)));
        }
        Url::parse(&text).map_err(|cause| {
            let message = "not a usable AIStore endpoint";
            Error::with_cause(ErrorKind::InvalidArgument, "", message, cause)
        })
    }
}

/// An object in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectAddress {
    /// Where it is.
    pub bucket: Bucket,
    /// Its name, byte by byte as stored (nothing in the address is percent-decoded).
    pub object: String,
}

impl ObjectAddress {
    /// Reads `ais://bucket/object` or `ais://@alias#namespace/bucket/object`. The provider is `ais`
    /// unless `provider` says otherwise.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the bucket or the object is missing, or
    /// the provider is not known.
    pub fn parse(address: &str, provider: Option<&str>) -> Result<Self, Error> {
        let invalid = |message: &str| Error::new(ErrorKind::InvalidArgument, "", message);
        let rest = match address.get(..6) {
            Some(scheme) if scheme.eq_ignore_ascii_case("ais://") => &address[6..],
            _ => return Err(invalid("an AIStore address begins with ais://")),
        };
        let provider = match provider.unwrap_or("ais") {
            "" => "ais",
            known @ ("ais" | "aws" | "gcp" | "azure" | "oci" | "ht") => known,
            "s3" => "aws",
            "gs" => "gcp",
            "az" => "azure",
            other => {
                return Err(invalid(&format!(
                    "ais.provider {other:?} is not known (known: ais, aws, gcp, azure, oci, ht)"
                )));
            }
        };
        let (namespace, rest) = if rest.starts_with(['@', '#']) {
            let (namespace, rest) = rest
                .split_once('/')
                .ok_or_else(|| invalid("the address has a namespace and no bucket"))?;
            (Some(namespace.to_owned()), rest)
        } else {
            (None, rest)
        };
        let (bucket, object) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || object.is_empty() {
            return Err(invalid(
                "an AIStore address needs a bucket and an object: ais://bucket/object",
            ));
        }
        // In a path it would lead elsewhere than to objects.
        if bucket == "." || bucket == ".." {
            return Err(invalid("a bucket cannot be named with dots alone"));
        }
        let bucket = Bucket {
            name: bucket.to_owned(),
            namespace,
            provider: provider.to_owned(),
        };
        Ok(Self {
            bucket,
            object: object.to_owned(),
        })
    }

    /// The object's URL at `endpoint`, with `query` after provider and namespace.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the endpoint cannot have a path, or has
    /// more than that.
    pub(crate) fn url(&self, endpoint: &Url, query: &[(&str, &str)]) -> Result<Url, Error> {
        let path = format!(
            "objects/{}/{}",
            utf8_percent_encode(&self.bucket.name, VALUE),
            utf8_percent_encode(&self.object, PATH),
        );
        self.bucket.url_of(endpoint, &path, query)
    }

    /// Returns whether `url`, of any host and after any path prefix, names this object. Servers
    /// encode names in their own way.
    pub(crate) fn is_at(&self, url: &Url) -> bool {
        let path: Vec<u8> = percent_decode_str(url.path()).collect();
        let marker = b"/v1/objects/";
        // The first such part: the name of another object may end like this one's address.
        let marked = path.windows(marker.len()).position(|part| part == marker);
        marked.is_some_and(|at| {
            path[at + marker.len()..] == *format!("{}/{}", self.bucket.name, self.object).as_bytes()
        })
    }

    /// Whether a URL can mean this object: the URL standard resolves dot segments also where they
    /// are percent-encoded.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.object.split('/').any(|part| part == "." || part == "..") {
            let message = "an object name with a '.' or '..' part cannot be asked for: servers and clients resolve it away";
            return Err(Error::new(ErrorKind::Unsupported, self.to_string(), message));
        }
        if self.object.contains(['\r', '\n', '\0']) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "",
                "the object's name contains control characters",
            ));
        }
        Ok(())
    }
}

impl fmt::Display for ObjectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = &self.bucket.provider;
        match &self.bucket.namespace {
            Some(namespace) => write!(f, "{scheme}://{namespace}/{}/{}", self.bucket.name, self.object),
            None => write!(f, "{scheme}://{}/{}", self.bucket.name, self.object),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> ObjectAddress {
        ObjectAddress::parse(address, None).expect("usable")
    }

    #[test]
    fn addresses() {
        let plain = parse("ais://b/dir/o");
        assert_eq!(
            (plain.bucket.name.as_str(), plain.object.as_str()),
            ("b", "dir/o")
        );
        assert!(!plain.bucket.can_be_cold());
        let remote = parse("ais://@alias#ns/b/o");
        assert_eq!(remote.bucket.namespace.as_deref(), Some("@alias#ns"));
        assert!(remote.bucket.can_be_cold());
        assert!(!parse("ais://#ns/b/o").bucket.can_be_cold());
        for address in [
            "ais://",
            "ais://b",
            "ais://b/",
            "ais:///o",
            "ais://../o",
            "ais://./o",
            "ais://@a#n/../o",
            "ais://@alias#ns",
            "ais://@alias/b",
            "s3://b/o",
        ] {
            let error = ObjectAddress::parse(address, None).expect_err(address);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{address}");
        }
        assert!(ObjectAddress::parse("ais://b/o", Some("ftp")).is_err());
    }

    #[test]
    fn every_byte_of_the_name_is_encoded() {
        let endpoint = Url::parse("http://localhost:51080/").expect("a URL");
        let url = parse("ais://b/dir/a b#c?d%41+é")
            .url(&endpoint, &[("props", "size,etag")])
            .expect("a URL");
        assert_eq!(
            url.as_str(),
            "http://localhost:51080/v1/objects/b/dir/a%20b%23c%3Fd%2541%2B%C3%A9?provider=ais&props=size%2Cetag"
        );
        let url = parse("ais://@u#n/b/o").url(&endpoint, &[]).expect("a URL");
        assert_eq!(
            url.as_str(),
            "http://localhost:51080/v1/objects/b/o?provider=ais&namespace=%40u%23n"
        );
    }

    #[test]
    fn endpoints_with_ipv6_prefix_and_slash() {
        for (endpoint, expected) in [
            (
                "http://[::1]:51080",
                "http://[::1]:51080/v1/objects/b/o?provider=ais",
            ),
            (
                "https://gate/ais/",
                "https://gate/ais/v1/objects/b/o?provider=ais",
            ),
            (
                "https://gate/ais//",
                "https://gate/ais/v1/objects/b/o?provider=ais",
            ),
        ] {
            let endpoint = Url::parse(endpoint).expect("a URL");
            let url = parse("ais://b/o").url(&endpoint, &[]).expect("a URL");
            assert_eq!(url.as_str(), expected);
        }
        for bad in ["http://h/?a=b", "http://h/#f", "http://h?"] {
            let endpoint = Url::parse(bad).expect("a URL");
            assert!(parse("ais://b/o").url(&endpoint, &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_location_of_another_object_is_told() {
        let at = |name: &str, url: &str| parse(name).is_at(&Url::parse(url).expect("a URL"));
        assert!(at("ais://b/a b#c", "http://t/v1/objects/b/a%20b%23c?pid=p"));
        assert!(at("ais://b/é+%", "http://t/prefix/v1/objects/b/%c3%a9+%25"));
        assert!(at("ais://b/a//b", "http://t/v1/objects/b/a//b"));
        assert!(!at("ais://b/a//b", "http://t/v1/objects/b/a/b"));
        assert!(!at("ais://b/a", "http://t/v1/objects/b/x/a"));
        assert!(!at("ais://b/a", "http://t/v1/objects/x/v1/objects/b/a"));
        assert!(at(
            "ais://x/v1/objects/b/a",
            "http://t/v1/objects/x/v1/objects/b/a"
        ));
    }

    #[test]
    fn names_that_the_url_cannot_carry_are_refused() {
        assert!(parse("ais://b/a/../c").check().is_err());
        assert!(parse("ais://b/./c").check().is_err());
        assert!(parse("ais://b/..c").check().is_ok());
    }
}
