//! Which transport an address means. Pure; called by the builder and by the program.

use std::{fmt, path::PathBuf};

use pget_core::{Error, ErrorKind};
use url::Url;

/// An address, by transport.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// `ais://…`, as written.
    Aistore(String),
    /// `s3://…`, as written.
    S3(String),
    /// `gs://…`, as written.
    Gcs(String),
    /// `az://…`, as written.
    Azure(String),
    /// `http://…` or `https://…`, as written.
    Http(String),
    /// `file:///…` or a plain path.
    File(PathBuf),
}

const SCHEMES: [&str; 7] = ["ais", "s3", "gs", "az", "http", "https", "file"];

impl fmt::Debug for Address {
    /// The transport, and the path of a file without what looks like a credential. What follows the
    /// scheme of the others may be a password or a signature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Aistore(_) => "Aistore",
            Self::S3(_) => "S3",
            Self::Gcs(_) => "Gcs",
            Self::Azure(_) => "Azure",
            Self::Http(_) => "Http",
            Self::File(path) => {
                let name = pget_core::redact::name(&path.to_string_lossy());
                return f.debug_tuple("File").field(&name).finish();
            }
        };
        f.debug_struct(name).finish_non_exhaustive()
    }
}

impl Address {
    /// Finds the transport by the scheme; an address without one is a path.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an unknown scheme, a missing bucket or
    /// key, or control characters. The error does not repeat what may hold a credential.
    pub fn parse(address: &str) -> Result<Self, Error> {
        if address.is_empty() {
            return Err(invalid("the address is empty".into()));
        }
        if address.chars().any(char::is_control) {
            return Err(invalid("the address contains control characters".into()));
        }
        let Some((scheme, rest)) = address.split_once("://") else {
            return path(address);
        };
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            || !scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        {
            if lacks_its_scheme(address) {
                return Err(invalid(
                    "the address has a scheme that cannot be; a file of that name is ./NAME".into(),
                ));
            }
            return Ok(Self::File(PathBuf::from(address)));
        }
        let scheme = scheme.to_ascii_lowercase();
        let bucket_and_key = || check_bucket_and_key(&scheme, rest);
        match scheme.as_str() {
            "ais" => {
                if rest.is_empty() {
                    bucket_and_key()?;
                }
                Ok(Self::Aistore(address.to_owned()))
            }
            "s3" => bucket_and_key().map(|()| Self::S3(address.to_owned())),
            "gs" => bucket_and_key().map(|()| Self::Gcs(address.to_owned())),
            "az" => bucket_and_key().map(|()| Self::Azure(address.to_owned())),
            "http" | "https" => {
                let url = Url::parse(address)
                    .map_err(|error| invalid(format!("not a usable {scheme} address: {error}")))?;
                if url.host_str().is_none_or(str::is_empty) {
                    return Err(invalid(format!("the {scheme} address names no host")));
                }
                Ok(Self::Http(address.to_owned()))
            }
            "file" => file_url(rest),
            _ => {
                // A longer text is not a misspelt scheme, and is not repeated.
                let named = match scheme.len() {
                    ..=40 => format!("the scheme {scheme:?}"),
                    long => format!("a scheme of {long} characters"),
                };
                Err(invalid(format!(
                    "{named} is not known (known: ais, s3, gs, az, http, https, file, or a plain path)"
                )))
            }
        }
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, "", message)
}

/// An address without a scheme. Taken for a path, a slip of the pen would have its password in
/// messages, as paths are named in full.
fn path(address: &str) -> Result<Address, Error> {
    if let Some((scheme, _)) = address.split_once(':')
        && SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme))
    {
        return Err(invalid(format!(
            "{scheme}: needs two slashes after it (a file of that name is ./{scheme}:…)"
        )));
    }
    if lacks_its_scheme(address) {
        return Err(invalid(
            "the address has a password or a query, and no scheme (https://, …); a file of that name is ./NAME".into(),
        ));
    }
    Ok(Address::File(PathBuf::from(address)))
}

/// Parses the part of an address after `file://`.
fn file_url(rest: &str) -> Result<Address, Error> {
    let path = match rest.strip_prefix("localhost/") {
        Some(path) => format!("/{path}"),
        None if rest.starts_with('/') => rest.to_owned(),
        None => return Err(invalid("file:// needs an absolute path: file:///path".into())),
    };
    let path: Vec<u8> = percent_encoding::percent_decode_str(&path).collect();
    if path.contains(&0) {
        return Err(invalid("no path has a %00 in it".into()));
    }
    Ok(Address::File(PathBuf::from(os_string(path))))
}

fn check_bucket_and_key(scheme: &str, rest: &str) -> Result<(), Error> {
    let rest = rest.split('?').next().unwrap_or(rest);
    match rest.split_once('/') {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => Ok(()),
        Some((bucket, _)) if !bucket.is_empty() => Err(invalid(format!(
            "the {scheme} address names no object after its bucket"
        ))),
        _ => Err(invalid(format!(
            "{scheme}:// needs a bucket and an object: {scheme}://bucket/object"
        ))),
    }
}

/// Whether what would be a path is an address with a credential in it. A path that begins with a
/// slash or a dot, or is of a file that is there, is never one.
fn lacks_its_scheme(path: &str) -> bool {
    let is_path = path.starts_with("./") || path.starts_with("../");
    let is_absolute = path.starts_with('/') && !path.starts_with("//");
    !is_path && !is_absolute && pget_core::redact::name(path) != path && !PathBuf::from(path).exists()
}

fn os_string(bytes: Vec<u8>) -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        assert!(matches!(Address::parse("ais://b/o"), Ok(Address::Aistore(_))));
        assert!(matches!(Address::parse("S3://b/k"), Ok(Address::S3(_))));
        assert!(matches!(Address::parse("https://host/x?y"), Ok(Address::Http(_))));
        assert_eq!(
            Address::parse("file:///a%20b").expect("a path"),
            Address::File("/a b".into())
        );
        assert_eq!(
            Address::parse("file://localhost/a").expect("a path"),
            Address::File("/a".into())
        );
        assert_eq!(
            Address::parse("./a:b").expect("a path"),
            Address::File("./a:b".into())
        );
    }

    #[test]
    fn unusable_addresses_are_refused_without_repeating_them() {
        for address in [
            "",
            "s3://",
            "s3://b",
            "s3://b/",
            "s3:///k",
            "gs://b",
            "az://c/",
            "ais://",
            "http://",
            "https://?x",
            "ftp://h/x",
            "s3+x://b/k",
            "file://host/x",
            "file:///a%00b",
            "http://user:hunter2@",
            "s3://user:hunter2@b/",
            "http:/user:hunter2@h/x",
            "HTTPS:user:hunter2@h/x",
            "s3:user:hunter2@b/k",
            "s3://b/k\r\nX: y",
            "http://h/\0",
        ] {
            let error = Address::parse(address).expect_err(address);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{address}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn debug_shows_no_address() {
        for address in [
            "http://u:hunter2@h/x?hunter2",
            "s3://hunter2/k",
            "ais://b/o?hunter2",
        ] {
            let address = Address::parse(address).expect(address);
            assert!(!format!("{address:?}").contains("hunter2"), "{address:?}");
        }
    }
}
