//! Hosts that `NO_PROXY` exempts from proxies. Pure.
//!
//! The programs that read this variable agree on little; this is what most of them take. Entries
//! are separated by commas or white space, and case does not count:
//! - `*`: every host;
//! - `example.com`, `.example.com`: that host and all below it;
//! - `*.example.com`: all below it; a `*` elsewhere stands for any letters;
//! - `10.1.2.3`, `::1`, `10.0.0.0/8`, `fd00::/8`: an address, or a network of them;
//! - each with `:PORT` at its end (an IPv6 address in brackets): that port alone.
//!
//! A host name is compared as written: it is not looked up to be compared with addresses.

use std::net::IpAddr;

use url::{Host, Url};

/// The entries of one `NO_PROXY`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exempt(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    Network(IpAddr, u8),
    /// The host of this name and those below it.
    From(String),
    /// Those below the name.
    Below(String),
    /// A name with `*` in it.
    Like(String),
}

impl Exempt {
    /// Reads the variable's value. Entries that mean nothing exempt nothing.
    pub(crate) fn parse(text: &str) -> Self {
        let entries = text.split(|letter: char| letter == ',' || letter.is_whitespace());
        Self(entries.filter_map(Entry::parse).collect())
    }

    /// Whether requests to this address go past the proxy.
    pub(crate) fn contains(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        let port = url.port_or_known_default();
        self.0
            .iter()
            .any(|entry| entry.hosts.contain(&host) && (entry.port.is_none() || entry.port == port))
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        // An address of a server, as some write it.
        let text = match text.split_once("://") {
            Some((_, rest)) => rest.split('/').next().unwrap_or_default(),
            None => text,
        };
        if let Some(hosts) = Hosts::network(text) {
            return Some(Self { hosts, port: None });
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() => (name, Some(port.parse().ok()?)),
            Some((name, _)) => (name, None),
            None => (text, None),
        };
        let hosts = Hosts::network(name).or_else(|| Hosts::named(name))?;
        Some(Self { hosts, port })
    }
}

impl Hosts {
    /// An address or a network, IPv6 in brackets or not.
    fn network(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address = address
            .strip_prefix('[')
            .and_then(|inner| inner.strip_suffix(']'))
            .unwrap_or(address);
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        if prefix > bits {
            return None;
        }
        match address.to_canonical() {
            // Of IPv4 addresses in IPv6 ones, the last 32 bits are looked at.
            inner @ IpAddr::V4(_) if address.is_ipv6() => Some(Self::Network(inner, prefix.checked_sub(96)?)),
            address => Some(Self::Network(address, prefix)),
        }
    }

    fn named(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('.');
        if text == "*" {
            return Some(Self::All);
        }
        if let Some(name) = text.strip_prefix("*.").filter(|name| !name.contains('*')) {
            return Some(Self::Below(normal(name)?));
        }
        if text.contains('*') {
            return Some(Self::Like(text.to_ascii_lowercase()));
        }
        Some(Self::From(normal(text.trim_start_matches('.'))?))
    }

    fn contain(&self, host: &Host<&str>) -> bool {
        let address = match *host {
            Host::Domain(name) => return self.contain_name(name.trim_end_matches('.')),
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
        };
        match self {
            Self::All => true,
            Self::Network(network, prefix) => shares(*network, address.to_canonical(), *prefix),
            Self::Like(pattern) => is_like(pattern, &address.to_string()),
            Self::From(_) | Self::Below(_) => false,
        }
    }

    /// `name` is lower case, as a parsed address has it.
    fn contain_name(&self, name: &str) -> bool {
        let is_below = |parent: &str| {
            name.strip_suffix(parent)
                .is_some_and(|front| front.len() > 1 && front.ends_with('.'))
        };
        match self {
            Self::All => true,
            Self::Network(..) => false,
            Self::From(parent) => name == parent || is_below(parent),
            Self::Below(parent) => is_below(parent),
            Self::Like(pattern) => is_like(pattern, name),
        }
    }
}

/// A name as a parsed address has it: lower case, and beyond ASCII in its code.
fn normal(name: &str) -> Option<String> {
    match Host::parse(name) {
        Ok(Host::Domain(name)) => Some(name),
        // What cannot be a host's name (`_`) may still be the end of one.
        Ok(_) | Err(_) if !name.is_empty() => Some(name.to_ascii_lowercase()),
        Ok(_) | Err(_) => None,
    }
}

/// Whether two addresses have the first `prefix` bits in common.
fn shares(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let differing = one.to_bits() ^ other.to_bits();
            differing.leading_zeros() >= prefix.into()
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let differing = one.to_bits() ^ other.to_bits();
            differing.leading_zeros() >= prefix.into()
        }
        _ => false,
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any letters, also none.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_127_entries_exempt_what_they_name() {
        let internal = "http://object.internal.example/o";
        for (entries, url, exempt) in [
            ("", internal, false),
            ("object.internal.example", internal, true),
            ("internal.example", internal, true),
            (".internal.example", internal, true),
            ("*.internal.example", internal, true),
            ("*.INTERNAL.example.", internal, true),
            ("*internal.example", internal, true),
            ("object.*.example", internal, true),
            ("*.example", internal, true),
            ("*", internal, true),
            ("foo,  .internal.example , bar", internal, true),
            ("foo .internal.example", internal, true),
            ("foo\t*.internal.example\n", internal, true),
            (
                "OBJECT.INTERNAL.EXAMPLE.",
                "http://object.internal.example./o",
                true,
            ),
            ("ternal.example", internal, false),
            ("object.*.test", internal, false),
            ("*.object.internal.example", internal, false),
            ("*.internal.example", "http://internal.example/", false),
            (".internal.example", "http://internal.example/", true),
            ("example.internal", internal, false),
            (",,", internal, false),
            ("object.internal.example:80", internal, true),
            ("object.internal.example:8080", internal, false),
            ("*.internal.example:443", "https://object.internal.example/", true),
            ("internal.example:x", internal, false),
            ("http://object.internal.example/", internal, true),
            ("10.0.0.0/8", internal, false),
            ("10.0.0.0/8", "http://10.1.2.3/o", true),
            ("10.0.0.0/8", "http://11.1.2.3/o", false),
            ("10.1.2.3", "http://10.1.2.3:8080/o", true),
            ("10.1.2.3:8080", "http://10.1.2.3:8080/o", true),
            ("10.1.2.3:8081", "http://10.1.2.3:8080/o", false),
            ("10.1.*", "http://10.1.2.3/o", true),
            ("10.0.0.0/33", "http://10.0.0.0/", false),
            ("0.0.0.0/0", "http://10.1.2.3/o", true),
            ("2001:db8::/32", "http://[2001:db8::5]/o", true),
            ("[2001:db8::5]", "http://[2001:db8::5]/o", true),
            ("[2001:db8::5]:81", "http://[2001:db8::5]/o", false),
            ("[2001:db8::5]:80", "http://[2001:db8::5]/o", true),
            ("2001:db8::/32", "http://[2001:db9::5]/o", false),
            ("::/0", "http://10.1.2.3/o", false),
            ("10.0.0.0/8", "http://[::ffff:10.1.2.3]/o", true),
            ("::ffff:10.0.0.0/104", "http://10.1.2.3/o", true),
            ("m\u{fc}nchen.example", "http://a.m\u{fc}nchen.example/", true),
            ("\u{212a}.example", "http://k.example/", true),
        ] {
            let parsed = Url::parse(url).expect("an address");
            assert_eq!(
                Exempt::parse(entries).contains(&parsed),
                exempt,
                "{entries} {url}"
            );
        }
    }
}
