//! Trust in a server's certificate: by a chain to a trusted one, or because it is itself trusted.
//!
//! `openssl req -x509` makes a certificate that is its own authority (`CA:TRUE`). A chain ends at
//! such a certificate and does not begin there, so webpki refuses it as a server's. A user who
//! lists the very certificate as trusted means this server, so it is taken, under these conditions:
//! - its bytes are those of a trusted certificate;
//! - its names include the host's. If it lists no names (`subjectAltName`), as `openssl req -x509`
//!   makes it, its common name is the host's;
//! - it is in date.
//!
//! Everything else is verified by webpki alone, and the handshake proves the key in any case.

use std::{net::IpAddr, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// Verifies by chains, and takes a certificate that is itself trusted.
#[derive(Debug)]
pub(crate) struct Trust {
    chains: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl Trust {
    pub(crate) const fn new(
        chains: Arc<WebPkiServerVerifier>,
        trusted: Vec<CertificateDer<'static>>,
    ) -> Self {
        Self { chains, trusted }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chains = &self.chains;
        match chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(cause))
                if (is_about_the_chain(&cause) || is_about_the_name(&cause))
                    && self.trusted.iter().any(|known| known == end_entity) =>
            {
                let fields = Fields::of(end_entity);
                let fields = fields.ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
                if !fields.is_commonly_named(server_name) {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                verify_date(&fields, now)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Whether a refusal is about who signed the certificate, or its use as an authority, which has no
/// code of its own in rustls; not about its name, dates or purpose.
const fn is_about_the_chain(cause: &CertificateError) -> bool {
    matches!(
        cause,
        CertificateError::UnknownIssuer
            | CertificateError::BadSignature
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
            | CertificateError::Other(_)
    )
}

const fn is_about_the_name(cause: &CertificateError) -> bool {
    matches!(
        cause,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    )
}

fn verify_date(fields: &Fields<'_>, now: UnixTime) -> Result<(), Error> {
    let refused = |cause| Err(Error::InvalidCertificate(cause));
    match fields.validity() {
        None => refused(CertificateError::BadEncoding),
        Some((begin, _)) if now.as_secs() < begin => refused(CertificateError::NotValidYet),
        Some((_, end)) if now.as_secs() > end => refused(CertificateError::Expired),
        Some(_) => Ok(()),
    }
}

/// What is read of a certificate (RFC 5280 section 4.1).
struct Fields<'a> {
    dates: &'a [u8],
    subject: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Returns `None` for a certificate that is cut or is not DER.
    fn of(certificate: &'a [u8]) -> Option<Self> {
        const VERSION: u8 = 0xa0;
        const EXTENSIONS: u8 = 0xa3;
        let (certificate, _) = content_of(SEQUENCE, certificate)?;
        let (mut rest, _) = content_of(SEQUENCE, certificate)?;
        if rest.first() == Some(&VERSION) {
            rest = element(rest)?.2;
        }
        // Serial number, algorithm, issuer.
        for _ in 0..3 {
            rest = element(rest)?.2;
        }
        let (dates, rest) = content_of(SEQUENCE, rest)?;
        let (subject, rest) = content_of(SEQUENCE, rest)?;
        let mut extensions = &[][..];
        // The key, unique identifiers, and extensions.
        for (tag, content) in elements(rest) {
            if tag == EXTENSIONS {
                (extensions, _) = content_of(SEQUENCE, content)?;
            }
        }
        Some(Self {
            dates,
            subject,
            extensions,
        })
    }

    /// Begin and end of its validity, in seconds since 1970.
    fn validity(&self) -> Option<(u64, u64)> {
        let (tag, begin, rest) = element(self.dates)?;
        let begin = seconds(tag, begin)?;
        let (tag, end, _) = element(rest)?;
        Some((begin, seconds(tag, end)?))
    }

    /// Whether it lists no alternative names, and its only common name is this host's.
    fn is_commonly_named(&self, host: &ServerName<'_>) -> bool {
        const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
        const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
        let is_listed = elements(self.extensions)
            .any(|(_, extension)| element(extension).is_some_and(|(_, kind, _)| kind == ALTERNATIVE_NAMES));
        let attributes = elements(self.subject).flat_map(|(_, set)| elements(set));
        let names = attributes.filter_map(|(_, attribute)| {
            let (_, kind, rest) = element(attribute)?;
            let (_, name, _) = element(rest)?;
            (kind == COMMON_NAME).then_some(name)
        });
        let mut names = names.map(|name| std::str::from_utf8(name).ok());
        let (Some(Some(name)), None) = (names.next(), names.next()) else {
            return false;
        };
        !is_listed
            && match host {
                ServerName::DnsName(host) => host.as_ref().eq_ignore_ascii_case(name),
                ServerName::IpAddress(host) => name.parse::<IpAddr>() == Ok(IpAddr::from(*host)),
                _ => false,
            }
    }
}

/// The elements of a constructed one, up to the first that is cut.
fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, rest) = element(bytes)?;
        bytes = rest;
        Some((tag, content))
    })
}

const SEQUENCE: u8 = 0x30;

/// An element of DER: its tag, its content, and the bytes after it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(first) {
        length @ ..=0x7f => (length, rest),
        // A handshake has room for no certificate of more than three bytes of length.
        of @ 0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(of - 0x80)?;
            let length = digits.iter().fold(0, |sum, &digit| sum << 8 | usize::from(digit));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn content_of(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// `UTCTime` (`YYMMDDHHMMSSZ`) or `GeneralizedTime` (`YYYYMMDDHHMMSSZ`); before 1970, 0.
fn seconds(tag: u8, text: &[u8]) -> Option<u64> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let digits = text.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| {
        digits
            .iter()
            .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
    };
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (year + if year < 50 { 2000 } else { 1900 }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let part = |index: usize| number(&rest[index * 2..index * 2 + 2]);
    let (month, day) = (part(0), part(1));
    let (hour, minute, second) = (part(2), part(3), part(4));
    let fits =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    fits.then(|| u64::try_from(seconds).unwrap_or(0))
}

/// Days from 1 January 1970 to a day of the Gregorian calendar, whose years are counted from March
/// so that a leap day is the last of one.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let leaps = year / 4 - year / 100 + year / 400;
    let since_march = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + leaps + since_march - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_seconds() {
        for (tag, text, expected) in [
            (0x18, "19700101000000Z", Some(0)),
            (0x17, "700101000000Z", Some(0)),
            (0x17, "000229120000Z", Some(951_825_600)),
            (0x17, "491231235959Z", Some(2_524_607_999)),
            (0x18, "20261130074628Z", Some(1_796_024_788)),
            (0x18, "99991231235959Z", Some(253_402_300_799)),
            (0x17, "500101000000Z", Some(0)),
            (0x18, "20261330074628Z", None),
            (0x18, "20261130254628Z", None),
            (0x17, "20261130074628Z", None),
            (0x17, "700101000000+0100", None),
            (0x17, "Z", None),
            (0x04, "700101000000Z", None),
        ] {
            assert_eq!(seconds(tag, text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_cut_certificate_has_no_dates() {
        let leaf = pget_testkit::servers::Leaf::self_signed(&["h"]).expect("a certificate");
        let pem = leaf.certificate_pem.as_bytes();
        let der =
            <CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(pem).expect("PEM");
        let fields = Fields::of(&der).expect("it is whole");
        let (begin, end) = fields.validity().expect("it has dates");
        assert!(begin < end);
        for length in 0..der.len() {
            assert!(Fields::of(&der[..length]).is_none(), "{length}");
        }
    }
}
