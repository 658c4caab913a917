//! The three clouds' stores of `object_store`, used for what they know of endpoints, credentials and signatures: an address in, a signed URL out.
//!
//! Invariants: the URL asks for exactly the address's key (checked, as the libraries on the way normalise paths); without a signature asked for, none is made and no
//! credential is looked for. Called by [`urls`](crate::urls) only.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Request};
use object_store::{
    Error as StoreError, RetryConfig, StaticCredentialProvider,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredential},
    azure::{AzureAccessKey, AzureConfigKey, AzureCredential, MicrosoftAzure, MicrosoftAzureBuilder},
    client::{HttpConnector, HttpRequest, HttpRequestBody},
    gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey},
    path::Path,
    signer::{SignedUrlOptions, Signer as _},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use pget_core::{Error, ErrorKind};
use url::Url;

use crate::{
    address::{Address, Cloud},
    failure,
    settings::Settings,
};

/// What RFC 3986 calls unreserved stays, and the slashes between segments: the encoding that SigV4 wants ("Create a canonical request" of the IAM user guide).
const PATH: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');
/// The same for a value in a query.
const VALUE: AsciiSet = PATH.add(b'/');

const GOOGLE: &str = "https://storage.googleapis.com";

/// How long the servers let a request in after the time in its signed header, of which none but S3 has one: 15 minutes
/// ("RequestTimeTooSkewed" of the Amazon S3 API reference).
pub(crate) const HEADER_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Where and with what a request goes.
pub(crate) struct Signed {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
}

/// How to make signers for one address: at first, after a refusal, for another region.
pub(crate) struct Recipe {
    address: Address,
    kind: Kind,
}

enum Kind {
    Aws {
        builder: Box<AmazonS3Builder>,
        unsigned: bool,
    },
    Google {
        builder: Box<GoogleCloudStorageBuilder>,
        unsigned: Option<String>,
    },
    Azure {
        builder: Box<MicrosoftAzureBuilder>,
        unsigned: Option<String>,
    },
}

/// Signs for one address.
pub(crate) enum Signer {
    Aws {
        store: AmazonS3,
        region: String,
        payer: bool,
        unsigned: bool,
    },
    Google(GoogleCloudStorage),
    Azure {
        store: MicrosoftAzure,
        query: Option<String>,
    },
    Plain(Url),
}

/// object_store asks for credentials again by itself; a read that waits for them is better told soon.
fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: 2,
        retry_timeout: Duration::from_secs(15),
        ..RetryConfig::default()
    }
}

impl Recipe {
    pub(crate) fn new(
        address: Address,
        settings: &Settings,
        connector: impl HttpConnector,
    ) -> Result<Self, Error> {
        let kind = match address.cloud {
            Cloud::Aws => {
                let mut builder = AmazonS3Builder::new()
                    .with_http_connector(connector)
                    .with_retry(retries())
                    .with_bucket_name(&address.bucket);
                for (key, value) in settings.of::<AmazonS3ConfigKey>()? {
                    builder = builder.with_config(key, value);
                }
                for key in [AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint] {
                    check_endpoint(&address, builder.get_config_value(&key))?;
                }
                let unsigned = is_true(
                    &address,
                    builder.get_config_value(&AmazonS3ConfigKey::SkipSignature),
                )?;
                if unsigned {
                    let nobody = AwsCredential {
                        key_id: "nobody".into(),
                        secret_key: "nobody".into(),
                        token: None,
                    };
                    builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
                }
                let builder = Box::new(builder);
                Kind::Aws { builder, unsigned }
            }
            Cloud::Google => {
                let mut builder = GoogleCloudStorageBuilder::new()
                    .with_http_connector(connector)
                    .with_retry(retries())
                    .with_bucket_name(&address.bucket);
                for (key, value) in settings.of::<GoogleConfigKey>()? {
                    builder = builder.with_config(key, value);
                }
                let base = builder.get_config_value(&GoogleConfigKey::BaseUrl);
                check_endpoint(&address, base.clone())?;
                let unsigned = is_true(
                    &address,
                    builder.get_config_value(&GoogleConfigKey::SkipSignature),
                )?
                .then(|| base.unwrap_or_else(|| GOOGLE.into()));
                let builder = Box::new(builder);
                Kind::Google { builder, unsigned }
            }
            Cloud::Azure => {
                let mut builder = MicrosoftAzureBuilder::new()
                    .with_http_connector(connector)
                    .with_retry(retries())
                    .with_container_name(&address.bucket);
                for (key, value) in settings.of::<AzureConfigKey>()? {
                    builder = builder.with_config(key, value);
                }
                check_endpoint(&address, builder.get_config_value(&AzureConfigKey::Endpoint))?;
                let skip = is_true(&address, builder.get_config_value(&AzureConfigKey::SkipSignature))?;
                // A shared access signature is a query that goes with every request as it is.
                let shared = match builder.get_config_value(&AzureConfigKey::AccessKey) {
                    None => builder.get_config_value(&AzureConfigKey::SasKey),
                    Some(_) => None,
                };
                let unsigned = if skip { Some(String::new()) } else { shared };
                if unsigned.is_some() {
                    let nobody = AzureAccessKey::try_new("bm9ib2R5").map_err(|error| {
                        let cause = failure::Cause::of(&error);
                        Error::with_cause(ErrorKind::Internal, address.text.clone(), "its settings", cause)
                    })?;
                    // Without signing there would be no URL either.
                    builder = builder.with_skip_signature(false).with_credentials(Arc::new(
                        StaticCredentialProvider::new(AzureCredential::AccessKey(nobody)),
                    ));
                }
                let builder = Box::new(builder);
                Kind::Azure { builder, unsigned }
            }
        };
        let recipe = Self { address, kind };
        recipe.signer(None).map(drop).map_err(|error| {
            let cause = failure::Cause::of(&error);
            Error::with_cause(
                ErrorKind::InvalidArgument,
                recipe.address.text.clone(),
                "its settings",
                cause,
            )
        })?;
        recipe.check_key()?;
        Ok(recipe)
    }

