//! The three clouds' stores of `object_store`, made for what they know of endpoints and credentials.
//!
//! Invariants: whatever cannot be used is told here, before anything is sent; a URL asks for exactly the address's bucket and key (checked, as the libraries on the way normalise paths);
//! unsigned requests lead to no look-up of credentials. Called by
//! [`urls`](crate::urls) and by the source that opens.

use std::{fmt, sync::Arc, time::Duration};

use object_store::{
    Error as StoreError, RetryConfig, StaticCredentialProvider,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential},
    azure::{AzureAccessKey, AzureConfigKey, AzureCredential, MicrosoftAzureBuilder},
    client::HttpConnector,
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
};
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use pget_core::{Error, ErrorKind};
use url::Url;

use crate::{
    address::{Address, Cloud},
    clock::Offset,
    failure,
    settings::{Settings, switch},
    sign::{PATH, Signed, Signer, generic, parse},
};

const GOOGLE: &str = "https://storage.googleapis.com";

/// How to make signers for one address: at first, after a refusal, for another region.
pub(crate) struct Recipe {
    address: Address,
    kind: Kind,
}

enum Kind {
    Aws {
        builder: Box<AmazonS3Builder>,
        unsigned: bool,
        /// The bucket is told by the host, not by the path.
        hosted: bool,
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
                    let ends = matches!(key, AmazonS3ConfigKey::Endpoint | AmazonS3ConfigKey::S3Endpoint);
                    builder = builder.with_config(key, if ends { without_slash(value) } else { value });
                }
                let value = |key| builder.get_config_value(&key);
                for key in [AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint] {
                    check_endpoint(&address, value(key))?;
                }
                let hosted = value(AmazonS3ConfigKey::VirtualHostedStyleRequest);
                let hosted = is_true(&address, "virtual_hosted_style_request", hosted)?;
                if hosted {
                    check_host(&address, s3_endpoint(&builder))?;
                }
                let unsigned = is_true(
                    &address,
                    "skip_signature",
                    value(AmazonS3ConfigKey::SkipSignature),
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
                Kind::Aws {
                    builder,
                    unsigned,
                    hosted,
                }
            }
            Cloud::Google => {
                let mut builder = GoogleCloudStorageBuilder::new()
                    .with_http_connector(connector)
                    .with_retry(retries())
                    .with_bucket_name(&address.bucket);
                for (key, value) in settings.of::<GoogleConfigKey>()? {
                    let base = key == GoogleConfigKey::BaseUrl;
                    builder = builder.with_config(key, if base { without_slash(value) } else { value });
                }
                let base = builder.get_config_value(&GoogleConfigKey::BaseUrl);
                check_endpoint(&address, base.clone())?;
                let skip = builder.get_config_value(&GoogleConfigKey::SkipSignature);
                let unsigned =
                    is_true(&address, "skip_signature", skip)?.then(|| base.unwrap_or_else(|| GOOGLE.into()));
                let builder = Box::new(builder);
                Kind::Google { builder, unsigned }
            }
            Cloud::Azure => {
                let mut builder = MicrosoftAzureBuilder::new()
                    .with_http_connector(connector)
                    .with_retry(retries())
                    .with_container_name(&address.bucket);
                for (key, value) in settings.of::<AzureConfigKey>()? {
                    let ends = key == AzureConfigKey::Endpoint;
                    builder = builder.with_config(key, if ends { without_slash(value) } else { value });
                }
                check_endpoint(&address, builder.get_config_value(&AzureConfigKey::Endpoint))?;
                let value = |key| builder.get_config_value(&key);
                let skip = is_true(&address, "skip_signature", value(AzureConfigKey::SkipSignature))?;
                // A shared access signature is a query that goes with every request as it is.
                let shared = match value(AzureConfigKey::AccessKey) {
                    None => value(AzureConfigKey::SasKey),
                    Some(_) => None,
                };
                let unsigned = if skip { Some(String::new()) } else { shared };
                let by_program = match value(AzureConfigKey::CredentialType).as_deref() {
                    None | Some("auto") => {
                        is_true(&address, "use_azure_cli", value(AzureConfigKey::UseAzureCli))?
                            && !comes_before_the_program(value)
                    }
                    Some(kind) => kind == "azure_cli",
                };
                if unsigned.is_none() && by_program {
                    let text = "credentials of the Azure CLI, as pget starts no other program";
                    return Err(Error::new(ErrorKind::Unsupported, address.text.clone(), text));
                }
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
            Kind::Aws {
                builder, unsigned, ..
            } => {
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
                let text = format!("{base}/{}/{key}", self.address.bucket);
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

    /// Where and with what to ask for the address, by one of its [signers](Self::signer). May ask for credentials over the network.
    pub(crate) async fn sign(
        &self,
        signer: &Signer,
        method: pget_http::Method,
        lifetime: Duration,
        offset: Option<Offset>,
    ) -> Result<Signed, StoreError> {
        let signed = signer.sign(method, &self.address, lifetime, offset).await?;
        if self.is_path(&signed.url) {
            Ok(signed)
        } else {
            Err(generic("the key would be changed on its way into a URL"))
        }
    }

    /// Whether that is the URL's path: the endpoint's, the bucket unless the host tells it, the key.
    fn is_path(&self, url: &Url) -> bool {
        let (bucket, key) = (&self.address.bucket, &self.address.key);
        let end = match self.kind {
            Kind::Aws { hosted: true, .. } => format!("/{key}"),
            _ => format!("/{bucket}/{key}"),
        };
        let path: Vec<u8> = percent_decode_str(url.path()).collect();
        let Some(front) = path.strip_suffix(end.as_bytes()) else {
            return false;
        };
        match self.endpoint_path() {
            Some(endpoint) => front == endpoint,
            None => !front.ends_with(b"/"),
        }
    }

    /// The path of the endpoint, decoded; `None` where it is `object_store` that knows the endpoint (of a service account's file, of Azure's emulator).
    fn endpoint_path(&self) -> Option<Vec<u8>> {
        let endpoint = match &self.kind {
            Kind::Aws { builder, .. } => s3_endpoint(builder),
            Kind::Google { builder, .. } => Some(builder.get_config_value(&GoogleConfigKey::BaseUrl)?),
            Kind::Azure { builder, .. } => {
                let emulated = builder.get_config_value(&AzureConfigKey::UseEmulator);
                if emulated.is_some_and(|emulated| emulated != "false") {
                    return None;
                }
                builder.get_config_value(&AzureConfigKey::Endpoint)
            }
        };
        let url = endpoint.and_then(|endpoint| Url::parse(&endpoint).ok());
        let path = url.as_ref().map_or("", |url| url.path().trim_end_matches('/'));
        Some(percent_decode_str(path).collect())
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

    /// See [`S3Source::place`](crate::S3Source::place).
    pub(crate) fn place(&self) -> String {
        let told = match &self.kind {
            Kind::Aws { builder, .. } => vec![s3_endpoint(builder)],
            Kind::Google { builder, .. } => vec![builder.get_config_value(&GoogleConfigKey::BaseUrl)],
            Kind::Azure { builder, .. } => vec![
                builder.get_config_value(&AzureConfigKey::Endpoint),
                builder.get_config_value(&AzureConfigKey::AccountName),
                builder.get_config_value(&AzureConfigKey::UseEmulator),
            ],
        };
        let told: Vec<_> = told.into_iter().map(Option::unwrap_or_default).collect();
        told.join(" ")
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

/// As `object_store` has it: the service's own goes first.
fn s3_endpoint(builder: &AmazonS3Builder) -> Option<String> {
    let value = |key| builder.get_config_value(&key);
    value(AmazonS3ConfigKey::S3Endpoint).or_else(|| value(AmazonS3ConfigKey::Endpoint))
}

/// Whether `object_store` finds credentials before it would ask the Azure CLI, in its order; but a shared access signature, which is looked at apart.
fn comes_before_the_program(value: impl Fn(AzureConfigKey) -> Option<String>) -> bool {
    use AzureConfigKey as K;
    let sets: [&[K]; 5] = [
        &[
            K::FabricTokenServiceUrl,
            K::FabricWorkloadHost,
            K::FabricSessionToken,
            K::FabricClusterIdentifier,
        ],
        &[K::Token],
        &[K::AccessKey],
        &[K::ClientId, K::AuthorityId, K::FederatedTokenFile],
        &[K::ClientId, K::AuthorityId, K::ClientSecret],
    ];
    sets.iter().any(|set| set.iter().all(|&key| value(key).is_some()))
}

/// `object_store` puts a slash between an endpoint and a key, and two of them are the beginning of another key.
fn without_slash(endpoint: String) -> String {
    endpoint.trim_end_matches('/').to_owned()
}

/// With virtual hosting, the endpoint alone says which bucket is read, which must be the address's.
fn check_host(address: &Address, endpoint: Option<String>) -> Result<(), Error> {
    let Some(endpoint) = endpoint else { return Ok(()) };
    let bucket = &address.bucket;
    let is_there = Url::parse(&endpoint).is_ok_and(|url| {
        let rest = url.host_str().and_then(|host| host.strip_prefix(bucket.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    if is_there {
        return Ok(());
    }
    let text = format!(
        "with virtual_hosted_style_request, the endpoint's host begins with the bucket's name: set one for {bucket} (http[s]://{bucket}.HOST), or leave \
         virtual_hosted_style_request away"
    );
    Err(Error::new(ErrorKind::InvalidArgument, address.text.clone(), text))
}

fn is_true(address: &Address, name: &str, value: Option<String>) -> Result<bool, Error> {
    let Some(value) = value else { return Ok(false) };
    switch(&value).ok_or_else(|| {
        let text = format!("{name} is true or false");
        Error::new(ErrorKind::InvalidArgument, address.text.clone(), text)
    })
}
