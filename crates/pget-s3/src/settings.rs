//! What the caller and the environment say about a store: endpoints, regions, credentials.
//!
//! Invariants: a property of the caller beats the environment, credentials as a set (a key of the one is never joined with a token of the other); a property that
//! is not understood is an error; no value is ever printed. Names and meaning of the keys are `object_store`'s.

use std::{fmt, str::FromStr, time::Duration};

use object_store::{ClientConfigKey, aws::AmazonS3ConfigKey, azure::AzureConfigKey, gcp::GoogleConfigKey};
use pget_core::{Error, ErrorKind};

/// Settings of the stores behind `s3://`, `gs://` and `az://` addresses.
///
/// # Environment
/// `AWS_…`, `GOOGLE_…` and `AZURE_…` as `object_store` understands them, for S3: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
/// `AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL_S3` (before `AWS_ENDPOINT_URL`), `AWS_SKIP_SIGNATURE`, `AWS_VIRTUAL_HOSTED_STYLE_REQUEST`, `AWS_REQUEST_PAYER`,
/// `AWS_WEB_IDENTITY_TOKEN_FILE` with `AWS_ROLE_ARN`, `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, `AWS_CONTAINER_CREDENTIALS_FULL_URI`, `AWS_METADATA_ENDPOINT`, ….
/// Names that are not understood are left alone, and a variable that is empty is not set. `~/.aws` and `AWS_PROFILE` are not read.
///
/// # Properties
/// `aws.`, `google.` or `azure.` and the name without its first word, in lower case: `aws.region`, `aws.endpoint`, `aws.access_key_id`, `google.service_account`,
/// `azure.account_name`, `azure.sas_token`, …. The environment's spelling and `object_store`'s plain names (`region`) will do, too. Those of another cloud, and any that begin with
/// another word and a dot (`ais.endpoint`), are left alone, so that one set of properties can serve addresses of all kinds.
///
/// Those of `object_store`'s HTTP client are not used: one that would have to count here (proxies, certificates, time limits, `allow_http=false`) is
/// [`Unsupported`](ErrorKind::Unsupported), as the caller's own client has it; one that does not (pools, HTTP/2, user agent) is passed over.
#[derive(Clone)]
pub struct Settings {
    environment: Vec<(String, String)>,
    properties: Vec<(String, String)>,
    lifetime: Duration,
}

impl Settings {
    /// How long a signed address is good for unless [`url_lifetime`](Self::url_lifetime) says otherwise.
    pub const URL_LIFETIME: Duration = Duration::from_secs(15 * 60);

    /// Nothing set, and nothing taken from the environment.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            environment: Vec::new(),
            properties: Vec::new(),
            lifetime: Self::URL_LIFETIME,
        }
    }

    /// What the process's environment says now.
    #[must_use]
    pub fn from_env() -> Self {
        Self::new().environment(
            std::env::vars_os()
                .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// Takes these variables for the environment.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment = variables
            .into_iter()
            .filter(|(key, value)| {
                !value.is_empty() && CLOUDS.iter().any(|cloud| key.starts_with(cloud.environment))
            })
            .collect();
        // The order decides where two variables mean the same; the environment's own order is by chance.
        self.environment.sort();
        self
    }

    /// Sets a property. The last of two with the same meaning counts.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((key.into(), value.into()));
        self
    }

    /// How long a signed address is good for, 1 s to 7 days in whole seconds; it is signed anew in the last third of that time.
    #[must_use]
    pub const fn url_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    pub(crate) fn lifetime(&self) -> Result<Duration, Error> {
        let seconds = self.lifetime.as_secs();
        if (1..=7 * 86_400).contains(&seconds) {
            Ok(Duration::from_secs(seconds))
        } else {
            let text = format!("a signed address cannot be good for {:?}", self.lifetime);
            Err(Error::new(ErrorKind::InvalidArgument, "", text))
        }
    }

    /// What is set for one cloud, in the order in which it is to be applied.
    pub(crate) fn of<K: Key>(&self) -> Result<Vec<(K, String)>, Error> {
        let cloud = &CLOUDS[K::CLOUD];
        let mut given = Vec::new();
        for (name, value) in &self.properties {
            let refuse =
                |why: &str| Error::new(ErrorKind::InvalidArgument, "", format!("property {name:?} {why}"));
            let Some(spellings) = cloud.own(name) else {
                continue;
            };
            let key = spellings
                .iter()
                .find_map(|spelling| spelling.parse::<K>().ok())
                .ok_or_else(|| refuse("is not known (names are those of object_store)"))?;
            match key.standing(value) {
                Standing::Used => given.push((key, value.clone())),
                Standing::Idle => {}
                Standing::Unsupported => {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "",
                        format!("property {name:?} is not supported"),
                    ));
                }
            }
        }
        let mut all: Vec<(K, String)> = self
            .environment
            .iter()
            .filter(|(name, _)| name.starts_with(cloud.environment))
            .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse::<K>().ok()?, value.clone())))
            .filter(|(key, value)| key.standing(value) == Standing::Used)
            .filter(|(key, _)| !given.iter().any(|(other, _)| other.supersedes(key)))
            .collect();
        all.extend(given);
        if all
            .iter()
            .any(|(key, value)| !key.has_lines() && value.chars().any(char::is_control))
        {
            let text = format!("a setting of {} has control characters", cloud.word);
            return Err(Error::new(ErrorKind::InvalidArgument, "", text));
        }
        Ok(all)
    }
}