    /// A signer that starts without cached credentials.
    pub(crate) fn signer(&self, region: Option<&str>) -> Result<Signer, StoreError> {
        match &self.kind {
            Kind::Aws { builder, unsigned } => {
                let mut builder = builder.as_ref().clone();
                if let Some(region) = region {
                    builder = builder.with_region(region);
                }
                let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
                let payer = builder.get_config_value(&AmazonS3ConfigKey::RequestPayer);
                Ok(Signer::Aws {
                    // The default of object_store.
                    region: region.unwrap_or_else(|| "us-east-1".into()),
                    payer: payer.is_some_and(|payer| {
                        matches!(
                            payer.to_ascii_lowercase().as_str(),
                            "requester" | "true" | "1" | "yes" | "on" | "y"
                        )
                    }),
                    store: builder.build()?,
                    unsigned: *unsigned,
                })
            }
            Kind::Google {
                unsigned: Some(base), ..
            } => {
                let key = utf8_percent_encode(&self.address.key, &PATH);
                let text = format!("{}/{}/{key}", base.trim_end_matches('/'), self.address.bucket);
                Ok(Signer::Plain(parse(&text)?))
            }
            Kind::Google { builder, .. } => Ok(Signer::Google(builder.as_ref().clone().build()?)),
            Kind::Azure { builder, unsigned } => Ok(Signer::Azure {
                store: builder.as_ref().clone().build()?,
                query: unsigned
                    .as_ref()
                    .map(|query| query.trim_start_matches('?').to_owned()),
            }),
        }
    }

    /// `object_store` cannot write every key; what it would write instead is another object.
    fn check_key(&self) -> Result<(), Error> {
        let odd = self.address.path().is_none();
        if odd
            && matches!(
                self.kind,
                Kind::Google { unsigned: None, .. } | Kind::Azure { .. }
            )
        {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                self.address.text.clone(),
                "a key with an empty part (//, or a slash at either end) can be read from S3 only",
            ));
        }
        Ok(())
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
}

