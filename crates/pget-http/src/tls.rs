//! TLS by rustls: the configuration, made once a client, and what its failures mean.
//!
//! Invariants: the provider is given explicitly (none is installed for the process); ALPN offers
//! HTTP/1.1 only; verification is off only if asked for.

use std::{fmt, io, sync::Arc};

use pget_core::{BoxError, Error, ErrorKind, SourceError};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::sync::OnceCell;

use crate::{options::TlsOptions, trust::Trust};

/// Why no TLS connection came about, as the cause of a [`SourceError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The server's certificate is not to be trusted: expired, of another host, by an unknown
    /// authority, …
    #[error("the server's certificate is not valid")]
    Certificate(#[source] rustls::Error),
    /// The server refuses the client's certificate, or its lack.
    #[error("the server refuses the client's certificate: {0:?}")]
    Refused(AlertDescription),
    /// No common protocol, or an answer that is no TLS.
    #[error("the TLS handshake failed")]
    Handshake(#[source] rustls::Error),
    /// The server found nothing in common with this client, which has no P-521, for example.
    #[error(
        "the server finds no common parameters (keys of servers may be RSA of 2048 bits or more, \
         Ed25519, or on the curves P-256 and P-384; not on P-521)"
    )]
    NothingInCommon(#[source] rustls::Error),
    /// There are no roots to trust.
    #[error("no trusted root certificates could be read")]
    NoRoots(#[source] Option<rustls_native_certs::Error>),
}

/// The configuration of one client.
pub(crate) struct Tls {
    options: TlsOptions,
    extra_roots: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    /// Checks what the caller gave; reads no files.
    pub(crate) fn new(options: &TlsOptions) -> Result<Self, Error> {
        let refuse = |message: &str, cause: Option<BoxError>| match cause {
            Some(cause) => Error::with_cause(ErrorKind::InvalidArgument, "", message, cause),
            None => Error::new(ErrorKind::InvalidArgument, "", message),
        };
        let mut extra_roots = Vec::new();
        for bytes in &options.extra_roots {
            let before = extra_roots.len();
            if bytes.first() == Some(&0x30) {
                extra_roots.push(CertificateDer::from(bytes.clone()));
            } else {
                for certificate in CertificateDer::pem_slice_iter(bytes) {
                    let certificate = certificate
                        .map_err(|cause| refuse("a root certificate is no PEM", Some(cause.into())))?;
                    extra_roots.push(certificate);
                }
            }
            if extra_roots.len() == before {
                return Err(refuse("a root certificate file holds no certificate", None));
            }
        }
        let mut trial = RootCertStore::empty();
        for root in &extra_roots {
            trial
                .add(root.clone())
                .map_err(|cause| refuse("a root certificate cannot be read", Some(cause.into())))?;
        }
        let identity = match &options.identity {
            None => None,
            Some(identity) => {
                let chain = CertificateDer::pem_slice_iter(identity.certificates_pem())
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|cause| refuse("the client certificate is no PEM", Some(cause.into())))?;
                let key = PrivateKeyDer::from_pem_slice(identity.key_pem())
                    .map_err(|cause| refuse("the client key cannot be read", Some(cause.into())))?;
                if chain.is_empty() {
                    return Err(refuse("the client certificate file holds no certificate", None));
                }
                Some((chain, key))
            }
        };
        if options.skip_verify {
            tracing::warn!("certificates of servers are not verified, as asked");
        }
        Ok(Self {
            options: options.clone(),
            extra_roots,
            identity,
            config: OnceCell::new(),
        })
    }

    /// The configuration, made with the first TLS connection: reading the platform's roots takes
    /// some milliseconds.
    pub(crate) async fn config(&self) -> Result<Arc<ClientConfig>, SourceError> {
        self.config.get_or_try_init(|| self.build()).await.cloned()
    }

    async fn build(&self) -> Result<Arc<ClientConfig>, SourceError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = if self.options.skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TrustAll(provider)))
        } else {
            let (roots, trusted) = self.roots().await?;
            if roots.is_empty() {
                builder.with_root_certificates(roots)
            } else {
                let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
                let chains = chains.build().map_err(|cause| {
                    SourceError::fatal(ErrorKind::InvalidArgument, "TLS cannot be used as set")
                        .with_cause(cause)
                })?;
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(Trust::new(chains, trusted)))
            }
        };
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(unusable)?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Where chains may end, and the same certificates as they are.
    async fn roots(&self) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), SourceError> {
        let mut roots = RootCertStore::empty();
        let mut trusted = self.extra_roots.clone();
        roots.add_parsable_certificates(self.extra_roots.iter().cloned());
        if !self.options.platform_roots {
            return Ok((roots, trusted));
        }
        let loaded = pget_core::threads::may_block(rustls_native_certs::load_native_certs)
            .await
            .map_err(|cause| {
                SourceError::fatal(ErrorKind::Internal, "reading root certificates panicked")
                    .with_cause(cause)
            })?;
        trusted.extend(loaded.certs.iter().cloned());
        let (added, unusable) = roots.add_parsable_certificates(loaded.certs);
        tracing::debug!(added, unusable, "platform root certificates");
        if roots.is_empty() {
            let cause = TlsError::NoRoots(loaded.errors.into_iter().next());
            return Err(
                SourceError::fatal(ErrorKind::InvalidArgument, "TLS cannot be used").with_cause(cause),
            );
        }
        for error in loaded.errors {
            tracing::warn!(%error, "some root certificates could not be read");
        }
        Ok((roots, trusted))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn unusable(cause: rustls::Error) -> SourceError {
    SourceError::fatal(ErrorKind::InvalidArgument, "TLS cannot be used as set").with_cause(cause)
}

/// What a failed handshake means: a broken connection may come by trying again, what TLS itself
/// says does not.
pub(crate) fn handshake_failed(error: io::Error, host: &str) -> SourceError {
    let message = format!("no secure connection to {host}");
    match failure(&error).cloned() {
        None => SourceError::retryable(ErrorKind::Unavailable, message).with_cause(error),
        Some(failure) => failed(failure, message),
    }
}

/// What a failure of TLS itself means: trust does not come by trying again. Agreement may, where
/// there was one before.
pub(crate) fn failed(failure: rustls::Error, message: String) -> SourceError {
    match failure {
        invalid @ rustls::Error::InvalidCertificate(_) => {
            SourceError::fatal(ErrorKind::Protocol, message).with_cause(TlsError::Certificate(invalid))
        }
        rustls::Error::AlertReceived(alert) if concerns_client(alert) => {
            SourceError::fatal(ErrorKind::PermissionDenied, message).with_cause(TlsError::Refused(alert))
        }
        alert @ rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            let error = SourceError::fatal(ErrorKind::Protocol, message).with_no_answer();
            error.with_cause(TlsError::NothingInCommon(alert))
        }
        other => {
            let error = SourceError::fatal(ErrorKind::Protocol, message).with_no_answer();
            error.with_cause(TlsError::Handshake(other))
        }
    }
}

/// The failure of TLS itself among an error and its causes.
pub(crate) fn failure<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Whether the server refuses the client's certificate, or its lack. Over TLS 1.3 it looks at it
/// after the client's handshake (RFC 8446 section 4.4.2.4), and its alert comes where an answer is
/// due.
pub(crate) fn is_refusal(failure: &rustls::Error) -> bool {
    matches!(failure, rustls::Error::AlertReceived(alert) if concerns_client(*alert))
}

/// An error and its causes, and what an `io::Error` holds, which is not one of its causes.
pub(crate) fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held as _),
            None => error.source(),
        }
    })
}

fn concerns_client(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            // A signature that does not fit: of the certificate, if its authority only bears the
            // name of one that is known.
            | AlertDescription::DecryptError
    )
}

/// The verifier of `skip_verify`: any certificate will do, if only the server holds its key.
#[derive(Debug)]
struct TrustAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
