//! Where a redirect may lead and what may go along.
//!
//! Pure. Invariants: never from https to http, never to a scheme other than these, never from
//! elsewhere to a link-local address (the metadata services of clouds live there), nor to a name
//! that stands for one, which is seen when it is looked up (see [`RequestHead::from_server`]); to
//! another origin go only headers that are plainly harmless, and a user and password in a
//! `Location` are never used.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use http::{HeaderMap, HeaderName, StatusCode, header};
use percent_encoding::{AsciiSet, percent_encode};
use pget_core::SourceError;
use url::{Host, Url};

use crate::{
    head::protocol,
    request::{RequestHead, redacted, strip_userinfo},
};

/// Redirects followed in a row.
pub(crate) const MOST_REDIRECTS: usize = 10;

/// Whether the status is a redirect that can be followed.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The `Location`, resolved against `from` and checked; several equal ones count as one.
pub(crate) fn location(from: &Url, headers: &HeaderMap) -> Result<Url, SourceError> {
    let mut values = headers.get_all(header::LOCATION).iter();
    let value = values
        .next()
        .ok_or_else(|| protocol("a redirect that does not say where to"))?;
    if values.any(|other| other.as_bytes().trim_ascii() != value.as_bytes().trim_ascii()) {
        return Err(protocol("a redirect to several places"));
    }
    // What is written in UTF-8 is encoded by the address's parser, a host's name in its own way.
    let value = value.as_bytes().trim_ascii();
    let text = match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => percent_encode(value, BEYOND_ASCII).into(),
    };
    let mut to = from
        .join(&literal(&text))
        .map_err(|cause| protocol("a redirect to no address").with_cause(cause))?;
    match (from.scheme(), to.scheme()) {
        ("https", "http") => {
            return Err(protocol(format!(
                "a redirect from https to {} is refused",
                redacted(&to)
            )));
        }
        (_, "http" | "https") => {}
        (_, scheme) => return Err(protocol(format!("a redirect to {scheme}: is refused"))),
    }
    if to.host().is_none() {
        return Err(protocol("a redirect to an address without a host"));
    }
    if to.host() != from.host() && is_link_local(&to) {
        return Err(protocol(format!(
            "a redirect to the link-local {} is refused",
            redacted(&to)
        )));
    }
    strip_userinfo(&mut to);
    Ok(to)
}

/// The bytes of an address in another encoding than UTF-8; ASCII is for the parser.
const BEYOND_ASCII: &AsciiSet = &AsciiSet::EMPTY;

/// The address with backslashes and tabs of its path encoded: they are bytes of a name there
/// (AIStore sends them as they are), while the URL standard would turn the one into slashes and
/// drop the other.
fn literal(text: &str) -> Cow<'_, str> {
    let authority = text.find("://").map_or(0, |at| at + 3);
    let path = text[authority..]
        .find('/')
        .map_or(text.len(), |at| authority + at);
    let query = text.find('?').unwrap_or(text.len());
    match text.get(path..query) {
        Some(name) if name.contains(['\\', '\t']) => {
            let name = name.replace('\\', "%5C").replace('\t', "%09");
            format!("{}{name}{}", &text[..path], &text[query..]).into()
        }
        _ => text.into(),
    }
}

fn is_link_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => is_metadata(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => is_metadata(IpAddr::V6(ip)),
        _ => false,
    }
}

/// Link-local addresses, however they are written, and the one of a metadata service that is not
/// link-local.
pub(crate) fn is_metadata(ip: IpAddr) -> bool {
    /// "Instance metadata service" of the EC2 user guide.
    const EC2: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local() || ip == EC2 || embedded(ip).is_some_and(|ip| ip.is_link_local())
        }
    }
}

/// The IPv4 address in an IPv6 one: mapped, compatible (RFC 4291 section 2.5.5), or of a
/// translator (RFC 6052 section 2.1).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b] = ip.segments();
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(Ipv4Addr::from_bits(u32::from(a) << 16 | u32::from(b))),
        _ => ip.to_ipv4(),
    }
}

/// Returns `head` as redirects to `hops` would have changed it, one after the other: a request for
/// the last one, with the headers that may go there.
pub(crate) fn along(head: &RequestHead, hops: &[Url]) -> Result<RequestHead, SourceError> {
    let mut request = head.clone();
    request.move_userinfo()?;
    for hop in hops {
        redirect_to(&mut request, hop.clone());
    }
    Ok(request)
}

/// Redirects `request` to `to`. Headers that identify the caller do not follow to another origin.
pub(crate) fn redirect_to(request: &mut RequestHead, to: Url) {
    if request.url.origin() != to.origin() {
        let names: Vec<HeaderName> = request.headers.keys().cloned().collect();
        for name in names {
            if !is_harmless(&name) || request.headers[&name].is_sensitive() {
                request.headers.remove(&name);
            }
        }
    }
    request.from_server |= request.url.host() != to.host();
    request.url = to;
    request.exact_path = None;
}

