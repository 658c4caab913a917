//! Certificates for test servers: a private authority and the leaves that it signs.
//!
//! Some leaves are valid, and some must be refused.
//!
//! Invariant: no machine trusts these certificates. A test passes the authority to the client under
//! test.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use super::error::StartError;

/// A certificate authority with its own key. It lives until it is dropped.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The validity period of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Valid for years around today.
    Now,
    /// Valid until the year 2001.
    Expired,
}

/// A server's or client's certificate and key, in PEM.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl Authority {
    /// Creates an authority.
    ///
    /// # Errors
    /// Returns [`StartError::Certificate`].
    pub fn new() -> Result<Self, StartError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, "pget test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)?,
        })
    }

    /// Returns the authority's certificate in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns the authority's certificate in DER.
    pub fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// Creates a certificate for a server with these `names` (host names or IP addresses).
    ///
    /// # Errors
    /// Returns [`StartError::Certificate`], also for a name that a certificate cannot contain.
    pub fn leaf(&self, names: &[&str], validity: Validity) -> Result<Leaf, StartError> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.sign(
            "pget test server",
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
            validity,
        )
    }

    /// Creates a certificate for a client.
    ///
    /// # Errors
    /// Returns [`StartError::Certificate`].
    pub fn client_leaf(&self, name: &str) -> Result<Leaf, StartError> {
        self.sign(
            name,
            Vec::new(),
            ExtendedKeyUsagePurpose::ClientAuth,
            Validity::Now,
        )
    }

    fn sign(
        &self,
        name: &str,
        names: Vec<String>,
        usage: ExtendedKeyUsagePurpose,
        validity: Validity,
    ) -> Result<Leaf, StartError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        set_validity(&mut params, validity);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn named(names: &[&str]) -> Result<CertificateParams, StartError> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    Ok(CertificateParams::new(names)?)
}

/// Describes a certificate that is its own authority.
fn authority(names: &[&str], validity: Validity) -> Result<CertificateParams, StartError> {
    let mut params = named(names)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    set_validity(&mut params, validity);
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    if validity == Validity::Expired {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    }
}

impl Leaf {
    /// Creates a certificate for a server that is signed only by itself.
    ///
    /// # Errors
    /// Returns [`StartError::Certificate`].
    pub fn self_signed(names: &[&str]) -> Result<Self, StartError> {
        Self::signed_by_itself(&named(names)?)
    }

    /// Creates a certificate for a server that is its own authority, as `openssl req -x509` does.
    ///
    /// # Errors
    /// Returns [`StartError::Certificate`].
    pub fn own_authority(names: &[&str], validity: Validity) -> Result<Self, StartError> {
        Self::signed_by_itself(&authority(names, validity)?)
    }

    /// Creates a certificate that is its own authority and has a common name. If `listed` is empty,
    /// it has no list of names, as `openssl req -x509` makes it by default.
    ///
    /// # Errors
    /// Returns [`StartError::Certificate`].
    pub fn commonly_named(name: &str, listed: &[&str], validity: Validity) -> Result<Self, StartError> {
        let mut params = authority(listed, validity)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        Self::signed_by_itself(&params)
    }

    fn signed_by_itself(params: &CertificateParams) -> Result<Self, StartError> {
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Writes `leaf.pem` and `leaf.key` into `folder` and returns their paths.
    pub(super) fn write(&self, folder: &Path) -> std::io::Result<(PathBuf, PathBuf)> {
        let certificate = folder.join("leaf.pem");
        let key = folder.join("leaf.key");
        std::fs::write(&certificate, &self.certificate_pem)?;
        std::fs::write(&key, &self.key_pem)?;
        Ok((certificate, key))
    }
}
