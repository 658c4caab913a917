//! Redirects, one after the other.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::{Host, Url};

use crate::{
    fuzzing::Front,
    redirect::{MOST_REDIRECTS, location, redirect_to},
    request::RequestHead,
};

/// In lower case, as hosts are.
const SECRET: &str = "s3cr3t-of-the-first-origin-7f3a91";

/// Follows the input's lines as one `Location` after the other, and looks at what would be sent at
/// each hop.
pub fn redirect(input: &[u8]) {
    let mut front = Front(input);
    let base = [
        "http://first.test/a/b?c",
        "https://first.test:8443/a/b",
        "http://[fe80::1]/x",
        "https://user:pw@first.test/",
    ][usize::from(front.byte() % 4)];
    // An input that holds the secret would look like a leak.
    if contains(&input.to_ascii_lowercase(), SECRET.as_bytes()) {
        return;
    }
    let mut request = RequestHead::get(Url::parse(base).expect("an address"));
    for name in [
        "authorization",
        "cookie",
        "x-amz-security-token",
        "ais-token",
        "x-own",
    ] {
        let value = HeaderValue::from_static(SECRET);
        request.headers.insert(HeaderName::from_static(name), value);
    }
    request.move_userinfo().expect("it can be sent");
    let first = request.url.clone();
    let mut left = false;
    for line in front.0.split(|&byte| byte == b'\n').take(MOST_REDIRECTS) {
        let Ok(value) = HeaderValue::from_bytes(line) else {
            return;
        };
        let headers = HeaderMap::from_iter([(header::LOCATION, value)]);
        let from = request.url.clone();
        let Ok(to) = location(&from, &headers) else { return };
        assert!(matches!(to.scheme(), "http" | "https"), "{to}");
        assert!(
            from.scheme() == "http" || to.scheme() == "https",
            "{from} to {to}"
        );
        assert!(to.username().is_empty() && to.password().is_none(), "{to}");
        let link_local = match to.host().expect("it has a host") {
            Host::Ipv4(ip) => ip.octets()[..2] == [169, 254],
            Host::Ipv6(ip) => {
                ip.segments()[0] & 0xffc0 == 0xfe80
                    || ip.to_ipv4().is_some_and(|ip| ip.octets()[..2] == [169, 254])
                    || ip.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
            }
            Host::Domain(_) => false,
        };
        assert!(!link_local || from.host() == to.host(), "{to}");
        redirect_to(&mut request, to);
        left |= request.url.origin() != first.origin();
        let Ok(sent) = request.encode(&HeaderValue::from_static("agent")) else {
            return;
        };
        // Once it has left its origin, also when it comes back.
        assert_eq!(contains(&sent, SECRET.as_bytes()), !left, "{}", request.url);
        well_formed(&sent, &request);
    }
}

/// The request's bytes hold exactly the headers that were meant.
pub(super) fn well_formed(sent: &[u8], request: &RequestHead) {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    assert_eq!(parsed.parse(sent), Ok(httparse::Status::Complete(sent.len())));
    assert_eq!(parsed.path.map(str::to_owned), request.path().ok());
    let count = |name: &str| {
        parsed
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name))
            .count()
    };
    assert_eq!((count("host"), count("accept-encoding")), (1, 1));
    assert_eq!(count("range"), usize::from(request.range.is_some()));
    assert_eq!(count("content-length") + count("transfer-encoding"), 0);
    for header in &*parsed.headers {
        assert!(
            !header.value.iter().any(|byte| b"\r\n\0".contains(byte)),
            "{}",
            header.name
        );
    }
}

pub(super) fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|part| part == what)
}
