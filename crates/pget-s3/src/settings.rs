//! What the caller and the environment say about a store: endpoints, regions, credentials.
//!
//! Invariant: no value is ever printed.

use std::{collections::BTreeMap, fmt};

use pget_core::Error;

use crate::values::{Table, Values};

/// Settings of the stores of `s3://`, `gs://` and `az://` addresses.
///
/// # Environment
/// The variables of the clouds' own tools, and those of `object_store`: docs/clouds.md lists them.
/// A variable that is empty is not set; one that is not understood is named in the log. Files are
/// found as the tools find them: `~/.aws`, `~/.config/gcloud`.
///
/// # Properties
/// `aws.`, `google.` or `azure.` and the variable's name without its first word, in lower case:
/// `aws.region`, `aws.endpoint`, `aws.profile`, `google.service_account`, `azure.account_name`, ….
/// The environment's spelling and plain names (`region`) will do, too. Those of another cloud, and
/// any that begin with another word and a dot (`ais.endpoint`), are left alone, so that one set of
/// properties can serve addresses of all kinds. A property beats the environment, and credentials
/// count as a set: a key of the one is never joined with a token of the other.
///
/// What belongs to the HTTP client (proxies, certificates, time limits, `allow_http=false`) is
/// [`Unsupported`](pget_core::ErrorKind::Unsupported) as a property, as the caller's own client has
/// it.
#[derive(Clone)]
pub struct Settings {
    environment: Vec<(String, String)>,
    properties: Vec<(String, String)>,
}

/// Variables beside those that begin with a cloud's name.
const OTHERS: [&str; 18] = [
    "HOME",
    "CLOUDSDK_CONFIG",
    "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE",
    "GCE_METADATA_HOST",
    "GCE_METADATA_ROOT",
    "GCE_METADATA_IP",
    "GCE_METADATA_TIMEOUT",
    "NO_GCE_CHECK",
    "GCLOUD_PROJECT",
    "STORAGE_EMULATOR_HOST",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
    "MSI_SECRET",
    "PATH",
    "XDG_CONFIG_HOME",
];

/// How the variables of the clouds begin, and the words that begin their properties.
const CLOUDS: [(&str, &str); 3] = [("AWS_", "aws"), ("GOOGLE_", "google"), ("AZURE_", "azure")];