impl Default for Settings {
    /// [`from_env`](Self::from_env).
    fn default() -> Self {
        Self::from_env()
    }
}

impl fmt::Debug for Settings {
    /// Names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, String)]| pairs.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        f.debug_struct("Settings")
            .field("environment", &names(&self.environment))
            .field("properties", &names(&self.properties))
            .field("lifetime", &self.lifetime)
            .finish()
    }
}

struct Names {
    environment: &'static str,
    /// First word of properties, as in `aws.region`.
    word: &'static str,
}

const CLOUDS: [Names; 3] = [
    Names {
        environment: "AWS_",
        word: "aws",
    },
    Names {
        environment: "GOOGLE_",
        word: "google",
    },
    Names {
        environment: "AZURE_",
        word: "azure",
    },
];

impl Names {
    /// What the property may be called by `object_store`, if it may be one of this cloud.
    fn own(&self, name: &str) -> Option<Vec<String>> {
        let name = name.to_ascii_lowercase();
        if let Some((word, rest)) = name.split_once('.') {
            return (word == self.word).then(|| vec![format!("{word}_{rest}"), rest.to_owned()]);
        }
        let of_another = CLOUDS
            .iter()
            .any(|other| other.word != self.word && name.starts_with(&format!("{}_", other.word)));
        (!of_another).then(|| vec![name])
    }
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Used,
    /// For writers, or for a client that is not used: has no bearing on reading.
    Idle,
    /// Would have to change how is read, and does not.
    Unsupported,
}

/// A cloud's configuration keys.
pub(crate) trait Key: FromStr<Err = object_store::Error> + PartialEq + Copy {
    const CLOUD: usize;

    /// What becomes of it, if it has this value.
    fn standing(&self, value: &str) -> Standing;

    /// Its value is a document, which may have more than one line.
    fn has_lines(&self) -> bool {
        false
    }

    /// Whether setting this by property makes the environment's `other` void.
    fn supersedes(&self, other: &Self) -> bool {
        self == other
    }
}