impl fmt::Debug for Recipe {
    /// Without the builders, which print secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipe")
            .field("address", &self.address.text)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Where to send a request of this method for `address`. May ask for credentials over the network.
    pub(crate) async fn sign(
        &self,
        method: pget_http::Method,
        address: &Address,
        lifetime: Duration,
    ) -> Result<Signed, StoreError> {
        let method = &match method {
            pget_http::Method::Get => http::Method::GET,
            pget_http::Method::Head => http::Method::HEAD,
        };
        let signed = match (self, address.path()) {
            (Self::Plain(url), _) => Signed {
                url: with_version(url.clone(), address),
                headers: HeaderMap::new(),
            },
            (
                Self::Aws {
                    store,
                    unsigned: true,
                    ..
                },
                _,
            ) => {
                let url = bucket_url(store, method).await?;
                Signed {
                    url: with_version(url_of(&url, &address.key)?, address),
                    headers: HeaderMap::new(),
                }
            }
            (Self::Aws { store, .. }, Some(path)) => {
                let mut options = SignedUrlOptions::new();
                if let Some(version) = &address.version {
                    options = options.with_query([("versionId", version.as_str())]);
                }
                let url = store
                    .signed_url_opts(method.clone(), &path, lifetime, &options)
                    .await?;
                Signed {
                    url,
                    headers: HeaderMap::new(),
                }
            }
            (
                Self::Aws {
                    store, region, payer, ..
                },
                None,
            ) => {
                let url = with_version(url_of(&bucket_url(store, method).await?, &address.key)?, address);
                let credential = store.credentials().get_credential().await?;
                let authorizer = AwsAuthorizer::new(&credential, "s3", region).with_request_payer(*payer);
                Signed {
                    headers: signed_headers(method, &url, &authorizer)?,
                    url,
                }
            }
            (Self::Google(store), _) => {
                // Unlike the others, this one puts the path into the URL as it is.
                let path = Path::parse(utf8_percent_encode(&address.key, &PATH).to_string())?;
                let mut options = SignedUrlOptions::new();
                if let Some(version) = &address.version {
                    options = options.with_query([("generation", version.as_str())]);
                }
                let url = store
                    .signed_url_opts(method.clone(), &path, lifetime, &options)
                    .await?;
                Signed {
                    url,
                    headers: HeaderMap::new(),
                }
            }
            (Self::Azure { store, query }, path) => {
                let path = path.ok_or_else(|| generic("the key cannot be expressed"))?;
                let mut url = store.signed_url(method.clone(), &path, lifetime).await?;
                if let Some(query) = query {
                    url.set_query((!query.is_empty()).then_some(query.as_str()));
                }
                Signed {
                    url,
                    headers: HeaderMap::new(),
                }
            }
        };
        let path: Vec<u8> = percent_decode_str(signed.url.path()).collect();
        if path.ends_with(format!("/{}", address.key).as_bytes()) {
            Ok(signed)
        } else {
            Err(generic("the key would be changed on its way into a URL"))
        }
    }

    /// The region that is signed for.
    pub(crate) fn region(&self) -> Option<&str> {
        match self {
            Self::Aws { region, .. } => Some(region),
            _ => None,
        }
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed")
            .field("path", &self.url.path())
            .finish_non_exhaustive()
    }
}

/// The bucket's URL, by the library's own rules, with a slash at its end.
async fn bucket_url(store: &AmazonS3, method: &http::Method) -> Result<Url, StoreError> {
    let second = Duration::from_secs(1);
    let options = SignedUrlOptions::new();
    let mut url = store
        .signed_url_opts(method.clone(), &Path::from("x"), second, &options)
        .await?;
    url.set_query(None);
    let text = url.as_str().strip_suffix('x').unwrap_or_default();
    parse(text)
}

fn url_of(bucket: &Url, key: &str) -> Result<Url, StoreError> {
    parse(&format!("{bucket}{}", utf8_percent_encode(key, &PATH)))
}

fn with_version(mut url: Url, address: &Address) -> Url {
    let name = match address.cloud {
        Cloud::Aws => "versionId",
        Cloud::Google => "generation",
        Cloud::Azure => return url,
    };
    if let Some(version) = &address.version {
        url.set_query(Some(&format!("{name}={}", utf8_percent_encode(version, &VALUE))));
    }
    url
}

/// The signature as headers, which unlike a signed URL can be had for any path.
fn signed_headers(
    method: &http::Method,
    url: &Url,
    authorizer: &AwsAuthorizer<'_>,
) -> Result<HeaderMap, StoreError> {
    let mut request: HttpRequest = Request::builder()
        .method(method)
        .uri(url.as_str())
        .body(HttpRequestBody::empty())
        .map_err(|_| generic("the key cannot be expressed in a URL"))?;
    authorizer.try_authorize(&mut request, None)?;
    let mut headers = std::mem::take(request.headers_mut());
    headers
        .values_mut()
        .for_each(|value: &mut HeaderValue| value.set_sensitive(true));
    Ok(headers)
}

fn parse(text: &str) -> Result<Url, StoreError> {
    Url::parse(text).map_err(|_| generic("the endpoint is no URL"))
}

fn generic(text: &str) -> StoreError {
    StoreError::Generic {
        store: "pget",
        source: text.into(),
    }
}

fn check_endpoint(address: &Address, endpoint: Option<String>) -> Result<(), Error> {
    let Some(endpoint) = endpoint else { return Ok(()) };
    let usable = Url::parse(&endpoint).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if usable {
        Ok(())
    } else {
        let text = "the endpoint is not of the form http[s]://HOST[:PORT][/PATH]";
        Err(Error::new(ErrorKind::InvalidArgument, address.text.clone(), text))
    }
}

/// Reads a switch; `object_store` does not give back the parsed value.
fn is_true(address: &Address, value: Option<String>) -> Result<bool, Error> {
    match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("false" | "0" | "no" | "off" | "n") => Ok(false),
        Some("true" | "1" | "yes" | "on" | "y") => Ok(true),
        Some(_) => Err(Error::new(
            ErrorKind::InvalidArgument,
            address.text.clone(),
            "skip_signature is true or false",
        )),
    }
}