impl Settings {
    /// Nothing set, and nothing taken from the environment.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            environment: Vec::new(),
            properties: Vec::new(),
        }
    }

    /// Takes what the process's environment says now.
    #[must_use]
    pub fn from_env() -> Self {
        let own = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        let home = std::env::var_os("HOME").is_none_or(|home| home.is_empty());
        // As the tools do, by the system's list of users.
        let home = home.then(std::env::home_dir).flatten();
        let home = home.and_then(|home| Some(("HOME".to_owned(), home.to_str()?.to_owned())));
        Self::new().environment(own.chain(home))
    }

    /// Takes these variables for the environment.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment = variables
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .filter(|(key, _)| {
                OTHERS.contains(&key.as_str()) || CLOUDS.iter().any(|(prefix, _)| key.starts_with(prefix))
            })
            .collect();
        // The order decides where two variables mean the same; the environment's own order is by
        // chance.
        self.environment.sort();
        self
    }

    /// Sets a property. The last of two with the same meaning counts.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((key.into(), value.into()));
        self
    }

    /// Returns what is set for one cloud.
    pub(crate) fn values(&self, table: &Table) -> Result<Values, Error> {
        let words = CLOUDS.map(|(_, word)| word);
        table.apply(&self.properties, &self.environment, &words)
    }

    /// Returns the environment.
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        self.environment.iter().cloned().collect()
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
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use pget_core::ErrorKind;

    use super::*;
    use crate::cloud::{aws::TABLE as AWS, azure::table::TABLE as AZURE, google::TABLE as GOOGLE};

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn last(settings: &Settings, name: &str) -> Option<String> {
        let values = settings.values(&AWS).expect("understood");
        values.get(name).map(str::to_owned)
    }

    #[test]
    fn every_spelling_of_a_property_is_understood() {
        for name in ["aws.region", "AWS.Region", "aws_region", "AWS_REGION", "region"] {
            let settings = Settings::new().property(name, "r");
            assert_eq!(last(&settings, "region").as_deref(), Some("r"), "{name}");
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
        assert_eq!(last(&settings, "endpoint_url_s3").as_deref(), Some("http://old"));
        let settings = settings
            .property("aws.access_key_id", "new")
            .property("aws.endpoint", "http://new")
            .property("aws.region", "new");
        assert_eq!(last(&settings, "access_key_id").as_deref(), Some("new"));
        for gone in ["session_token", "endpoint_url_s3", "default_region"] {
            assert_eq!(last(&settings, gone), None, "{gone:?}");
        }
    }

    /// Keys, a role and a container's service are looked at in this order.
    #[test]
    fn credentials_of_another_kind_that_are_set_are_not_hidden_by_the_environments() {
        let environment = variables(&[
            ("AWS_ACCESS_KEY_ID", "old"),
            ("AWS_SECRET_ACCESS_KEY", "old"),
            ("AWS_SESSION_TOKEN", "old"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/old"),
            ("AWS_ROLE_ARN", "old"),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/old"),
        ]);
        let keys = ["access_key_id", "secret_access_key", "session_token"];
        let role = ["web_identity_token_file", "role_arn"];
        let container = ["container_credentials_relative_uri"];
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
                assert_eq!(last(&settings, key), None, "{property}: {key:?}");
            }
            for key in left {
                assert!(last(&settings, key).is_some(), "{property}: {key:?}");
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
        for table in [&AWS, &AZURE] {
            let values = settings.values(table).expect("understood");
            assert_eq!(format!("{values:?}"), "{}");
        }
    }

    #[test]
    fn what_the_callers_client_decides_is_refused_as_a_property() {
        let of = |name: &str, value: &str| {
            let settings = Settings::new().property(name, value);
            let values = settings.values(&AWS).map(|values| format!("{values:?}"));
            values.map_err(|error| error.kind())
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
            let values = Settings::new().environment(environment).values(&AWS);
            assert_eq!(format!("{:?}", values.expect("left alone")), "{}");
        }
        for (name, value) in [
            ("aws.allow_http", "true"),
            ("aws.allow_invalid_certificates", "false"),
            ("aws.pool_max_idle_per_host", "3"),
            ("aws.http2_only", "true"),
            ("user_agent", "x"),
        ] {
            assert_eq!(of(name, value), Ok("{}".into()), "{name}={value}");
        }
        for name in ["google.proxy_url", "azure.proxy_url"] {
            let settings = Settings::new().property(name, "http://proxy");
            let table = if name.starts_with("google") {
                &GOOGLE
            } else {
                &AZURE
            };
            let refused = settings.values(table).map(drop);
            let error = refused.expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn unknown_properties_are_errors_unless_they_are_somebody_elses() {
        for name in ["aws.regoin", "aws_regoin", "regoin"] {
            let error = Settings::new().property(name, "r").values(&AWS).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        for name in ["ais.endpoint", "azure.endpoint", "google_service_account"] {
            let values = Settings::new().property(name, "r").values(&AWS).expect(name);
            assert_eq!(format!("{values:?}"), "{}", "{name}");
        }
    }

    #[test]
    fn control_characters_are_refused_where_they_could_reach_a_header() {
        for key in ["aws.region", "aws.session_token", "aws.access_key_id"] {
            let error = Settings::new()
                .property(key, "a\r\nb")
                .values(&AWS)
                .expect_err(key);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        let document = Settings::new().property("google.service_account_key", "{\n}");
        assert!(document.values(&GOOGLE).is_ok());
    }

    #[test]
    fn debug_has_no_values() {
        let settings = Settings::new()
            .environment(variables(&[("AWS_SECRET_ACCESS_KEY", "canary")]))
            .property("aws.session_token", "canary");
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
