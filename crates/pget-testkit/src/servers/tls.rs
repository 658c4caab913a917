//! Certificates for test servers: a private authority and leaves signed by it, good ones and ones that must be refused.
//!
//! Invariant: nothing here is trusted by any machine; a test hands the authority to the client it tests.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::error::StartError;

/// A certificate authority of its own key, good until it is dropped.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// When a leaf is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// For years around today.
    Now,
    /// Until the year 2001.
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
    /// A new authority.
    ///
    /// # Errors
    /// [`StartError::Certificate`].
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

    /// The authority's certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's certificate, in DER.
    pub fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// A certificate for a server that is known under `names` (host names or IP addresses).
    ///
    /// # Errors
    /// [`StartError::Certificate`], also for a name that cannot stand in a certificate.
    pub fn leaf(&self, names: &[&str], validity: Validity) -> Result<Leaf, StartError> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.sign(
            "pget test server",
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
            validity,
        )
    }

    /// A certificate for a client.
    ///
    /// # Errors
    /// [`StartError::Certificate`].
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

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    if validity == Validity::Expired {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    }
}

impl Leaf {
    /// A certificate for a server that is signed by nobody but itself.
    ///
    /// # Errors
    /// [`StartError::Certificate`].
    pub fn self_signed(names: &[&str]) -> Result<Self, StartError> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names)?.self_signed(&key)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// A certificate for a server that is its own authority, as `openssl req -x509` makes it.
    ///
    /// # Errors
    /// [`StartError::Certificate`].
    pub fn own_authority(names: &[&str], validity: Validity) -> Result<Self, StartError> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        set_validity(&mut params, validity);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Write `leaf.pem` and `leaf.key` into `folder` and say where they are.
    pub(super) fn write(&self, folder: &Path) -> std::io::Result<(PathBuf, PathBuf)> {
        let certificate = folder.join("leaf.pem");
        let key = folder.join("leaf.key");
        std::fs::write(&certificate, &self.certificate_pem)?;
        std::fs::write(&key, &self.key_pem)?;
        Ok((certificate, key))
    }
}
