//! What AWS's settings come to: properties, environment and profile, in this order.
//!
//! Invariant: a setting that contradicts another, or that cannot be honoured, is an error by its
//! name before anything is sent.

use std::path::PathBuf;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pget_core::{Error, ErrorKind, SourceError};
use pget_http::Client;
use url::Url;

use super::{
    endpoint::{Rules, Style, is_express},
    profile::{Files, Section},
    table::TABLE,
};
use crate::{
    cloud::{
        context::{Context, Home},
        contract::Access,
        keys::Secret,
        service::{checked, is_open},
    },
    settings::Settings,
    values::{Values, is_on, switch},
};

/// What the settings come to.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) context: Context,
    pub(crate) values: Values,
    pub(crate) files: Files,
    pub(crate) profile: String,
    /// The profile was named, so it must be there.
    pub(crate) named: bool,
    /// `None`: nothing says so.
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<Url>,
    pub(crate) style: Style,
    pub(crate) fips: bool,
    pub(crate) dual: bool,
    accelerate: bool,
    arn_region: bool,
    global: bool,
    pub(crate) session: bool,
    pub(crate) payer: bool,
    pub(crate) access: Access,
    pub(crate) customer_key: Option<CustomerKey>,
}

/// A key of the caller's own that the object is encrypted with (SSE-C).
#[derive(Debug)]
pub(crate) struct CustomerKey {
    pub(crate) key: Secret,
    pub(crate) md5: String,
}

impl Config {
    /// Reads the settings, and the files that they name.
    pub(crate) fn new(bucket: &str, settings: &Settings, client: Client) -> Result<Self, Error> {
        let values = settings.values(&TABLE)?;
        let context = Context::new(client, settings.variables());
        if !values.unknown().is_empty() {
            tracing::debug!(variables = ?values.unknown(), "not understood, and without effect");
        }
        let files = read_files(&context, &values).map_err(refused)?;
        let named = values.first(&["default_profile", "profile"]).map(str::to_owned);
        let profile = named.clone().unwrap_or_else(|| "default".into());
        if named.is_some() && files.profile(&profile).is_none() {
            let text = format!("the profile {profile:?} is not in {}", files.looked());
            return Err(invalid(text));
        }
        let reader = Reader {
            values: &values,
            files: &files,
            section: files.profile(&profile),
        };
        reader.check_unsupported()?;
        let (region, fips) = reader.region()?;
        let style = reader.style()?;
        let config = Self {
            endpoint: reader.endpoint("s3")?,
            fips: fips || reader.switch("use_fips_endpoint")?,
            dual: reader.switch("use_dualstack_endpoint")? || reader.s3_switch("use_dualstack_endpoint")?,
            accelerate: reader.switch("use_accelerate_endpoint")?
                || reader.s3_switch("use_accelerate_endpoint")?,
            arn_region: reader.arn_region()?,
            global: reader.global(),
            session: !reader.switch("s3_disable_express_session_auth")?,
            payer: reader.payer(),
            access: reader.access()?,
            customer_key: reader.customer_key()?,
            named: named.is_some(),
            context,
            profile,
            region,
            style,
            files,
            values,
        };
        config.check(bucket)?;
        Ok(config)
    }

    fn check(&self, bucket: &str) -> Result<(), Error> {
        let keys = ["access_key_id", "secret_access_key"].map(|name| self.values.get(name).is_some());
        if keys == [true, false] {
            return Err(invalid("access_key_id is set, and secret_access_key is not"));
        }
        if self.values.switch("s3_express")? == Some(true) && !is_express(bucket) {
            let text = "s3_express is set, and the bucket is not a directory bucket (NAME--ZONE--x-s3)";
            return Err(Error::new(ErrorKind::Unsupported, "", text));
        }
        if self.customer_key.is_some() && self.endpoint.as_ref().is_some_and(is_open) {
            return Err(invalid(
                "the key of server_side_encryption=sse-c is sent over https only",
            ));
        }
        if self.endpoint.is_some() {
            for (on, name) in [
                (self.fips, "use_fips_endpoint"),
                (self.dual, "use_dualstack_endpoint"),
            ] {
                if on {
                    tracing::warn!("{name} is without effect, as an endpoint is set");
                }
            }
        }
        Ok(())
    }