/// Headers that say nothing about who asks.
fn is_harmless(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::ACCEPT
            | header::ACCEPT_LANGUAGE
            | header::CACHE_CONTROL
            | header::IF_MATCH
            | header::IF_NONE_MATCH
            | header::IF_MODIFIED_SINCE
            | header::IF_UNMODIFIED_SINCE
            | header::IF_RANGE
            | header::USER_AGENT
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("an address")
    }

    fn go(from: &str, to: &'static str) -> Result<Url, SourceError> {
        let headers = HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_static(to))]);
        location(&url(from), &headers)
    }

    #[test]
    fn only_upwards_and_only_http() {
        assert_eq!(
            go("http://a/x/y", "../z?q").expect("relative").as_str(),
            "http://a/z?q"
        );
        assert_eq!(
            go("http://a/", "//b/z").expect("no scheme").as_str(),
            "http://b/z"
        );
        assert!(go("http://a/", "https://a/").is_ok());
        assert_eq!(
            go("http://a/", "http://u:p@b/").expect("another host").as_str(),
            "http://b/"
        );
        for bad in [
            "http://a/",
            "file:///etc/passwd",
            "unix:/run/x",
            "ftp://a/",
            "data:,x",
            "javascript:x",
            "http://",
            "https://169.254.169.254/latest",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://[::169.254.169.254]/",
            "https://[64:ff9b::169.254.169.254]/",
            "https://[fd00:ec2::254]/",
            "https://2852039166/",
            "https://0xa9.0376.43518/",
        ] {
            assert!(go("https://a/", bad).is_err(), "{bad}");
        }
        assert!(go("http://169.254.169.254/a", "/b").is_ok(), "its own choice");
        assert!(location(&url("http://a/"), &HeaderMap::new()).is_err());
    }

    #[test]
    fn case_116_what_should_have_been_encoded_is() {
        let go = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::LOCATION, HeaderValue::from_bytes(value).expect("a value"));
            }
            location(&url("http://a/x/"), &headers).map(|to| to.to_string())
        };
        for (location, to) in [
            (&b"/caf\xc3\xa9?q=\xc3\xa9"[..], "http://a/caf%C3%A9?q=%C3%A9"),
            (b"/caf\xe9", "http://a/caf%E9"),
            (b"/a b?c d", "http://a/a%20b?c%20d"),
            (b"a b", "http://a/x/a%20b"),
            (b"/a%20b", "http://a/a%20b"),
            (b" /a\t", "http://a/a"),
            (
                "http://m\u{fc}nchen.example/\u{e9}".as_bytes(),
                "http://xn--mnchen-3ya.example/%C3%A9",
            ),
        ] {
            assert_eq!(go(&[location]).expect("an address"), to);
        }
        assert_eq!(go(&[b"/b", b"/b "]).expect("one value"), "http://a/b");
        assert!(go(&[b"/b", b"/c"]).is_err());
    }

    #[test]
    fn bytes_of_a_name_stay_what_they_are() {
        for (location, path) in [
            ("http://b/a\\b\tc?q", "/a%5Cb%09c"),
            ("/x\\..\\y", "/x%5C..%5Cy"),
            ("http://b/%5c+\"<>{}|[]^`'", "/%5c+%22%3C%3E%7B%7D|[]%5E%60'"),
        ] {
            let to = go("http://b/", location).expect("an address");
            let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
            assert_eq!(decoded(to.path()), decoded(path), "{location}");
        }
        // Not a way to another host.
        let host = |location| go("http://a/", location).map(|to| to.host_str().map(str::to_owned));
        assert_eq!(host("http:\\\\b/x").ok().flatten().as_deref(), Some("b"));
        assert_eq!(host("http://b\\@c/x").ok().flatten().as_deref(), Some("b"));
    }

    #[test]
    fn another_origin_learns_nothing() {
        let request = || {
            let mut request = RequestHead::get(url("http://a:80/x"));
            for name in [
                "authorization",
                "cookie",
                "x-amz-security-token",
                "ais-token",
                "x-own",
                "if-match",
            ] {
                request
                    .headers
                    .insert(HeaderName::from_static(name), HeaderValue::from_static("v"));
            }
            request.headers.insert(header::ACCEPT, {
                let mut value = HeaderValue::from_static("secret");
                value.set_sensitive(true);
                value
            });
            request
        };
        for other in ["http://b/x", "https://a/x", "http://a:81/x"] {
            let mut request = request();
            redirect_to(&mut request, url(other));
            let left: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
            assert_eq!(left, ["if-match"], "{other}");
        }
        let mut same = request();
        redirect_to(&mut same, url("http://a/y"));
        assert_eq!(same.headers.len(), 7);
    }
}
