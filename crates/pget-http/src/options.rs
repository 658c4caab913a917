//! What may be set of a client.

use std::{fmt, time::Duration};

use url::Url;

use crate::request::redacted;

/// How a [`Client`](crate::Client) connects. Start from [`ClientOptions::default`] and set what
/// differs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// For name look-up, TCP and TLS together. 5 s by default.
    pub connect_timeout: Duration,
    /// Whom to trust and who to be.
    pub tls: TlsOptions,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Which requests go through a proxy.
    pub proxy: ProxyChoice,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            tls: TlsOptions::default(),
            user_agent: concat!("pget/", env!("CARGO_PKG_VERSION")).to_owned(),
            proxy: ProxyChoice::default(),
        }
    }
}

/// Which requests go through a proxy.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum ProxyChoice {
    /// As `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say when the client is made (also
    /// in lower case), but never to loopback addresses. An empty variable does not count. Where a
    /// variable counts for a request and is not the address of an HTTP proxy (`socks5://…`), the
    /// request fails as [`InvalidArgument`](pget_core::ErrorKind::InvalidArgument).
    #[default]
    Environment,
    /// None.
    None,
    /// All, to loopback addresses too, through this one (`http` or `https`). A user and password in
    /// it are for the proxy.
    Url(Url),
}

impl fmt::Debug for ProxyChoice {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::None => f.write_str("None"),
            Self::Url(url) => f.debug_tuple("Url").field(&redacted(url)).finish(),
        }
    }
}

/// Whom to trust and who to be.
#[derive(Clone)]
#[non_exhaustive]
pub struct TlsOptions {
    /// Trust the platform's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` replace them). They are read
    /// with the first TLS connection.
    pub platform_roots: bool,
    /// Further roots: each one certificate in DER, or any number in PEM.
    pub extra_roots: Vec<Vec<u8>>,
    /// Who to be if the server asks.
    pub identity: Option<ClientIdentity>,
    /// Take any certificate for good. Anyone on the wire can then read and change everything;
    /// each client made so warns.
    pub skip_verify: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            platform_roots: true,
            extra_roots: Vec::new(),
            identity: None,
            skip_verify: false,
        }
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("platform_roots", &self.platform_roots)
            .field("extra_roots", &self.extra_roots.len())
            .field("identity", &self.identity)
            .field("skip_verify", &self.skip_verify)
            .finish()
    }
}

/// A client's certificate and key.
#[derive(Clone)]
pub struct ClientIdentity {
    certificates_pem: Vec<u8>,
    key_pem: Vec<u8>,
}

impl ClientIdentity {
    /// From PEM: the certificate with its chain, and its private key. Checked when the client is
    /// made.
    #[must_use]
    pub const fn from_pem(certificates_pem: Vec<u8>, key_pem: Vec<u8>) -> Self {
        Self {
            certificates_pem,
            key_pem,
        }
    }

    pub(crate) fn certificates_pem(&self) -> &[u8] {
        &self.certificates_pem
    }

    pub(crate) fn key_pem(&self) -> &[u8] {
        &self.key_pem
    }
}

impl fmt::Debug for ClientIdentity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}