    /// Returns the rules for a bucket, in the region that a server has named if one has.
    pub(crate) fn rules<'a>(&'a self, bucket: &'a str, named: Option<&'a str>) -> Rules<'a> {
        let custom = self.endpoint.is_some();
        Rules {
            bucket,
            region: self.region(named),
            endpoint: self.endpoint.as_ref(),
            style: self.style,
            fips: self.fips && !custom,
            dual: self.dual && !custom,
            accelerate: self.accelerate,
            arn_region: self.arn_region,
            global: self.global,
        }
    }

    /// Returns the region: the one that a server has named, else the one that is set, else the
    /// first.
    pub(crate) fn region<'a>(&'a self, named: Option<&'a str>) -> &'a str {
        named.or(self.region.as_deref()).unwrap_or("us-east-1")
    }

    /// Returns the endpoint that is set for another service.
    pub(crate) fn endpoint_of(&self, service: &str) -> Result<Option<Url>, SourceError> {
        let reader = Reader {
            values: &self.values,
            files: &self.files,
            section: self.files.profile(&self.profile),
        };
        reader
            .endpoint(service)
            .map_err(|error| crate::cloud::keys::unusable(error.to_line()))
    }
}

/// Reads the two files that the settings name.
pub(crate) fn read_files(context: &Context, values: &Values) -> Result<Files, SourceError> {
    Files::read(
        context.home(),
        values.get("config_file"),
        values.get("shared_credentials_file"),
    )
}

/// Returns the file of roots that the settings name in the place of the platform's.
pub(crate) fn roots(settings: &Settings) -> Result<Option<PathBuf>, Error> {
    let values = settings.values(&TABLE)?;
    let home = Home(settings.variables());
    if let Some(path) = values.get("ca_bundle") {
        return Ok(home.path(path));
    }
    let files = Files::read(
        &home,
        values.get("config_file"),
        values.get("shared_credentials_file"),
    );
    let name = values.first(&["default_profile", "profile"]).unwrap_or("default");
    let files = files.map_err(refused)?;
    let path = files.profile(name).and_then(|section| section.get("ca_bundle"));
    Ok(path.and_then(|path| home.path(path)))
}

/// Looks settings up.
struct Reader<'a> {
    values: &'a Values,
    files: &'a Files,
    section: Option<&'a Section>,
}

