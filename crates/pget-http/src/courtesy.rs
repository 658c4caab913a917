//! How many requests at once a server is asked for when the caller has not said: few of a
//! stranger's web server.
//!
//! Many public web servers refuse or ban a client above some 16 connections. Object stores are made
//! for hundreds, and so are servers in one's own network.

use std::net::IpAddr;

use url::{Host, Url};

/// For public web servers.
const STRANGER: u32 = 16;
/// For object stores, and servers in one's own network.
const STORE: u32 = 128;

/// Names that are no one's on the public Internet (RFC 6761, RFC 6762, RFC 8375, and common use).
const OWN: [&str; 9] = [
    ".localhost",
    ".local",
    ".internal",
    ".lan",
    ".home.arpa",
    ".corp",
    ".intranet",
    ".svc",
    ".private",
];

/// Where object stores answer.
const STORES: [&str; 8] = [
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".googleapis.com",
    ".blob.core.windows.net",
    ".r2.cloudflarestorage.com",
    ".digitaloceanspaces.com",
    ".backblazeb2.com",
    ".wasabisys.com",
];

/// Parameters of signed addresses, which only object stores and their gateways understand.
const SIGNED: [&str; 3] = ["x-amz-signature", "x-goog-signature", "awsaccesskeyid"];

/// Returns the most requests at once for a server whose address is `url`.
pub(crate) fn most_requests(url: &Url) -> u32 {
    let is_own = match url.host() {
        Some(Host::Ipv4(address)) => is_own(address.into()),
        Some(Host::Ipv6(address)) => is_own(address.into()),
        Some(Host::Domain(name)) => {
            let name = format!(".{}", name.trim_end_matches('.').to_ascii_lowercase());
            let is_in = |names: &[&str]| names.iter().any(|known| name.ends_with(known));
            name[1..].contains('.') && (is_in(&OWN) || is_in(&STORES)) || !name[1..].contains('.')
        }
        None => false,
    };
    let is_signed = || {
        url.query_pairs().any(|(key, _)| {
            let key = key.to_ascii_lowercase();
            SIGNED.contains(&key.as_str())
        })
    };
    if is_own || is_signed() { STORE } else { STRANGER }
}

fn is_own(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                // Shared address space (RFC 6598).
                || a == 100 && (64..128).contains(&b)
        }
        IpAddr::V6(address) => {
            if let Some(address) = address.to_ipv4_mapped() {
                return is_own(address.into());
            }
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_spared() {
        for (url, most) in [
            ("https://example.org/a.iso", STRANGER),
            ("http://93.184.216.34/a", STRANGER),
            ("http://[2606:2800::1]/a", STRANGER),
            ("http://localnet.example/a", STRANGER),
            ("http://amazonaws.com.evil.example/a", STRANGER),
            ("http://127.0.0.1:8080/a", STORE),
            ("http://[::1]/a", STORE),
            ("http://[::ffff:10.1.2.3]/a", STORE),
            ("http://10.1.2.3/a", STORE),
            ("http://100.64.0.1/a", STORE),
            ("http://100.128.0.1/a", STRANGER),
            ("http://[fd00::1]/a", STORE),
            ("http://localhost/a", STORE),
            ("http://ais-proxy:51080/a", STORE),
            ("http://proxy.ais.svc.cluster.local/a", STORE),
            ("https://bucket.s3.eu-central-1.amazonaws.com/key", STORE),
            ("https://storage.googleapis.com/bucket/key", STORE),
            ("https://minio.example.org/bucket/key?X-Amz-Signature=abc", STORE),
        ] {
            assert_eq!(most_requests(&Url::parse(url).expect(url)), most, "{url}");
        }
    }
}
