//! The shaped network as a program.
//!
//! `shaped [--listen ADDRESS] [--tls FOLDER] [PRESET] [KEY=VALUE…]`
//!
//! Presets are N1 to N8. Settings are those of `pget_testkit::shaped::Network`, for example
//! `rate=20MB latency=20ms link=1200MB in-flight=32 every=8 odd=slow:1MB at=2s:rate=5MB`. The
//! program prints its base URL and ends with its standard input.
//!
//! An object is `BASE/SIZE`, for example `BASE/1536MiB`. `BASE/-/stats`, `/-/reset`,
//! `/-/set?KEY=VALUE` and `/-/preset?N2` control the network. With `--tls`, `FOLDER/ca.pem` is the
//! authority that signed the server's certificate.

use std::{
    error::Error,
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use pget_testkit::{
    servers::{Authority, Validity},
    shaped::{Network, Shaped},
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut network = Network::unshaped();
    let (mut listen, mut tls) = ("127.0.0.1:0".to_owned(), None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--listen" => listen = words.next().ok_or("--listen needs an address")?,
            "--tls" => tls = Some(configure(&words.next().ok_or("--tls needs a folder")?)?),
            setting if setting.contains('=') => network.set_all(setting)?,
            preset => network = Network::preset(preset)?,
        }
    }
    let server = Shaped::listen(network, &listen, tls)?;
    println!("{}", server.url(0).trim_end_matches("/0"));
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn configure(folder: &str) -> Result<Arc<ServerConfig>, Box<dyn Error>> {
    let authority = Authority::new()?;
    let leaf = authority.leaf(&["localhost", "127.0.0.1"], Validity::Now)?;
    std::fs::write(format!("{folder}/ca.pem"), authority.pem())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes())?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(Arc::new(config))
}