impl<'a> Reader<'a> {
    /// Returns a setting of properties or environment, else of the profile.
    fn word(&self, name: &str) -> Option<&'a str> {
        self.values.get(name).or_else(|| self.section?.get(name))
    }

    fn switch(&self, name: &str) -> Result<bool, Error> {
        self.word(name).map_or(Ok(false), |value| is_on(name, value))
    }

    /// Returns a switch of the profile's `s3` part.
    fn s3_switch(&self, name: &str) -> Result<bool, Error> {
        let value = self.section.and_then(|section| section.nested("s3", name));
        value.map_or(Ok(false), |value| is_on(name, value))
    }

    /// Returns the region, and whether its name stands for its FIPS endpoints.
    fn region(&self) -> Result<(Option<String>, bool), Error> {
        let set = self.values.first(&["region", "default_region"]);
        let Some(region) = set.or_else(|| self.section?.get("region")) else {
            return Ok((None, false));
        };
        let plain = region
            .strip_prefix("fips-")
            .or_else(|| region.strip_suffix("-fips"));
        Ok((Some(plain.unwrap_or(region).to_owned()), plain.is_some()))
    }

    fn style(&self) -> Result<Style, Error> {
        if self.switch("virtual_hosted_style_request")? {
            return Ok(Style::Hosted);
        }
        let nested = self
            .section
            .and_then(|section| section.nested("s3", "addressing_style"));
        match self.values.get("addressing_style").or(nested) {
            None | Some("auto") => Ok(Style::Auto),
            Some("path") => Ok(Style::Path),
            Some("virtual") => Ok(Style::Virtual),
            Some(_) => Err(invalid("addressing_style is auto, path or virtual")),
        }
    }

    /// Returns the endpoint of a service, by the order of the AWS tools: the service's own
    /// variable, the one for all, the profile's for the service, the profile's for all.
    fn endpoint(&self, service: &str) -> Result<Option<Url>, Error> {
        let own = format!("endpoint_url_{}", service.replace('-', "_"));
        let property = self.values.property(&own);
        let property = property.or_else(|| self.values.property("endpoint_url").filter(|_| service == "s3"));
        let configured = || {
            let set = self
                .values
                .variable(&own)
                .or_else(|| self.values.variable("endpoint_url"));
            set.or_else(|| self.files.endpoint_of(self.section, &service.replace('-', "_")))
                .or_else(|| self.section?.get("endpoint_url"))
        };
        let text = match property {
            Some(text) => text,
            None if self.switch("ignore_configured_endpoint_urls")? => return Ok(None),
            None => match configured() {
                Some(text) => text,
                None => return Ok(None),
            },
        };
        checked(text).map(Some)
    }

    fn arn_region(&self) -> Result<bool, Error> {
        let set = self.word("s3_use_arn_region");
        let nested = self
            .section
            .and_then(|section| section.nested("s3", "use_arn_region"));
        set.or(nested)
            .map_or(Ok(true), |value| is_on("s3_use_arn_region", value))
    }

    /// Whether `us-east-1` is asked by the global name.
    fn global(&self) -> bool {
        let name = "s3_us_east_1_regional_endpoint";
        let nested = || self.section?.nested("s3", "us_east_1_regional_endpoint");
        self.word(name).or_else(nested) == Some("legacy")
    }

    fn payer(&self) -> bool {
        let value = self.values.get("request_payer").unwrap_or_default();
        value.eq_ignore_ascii_case("requester") || switch(value) == Some(true)
    }

    fn access(&self) -> Result<Access, Error> {
        Ok(match self.values.switch("skip_signature")? {
            Some(true) => Access::Anonymous,
            Some(false) => Access::Required,
            None => Access::Found,
        })
    }

    fn customer_key(&self) -> Result<Option<CustomerKey>, Error> {
        let asked = self
            .values
            .get("server_side_encryption")
            .is_some_and(|kind| kind.eq_ignore_ascii_case("sse-c"));
        let key = self.values.get("sse_customer_key_base64");
        let Some(key) = key.filter(|_| asked) else {
            return if asked {
                Err(invalid(
                    "server_side_encryption=sse-c needs sse_customer_key_base64",
                ))
            } else {
                Ok(None)
            };
        };
        let bytes = BASE64_STANDARD
            .decode(key)
            .ok()
            .filter(|bytes| bytes.len() == 32)
            .ok_or_else(|| invalid("sse_customer_key_base64 is not 32 bytes in base64"))?;
        let md5 = <md5::Md5 as md5::Digest>::digest(&bytes);
        Ok(Some(CustomerKey {
            key: Secret::new(key),
            md5: BASE64_STANDARD.encode(md5),
        }))
    }

    /// Refuses what the profile sets and this program cannot do.
    fn check_unsupported(&self) -> Result<(), Error> {
        let nested = self
            .section
            .and_then(|section| section.nested("s3", "signature_version"));
        let names = self
            .section
            .map(|section| section.nested_names("s3"))
            .unwrap_or_default();
        let unknown: Vec<_> = names.into_iter().filter(|name| !S3_PART.contains(name)).collect();
        if !unknown.is_empty() {
            tracing::debug!(
                ?unknown,
                "not understood in the profile's s3 part, and without effect"
            );
        }
        if nested.is_some_and(|version| version != "s3v4") {
            let text = "the profile's signature_version is not s3v4";
            return Err(Error::new(ErrorKind::Unsupported, "", text));
        }
        Ok(())
    }
}

/// What the profile's `s3` part may have; most of it is for other ways to transfer.
const S3_PART: [&str; 16] = [
    "addressing_style",
    "max_bandwidth",
    "max_concurrent_requests",
    "max_queue_size",
    "multipart_chunksize",
    "multipart_threshold",
    "payload_signing_enabled",
    "preferred_transfer_client",
    "should_stream",
    "signature_version",
    "target_bandwidth",
    "us_east_1_regional_endpoint",
    "use_accelerate_endpoint",
    "use_arn_region",
    "use_dualstack_endpoint",
    "io_chunksize",
];

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, "", text)
}

fn refused(error: SourceError) -> Error {
    Error::from_source("", error)
}
