//! From an address to a source: which transport, with which client.

use std::sync::Arc;

use pget_core::{Error, ErrorKind, RangeSource};

#[cfg(feature = "http")]
use crate::clients::{TlsFiles, client};
use crate::{Address, Builder, properties};

/// A source, and what its address does not say of where the object is: the endpoint. Empty where
/// the address is all there is. No credential.
pub(crate) struct Located {
    pub(crate) source: Arc<dyn RangeSource>,
    pub(crate) endpoint_id: String,
}

impl<S: RangeSource + 'static> From<S> for Located {
    fn from(source: S) -> Self {
        Self {
            source: Arc::new(source),
            endpoint_id: String::new(),
        }
    }
}

/// Returns the source that `address` names.
pub(crate) fn source(address: Address, builder: &Builder) -> Result<Located, Error> {
    properties::check(&address, &builder.settings.properties)?;
    let made = of_transport(address.clone(), builder);
    made.map_err(|error| properties::explain(&address, &builder.settings.properties, error))
}

fn of_transport(address: Address, builder: &Builder) -> Result<Located, Error> {
    if !builder.settings.headers.is_empty() && !matches!(address, Address::Http(_)) {
        let message = "headers are for http and https addresses";
        return Err(Error::new(ErrorKind::InvalidArgument, "", message));
    }
    match address {
        #[cfg(feature = "file")]
        Address::File(path) => Ok(pget_file::FileSource::new(path).into()),
        #[cfg(feature = "http")]
        Address::Http(url) => {
            let client = client(builder, TlsFiles::default())?;
            Ok(pget_http::HttpSource::new(client, &url, headers(&builder.settings.headers)?)?.into())
        }
        #[cfg(feature = "aistore")]
        Address::Aistore(url) => {
            let config =
                pget_aistore::Config::new(|name| std::env::var(name).ok(), &builder.settings.properties)?;
            let object = pget_aistore::ObjectAddress::parse(&url, config.provider.as_deref())?;
            let tls = TlsFiles {
                authorities: config.client_ca.clone(),
                certificate: config.certificate.clone(),
                key: config.certificate_key.clone(),
                skip_verify: config.skip_verify,
                ..TlsFiles::default()
            };
            let client = client(builder, tls)?;
            let source = pget_aistore::AistoreSource::new(client, config, object)?;
            let endpoint_id = source.endpoint_id();
            Ok(Located {
                endpoint_id,
                ..source.into()
            })
        }
        #[cfg(feature = "s3")]
        Address::S3(url) | Address::Gcs(url) | Address::Azure(url) => {
            let mut settings = pget_s3::Settings::from_env();
            for (key, value) in &builder.settings.properties {
                settings = settings.property(key, value);
            }
            let tls = TlsFiles {
                roots: pget_s3::roots(&settings, &url)?,
                ..TlsFiles::default()
            };
            let client = client(builder, tls)?;
            let source = pget_s3::S3Source::open(&url, &settings, client)?;
            let endpoint_id = source.endpoint_id().to_owned();
            Ok(Located {
                endpoint_id,
                ..source.into()
            })
        }
        #[allow(unreachable_patterns, reason = "reached when a transport is not built in")]
        other => Err(unsupported(match other {
            Address::Aistore(_) => "aistore",
            Address::S3(_) | Address::Gcs(_) | Address::Azure(_) => "s3",
            Address::Http(_) => "http",
            Address::File(_) => "file",
        })),
    }
}

fn unsupported(feature: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "",
        format!("this build has no {feature} (cargo feature {feature:?})"),
    )
}

#[cfg(feature = "http")]
fn headers(pairs: &[(String, String)]) -> Result<http::HeaderMap, Error> {
    let mut headers = http::HeaderMap::new();
    for (name, value) in pairs {
        // The value may be a credential, so no error repeats it. What is no name may hold one, too.
        let invalid = |message: String| Error::new(ErrorKind::InvalidArgument, "", message);
        let key = http::HeaderName::try_from(name.as_str())
            .map_err(|_| invalid("a header has an unusable name".into()))?;
        if pget_http::is_reserved_header(&key) {
            let message = format!("the header {name:?} is the client's own");
            return Err(Error::new(ErrorKind::InvalidArgument, "", message));
        }
        let mut value = http::HeaderValue::try_from(value.as_str())
            .map_err(|_| invalid(format!("the header {name:?} has an unusable value")))?;
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}
