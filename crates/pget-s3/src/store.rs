//! The three clouds' stores of `object_store`, made for what they know of endpoints and credentials.
//!
//! Invariants: whatever cannot be used is told here, before anything is sent; unsigned requests lead to no look-up of credentials. Called by
//! [`urls`](crate::urls) and by the source that opens.

use std::{fmt, sync::Arc, time::Duration};

use object_store::{
    Error as StoreError, RetryConfig, StaticCredentialProvider,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential},
    azure::{AzureAccessKey, AzureConfigKey, AzureCredential, MicrosoftAzureBuilder},
    client::HttpConnector,
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
};
use percent_encoding::utf8_percent_encode;
use pget_core::{Error, ErrorKind};
use url::Url;

use crate::{
    address::{Address, Cloud},
    failure,
    settings::Settings,
    sign::{PATH, Signer, parse},
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

    /// See [`S3Source::place`](crate::S3Source::place).
    pub(crate) fn place(&self) -> String {
        let endpoint = |text: Option<String>| text.map(|text| text.trim_end_matches('/').to_owned());
        let told = match &self.kind {
            Kind::Aws { builder, .. } => {
                let value = |key| endpoint(builder.get_config_value(&key));
                // As object_store has it: the service's own goes first.
                vec![value(AmazonS3ConfigKey::S3Endpoint).or_else(|| value(AmazonS3ConfigKey::Endpoint))]
            }
            Kind::Google { builder, .. } => {
                vec![endpoint(builder.get_config_value(&GoogleConfigKey::BaseUrl))]
            }
            Kind::Azure { builder, .. } => vec![
                endpoint(builder.get_config_value(&AzureConfigKey::Endpoint)),
                builder.get_config_value(&AzureConfigKey::AccountName),
                builder.get_config_value(&AzureConfigKey::UseEmulator),
            ],
        };
        let told: Vec<_> = told.into_iter().map(Option::unwrap_or_default).collect();
        told.join(" ")
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
