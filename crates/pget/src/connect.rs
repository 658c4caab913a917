//! From an address to a source: which transport, with which client.

use std::sync::Arc;
#[cfg(feature = "http")]
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use pget_core::{Error, ErrorKind, RangeSource};

use crate::{Address, Builder};

/// A source, and what its address does not tell of where the object is: the endpoint. Empty where the address is all there is. No credential.
pub(crate) struct Placed {
    pub(crate) source: Arc<dyn RangeSource>,
    pub(crate) place: String,
}

impl<S: RangeSource + 'static> From<S> for Placed {
    fn from(source: S) -> Self {
        Self {
            source: Arc::new(source),
            place: String::new(),
        }
    }
}

/// The source behind `address`.
pub(crate) fn source(address: Address, builder: &Builder) -> Result<Placed, Error> {
    if !builder.headers.is_empty() && !matches!(address, Address::Http(_)) {
        let message = "headers are for http and https addresses";
        return Err(Error::new(ErrorKind::InvalidArgument, "", message));
    }
    match address {
        #[cfg(feature = "file")]
        Address::File(path) => Ok(pget_file::FileSource::new(path).into()),
        #[cfg(feature = "http")]
        Address::Http(url) => {
            let client = client(builder, TlsFiles::default())?;
            Ok(pget_http::HttpSource::new(client, &url, headers(&builder.headers)?)?.into())
        }
        #[cfg(feature = "aistore")]
        Address::Aistore(url) => {
            let config = pget_aistore::Config::new(|name| std::env::var(name).ok(), &builder.properties)?;
            let object = pget_aistore::ObjectAddress::parse(&url, config.provider.as_deref())?;
            let tls = TlsFiles {
                authorities: config.client_ca.clone(),
                certificate: config.certificate.clone(),
                key: config.certificate_key.clone(),
                skip_verify: config.skip_verify,
            };
            let client = client(builder, tls)?;
            let source = pget_aistore::AistoreSource::new(client, config, object)?;
            let place = source.place();
            Ok(Placed {
                place,
                ..source.into()
            })
        }
        #[cfg(feature = "s3")]
        Address::S3(url) | Address::Gcs(url) | Address::Azure(url) => {
            let mut settings = pget_s3::Settings::from_env();
            for (key, value) in &builder.properties {
                settings = settings.property(key, value);
            }
            let client = client(builder, TlsFiles::default())?;
            let source = pget_s3::S3Source::open(&url, &settings, client)?;
            let place = source.place().to_owned();
            Ok(Placed {
                place,
                ..source.into()
            })
        }
        #[allow(unreachable_patterns, reason = "reached when a transport is not built in")]
        other => Err(Builder::unsupported(match other {
            Address::Aistore(_) => "aistore",
            Address::S3(_) | Address::Gcs(_) | Address::Azure(_) => "s3",
            Address::Http(_) => "http",
            Address::File(_) => "file",
        })),
    }
}

#[cfg(feature = "http")]
fn headers(pairs: &[(String, String)]) -> Result<http::HeaderMap, Error> {
    let mut headers = http::HeaderMap::new();
    for (name, value) in pairs {
        // The value may be a credential, so no error repeats it.
        let invalid = |what: &str| {
            Error::new(
                ErrorKind::InvalidArgument,
                "",
                format!("the header {name:?} has an unusable {what}"),
            )
        };
        let key = http::HeaderName::try_from(name.as_str()).map_err(|_| invalid("name"))?;
        let mut value = http::HeaderValue::try_from(value.as_str()).map_err(|_| invalid("value"))?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

/// Files that a TLS connection takes, all in PEM.
#[cfg(feature = "http")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct TlsFiles {
    authorities: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    skip_verify: bool,
}

#[cfg(feature = "http")]
impl TlsFiles {
    fn read(&self) -> Result<pget_http::TlsOptions, Error> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|cause| {
                let message = format!("cannot read {}", path.display());
                Error::with_cause(ErrorKind::InvalidArgument, "", message, cause)
            })
        };
        let mut options = pget_http::TlsOptions::default();
        options.extra_roots = self.authorities.iter().map(read).collect::<Result<_, _>>()?;
        options.identity = match (&self.certificate, &self.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(pget_http::ClientIdentity::from_pem(
                read(certificate)?,
                read(key)?,
            )),
            _ => {
                let message = "a client certificate and its key go together";
                return Err(Error::new(ErrorKind::InvalidArgument, "", message));
            }
        };
        options.skip_verify = self.skip_verify;
        Ok(options)
    }
}

/// The clients of the process's own runtime, by what sets them apart, so that later downloads find connections open.
#[cfg(feature = "http")]
static CLIENTS: LazyLock<Mutex<HashMap<(Duration, TlsFiles), pget_http::Client>>> =
    LazyLock::new(Mutex::default);

/// The builder's client; else one of the process's, for reads on its runtime; else a new one, whose connections end with the caller's runtime.
#[cfg(feature = "http")]
fn client(builder: &Builder, tls: TlsFiles) -> Result<pget_http::Client, Error> {
    if let Some(client) = &builder.client {
        return Ok(client.clone());
    }
    let connect_timeout = builder.options.deadlines.connect;
    let make = |tls: &TlsFiles| {
        let mut options = pget_http::ClientOptions::default();
        options.connect_timeout = connect_timeout;
        options.tls = tls.read()?;
        pget_http::Client::new(&options)
    };
    if !builder.on_process_runtime {
        return make(&tls);
    }
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (connect_timeout, tls);
    if let Some(client) = clients.get(&key) {
        return Ok(client.clone());
    }
    let client = make(&key.1)?;
    clients.insert(key, client.clone());
    Ok(client)
}