/// What `object_store` reads a switch as; it does not give back the parsed value.
pub(crate) fn switch(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "y" => Some(true),
        "false" | "0" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

/// Of the HTTP client's keys: bodies come by `pget-http`, which has its own, and so do credentials, by the same TLS.
fn client(key: ClientConfigKey, value: &str) -> Standing {
    use ClientConfigKey as K;
    let of_no_bearing = match key {
        // Whether http is used is said by the endpoint.
        K::AllowHttp => switch(value) == Some(true),
        K::AllowInvalidCertificates | K::NoSystemCertificates => switch(value) == Some(false),
        K::ProxyUrl
        | K::ProxyCaCertificate
        | K::ProxyExcludes
        | K::ConnectTimeout
        | K::ReadTimeout
        | K::Timeout => false,
        _ => true,
    };
    if of_no_bearing {
        Standing::Idle
    } else {
        Standing::Unsupported
    }
}

impl Key for AmazonS3ConfigKey {
    const CLOUD: usize = 0;

    fn standing(&self, value: &str) -> Standing {
        match self {
            Self::Client(key) => client(*key, value),
            Self::Checksum
            | Self::ConditionalPut
            | Self::CopyIfNotExists
            | Self::DisableBulkDelete
            | Self::DisableTagging
            | Self::UnsignedPayload
            // The bucket is said by the address.
            | Self::Bucket => Standing::Idle,
            // Both want headers or sessions that a signed address does not carry.
            Self::S3Express | Self::Encryption(_) => Standing::Unsupported,
            _ => Standing::Used,
        }
    }

    fn supersedes(&self, other: &Self) -> bool {
        let set = |key: &Self| match key {
            Self::AccessKeyId | Self::SecretAccessKey | Self::Token => 1,
            Self::Endpoint | Self::S3Endpoint => 2,
            Self::Region | Self::DefaultRegion => 3,
            _ => 0,
        };
        // In the order in which they are looked at: what comes first would hide what is set.
        let source = |key: &Self| match key {
            Self::AccessKeyId | Self::SecretAccessKey | Self::Token => 1,
            Self::WebIdentityTokenFile | Self::RoleArn => 2,
            Self::ContainerCredentialsRelativeUri => 3,
            Self::ContainerCredentialsFullUri | Self::ContainerAuthorizationTokenFile => 4,
            _ => 0,
        };
        self == other
            || (set(self) != 0 && set(self) == set(other))
            || (source(other) != 0 && source(self) > source(other))
    }
}

impl Key for GoogleConfigKey {
    const CLOUD: usize = 1;

    fn standing(&self, value: &str) -> Standing {
        match self {
            Self::Client(key) => client(*key, value),
            Self::Bucket => Standing::Idle,
            // A bearer token cannot sign.
            Self::BearerToken => Standing::Unsupported,
            _ => Standing::Used,
        }
    }

    fn has_lines(&self) -> bool {
        matches!(self, Self::ServiceAccountKey)
    }

    fn supersedes(&self, other: &Self) -> bool {
        let credential = |key: &Self| {
            matches!(
                key,
                Self::ServiceAccount | Self::ServiceAccountKey | Self::ApplicationCredentials
            )
        };
        self == other || (credential(self) && credential(other))
    }
}

impl Key for AzureConfigKey {
    const CLOUD: usize = 2;

    fn standing(&self, value: &str) -> Standing {
        match self {
            Self::Client(key) => client(*key, value),
            Self::ContainerName | Self::DisableTagging => Standing::Idle,
            Self::EncryptionKey => Standing::Unsupported,
            _ => Standing::Used,
        }
    }

    fn supersedes(&self, other: &Self) -> bool {
        let credential = |key: &Self| {
            matches!(
                key,
                Self::AccessKey
                    | Self::SasKey
                    | Self::Token
                    | Self::ClientId
                    | Self::ClientSecret
                    | Self::CredentialType
            )
        };
        self == other || (credential(self) && credential(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn last(settings: &Settings, key: AmazonS3ConfigKey) -> Option<String> {
        let all = settings.of::<AmazonS3ConfigKey>().expect("understood");
        all.into_iter()
            .rev()
            .find(|(other, _)| *other == key)
            .map(|(_, value)| value)
    }

    #[test]
    fn every_spelling_of_a_property_is_understood() {
        for name in ["aws.region", "AWS.Region", "aws_region", "AWS_REGION", "region"] {
            let settings = Settings::new().property(name, "r");
            assert_eq!(
                last(&settings, AmazonS3ConfigKey::Region).as_deref(),
                Some("r"),
                "{name}"
            );
        }
    }

    #[test]
    fn properties_beat_the_environment_and_credentials_are_a_set() {
        let environment = variables(&[
            ("AWS_SESSION_TOKEN", "old"),
            ("AWS_ACCESS_KEY_ID", "old"),
            ("AWS_ENDPOINT_URL_S3", "http://old"),
            ("AWS_DEFAULT_REGION", "old"),
            ("PATH", "/bin"),
            ("AWS_UNHEARD_OF", "x"),
        ]);
        let settings = Settings::new().environment(environment);
        assert_eq!(
            last(&settings, AmazonS3ConfigKey::S3Endpoint).as_deref(),
            Some("http://old")
        );
        let settings = settings
            .property("aws.access_key_id", "new")
            .property("aws.endpoint", "http://new")
            .property("aws.region", "new");
        assert_eq!(
            last(&settings, AmazonS3ConfigKey::AccessKeyId).as_deref(),
            Some("new")
        );
        for gone in [
            AmazonS3ConfigKey::Token,
            AmazonS3ConfigKey::S3Endpoint,
            AmazonS3ConfigKey::DefaultRegion,
        ] {
            assert_eq!(last(&settings, gone), None, "{gone:?}");
        }
    }

    /// `object_store` looks for static keys, a role, a container's address, in this order.
    #[test]
    fn credentials_of_another_kind_that_are_set_are_not_hidden_by_the_environments() {
        use AmazonS3ConfigKey as K;
        let environment = variables(&[
            ("AWS_ACCESS_KEY_ID", "old"),
            ("AWS_SECRET_ACCESS_KEY", "old"),
            ("AWS_SESSION_TOKEN", "old"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/old"),
            ("AWS_ROLE_ARN", "old"),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/old"),
        ]);
        let keys = [K::AccessKeyId, K::SecretAccessKey, K::Token];
        let role = [K::WebIdentityTokenFile, K::RoleArn];
        let container = [K::ContainerCredentialsRelativeUri];
        for (property, gone, left) in [
            ("aws.role_arn", &keys[..], &[&role[..], &container].concat()[..]),
            (
                "aws.web_identity_token_file",
                &keys,
                &[&role[..], &container].concat(),
            ),
            (
                "aws.container_credentials_relative_uri",
                &[&keys[..], &role].concat(),
                &container,
            ),
            (
                "aws.container_credentials_full_uri",
                &[&keys[..], &role, &container].concat(),
                &[],
            ),
            // Those that are looked at later hide nothing.
            ("aws.access_key_id", &keys[1..], &[&role[..], &container].concat()),
            (
                "aws.role_session_name",
                &[],
                &[&keys[..], &role, &container].concat(),
            ),
        ] {
            let settings = Settings::new()
                .environment(environment.clone())
                .property(property, "new");
            for key in gone {
                assert_eq!(last(&settings, *key), None, "{property}: {key:?}");
            }
            for key in left {
                assert!(last(&settings, *key).is_some(), "{property}: {key:?}");
            }
        }
    }

    #[test]
    fn empty_variables_are_not_set() {
        let names = [
            "AWS_SESSION_TOKEN",
            "AWS_ACCESS_KEY_ID",
            "AWS_ENDPOINT_URL",
            "AZURE_STORAGE_SAS_KEY",
        ];
        let settings = Settings::new().environment(names.map(|name| (name.to_owned(), String::new())));
        assert!(settings.of::<AmazonS3ConfigKey>().expect("understood").is_empty());
        assert!(settings.of::<AzureConfigKey>().expect("understood").is_empty());
    }

    #[test]
    fn what_the_callers_client_decides_is_refused_as_a_property() {
        let of = |name: &str, value: &str| {
            let settings = Settings::new().property(name, value);
            settings.of::<AmazonS3ConfigKey>().map_err(|error| error.kind())
        };
        for (name, value) in [
            ("aws.proxy_url", "http://proxy"),
            ("aws.proxy_excludes", "a"),
            ("aws.proxy_ca_certificate", "x"),
            ("aws.allow_http", "false"),
            ("aws_allow_http", "0"),
            ("allow_invalid_certificates", "true"),
            ("aws.disable_system_certificates", "true"),
            ("aws.timeout", "3s"),
            ("aws.connect_timeout", "3s"),
            ("aws.read_timeout", "3s"),
        ] {
            assert_eq!(of(name, value), Err(ErrorKind::Unsupported), "{name}={value}");
            let environment = [(name.replace('.', "_").to_uppercase(), value.to_owned())];
            let all = Settings::new().environment(environment);
            assert_eq!(all.of::<AmazonS3ConfigKey>().expect("left alone"), []);
        }
        for (name, value) in [
            ("aws.allow_http", "true"),
            ("aws.allow_invalid_certificates", "false"),
            ("aws.pool_max_idle_per_host", "3"),
            ("aws.http2_only", "true"),
            ("user_agent", "x"),
        ] {
            assert_eq!(of(name, value), Ok(Vec::new()), "{name}={value}");
        }
        for name in ["google.proxy_url", "azure.proxy_url"] {
            let settings = Settings::new().property(name, "http://proxy");
            let refused = match &name[..6] {
                "google" => settings.of::<GoogleConfigKey>().map(drop),
                _ => settings.of::<AzureConfigKey>().map(drop),
            };
            let error = refused.expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn unknown_properties_are_errors_unless_they_are_somebody_elses() {
        for name in ["aws.regoin", "aws_regoin", "regoin"] {
            let error = Settings::new()
                .property(name, "r")
                .of::<AmazonS3ConfigKey>()
                .expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        for name in ["ais.endpoint", "azure.endpoint", "google_service_account"] {
            let all = Settings::new()
                .property(name, "r")
                .of::<AmazonS3ConfigKey>()
                .expect(name);
            assert!(all.is_empty(), "{name}");
        }
        let error = Settings::new()
            .property("aws.s3_express", "true")
            .of::<AmazonS3ConfigKey>()
            .expect_err("s3 express");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn control_characters_are_refused_where_they_could_reach_a_header() {
        for key in ["aws.region", "aws.session_token", "aws.access_key_id"] {
            let error = Settings::new()
                .property(key, "a\r\nb")
                .of::<AmazonS3ConfigKey>()
                .expect_err(key);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        let document = Settings::new().property("google.service_account_key", "{\n}");
        assert_eq!(document.of::<GoogleConfigKey>().expect("a document").len(), 1);
    }

    #[test]
    fn debug_has_no_values() {
        let settings = Settings::new()
            .environment(variables(&[("AWS_SECRET_ACCESS_KEY", "canary")]))
            .property("aws.session_token", "canary");
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
