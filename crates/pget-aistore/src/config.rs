//! How to reach a cluster: from the environment under AIStore's own names, and from properties,
//! which go before it.

use std::{collections::BTreeMap, path::PathBuf};

use pget_core::{Error, ErrorKind};
use url::Url;

/// Where the cluster is and what it is shown.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The proxy's address.
    pub endpoint: Url,
    /// The bare token. It goes before the file.
    pub token: Option<String>,
    /// A file with `{"token": "…"}`; read when a request needs it, and again when the server
    /// answers 401. Without one, that of AIStore's own program if it is there: `ais/cli/auth.token`
    /// in `XDG_CONFIG_HOME` or, where that is empty or no absolute path, in `.config` of `HOME`.
    pub token_file: Option<PathBuf>,
    /// A file with certificates of authorities to be trusted besides the system's.
    pub client_ca: Option<PathBuf>,
    /// A file with the client's certificate.
    pub certificate: Option<PathBuf>,
    /// A file with the certificate's key.
    pub certificate_key: Option<PathBuf>,
    /// Whether certificates of the server are not verified.
    pub skip_verify: bool,
    /// The backend that the bucket fronts, if it is not AIStore itself.
    pub provider: Option<String>,
    /// Whether to ask the backend for its latest version, once, with the first request.
    pub latest: bool,
    /// A file inside the object, which must be an archive: read as one plain stream.
    pub archpath: Option<String>,
    /// The transformation to read the object through: read as one plain stream, which has no
    /// identity and so cannot be gone on with.
    pub etl: Option<String>,
}

/// The names of properties after `ais.`.
const KNOWN: [&str; 11] = [
    "endpoint",
    "token",
    "token_file",
    "client_ca",
    "crt",
    "crt_key",
    "skip_verify_crt",
    "provider",
    "latest",
    "archpath",
    "etl",
];

impl Config {
    /// Reads `environment` (`AIS_ENDPOINT`, `AIS_AUTHN_TOKEN`, `AIS_AUTHN_TOKEN_FILE`,
    /// `AIS_CLIENT_CA`, `AIS_CRT`, `AIS_CRT_KEY`, `AIS_SKIP_VERIFY_CRT`) and `properties`
    /// (`ais.endpoint`, `ais.token`, `ais.token_file`, `ais.client_ca`, `ais.crt`, `ais.crt_key`,
    /// `ais.skip_verify_crt`, `ais.provider`, `ais.latest`, `ais.archpath`, `ais.etl`), which go
    /// before it. Other properties are passed over.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for an unknown `ais.` property, a bad
    /// endpoint, or none.
    pub fn new(
        environment: impl Fn(&str) -> Option<String>,
        properties: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        if let Some(unknown) = properties.keys().find(|key| {
            key.strip_prefix("ais.")
                .is_some_and(|name| !KNOWN.contains(&name))
        }) {
            return Err(invalid(format!(
                "the property {unknown:?} is not known (known: ais.{})",
                KNOWN.join(", ais.")
            )));
        }
        let setting = |property: &str, variable: &str| {
            properties
                .get(&format!("ais.{property}"))
                .cloned()
                .or_else(|| {
                    if variable.is_empty() {
                        None
                    } else {
                        environment(variable)
                    }
                })
                .filter(|value| !value.is_empty())
        };
        let endpoint = endpoint_of(setting("endpoint", "AIS_ENDPOINT"))?;
        let token = setting("token", "AIS_AUTHN_TOKEN");
        if token
            .as_ref()
            .is_some_and(|token| token.chars().any(|c| c.is_control() || c == ' '))
        {
            return Err(invalid(
                "the AIStore token contains control characters or spaces".into(),
            ));
        }
        Ok(Self {
            endpoint,
            token,
            token_file: setting("token_file", "AIS_AUTHN_TOKEN_FILE")
                .map(PathBuf::from)
                .or_else(|| default_token_file(&environment)),
            client_ca: setting("client_ca", "AIS_CLIENT_CA").map(PathBuf::from),
            certificate: setting("crt", "AIS_CRT").map(PathBuf::from),
            certificate_key: setting("crt_key", "AIS_CRT_KEY").map(PathBuf::from),
            skip_verify: truth(
                "ais.skip_verify_crt",
                setting("skip_verify_crt", "AIS_SKIP_VERIFY_CRT"),
            )?,
            provider: setting("provider", ""),
            latest: truth("ais.latest", setting("latest", ""))?,
            archpath: setting("archpath", ""),
            etl: setting("etl", ""),
        })
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, "", message)
}

/// The cluster's address; http if it names no scheme.
fn endpoint_of(setting: Option<String>) -> Result<Url, Error> {
    let endpoint = setting.ok_or_else(|| {
        invalid(
            "where is the cluster? Set AIS_ENDPOINT or the property ais.endpoint (http://host:51080)".into(),
        )
    })?;
    let with_scheme = if endpoint.contains("://") {
        endpoint
    } else {
        format!("http://{endpoint}")
    };
    let endpoint =
        Url::parse(&with_scheme).map_err(|error| invalid(format!("ais.endpoint is no URL: {error}")))?;
    if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host_str().is_none_or(str::is_empty) {
        return Err(invalid("ais.endpoint must be an http or https address".into()));
    }
    Ok(endpoint)
}

/// The file that `ais auth login` writes, if it is there.
fn default_token_file(environment: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    // An empty or relative folder does not count (XDG Base Directory Specification): anyone who can
    // write to the working directory would choose the token.
    let folder = |name: &str| {
        let path = environment(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let home = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")))?;
    Some(home.join("ais/cli/auth.token")).filter(|file| file.is_file())
}

/// Yes and no, as AIStore's own client reads them (`cos.ParseBool`).
fn truth(name: &str, value: Option<String>) -> Result<bool, Error> {
    match value
        .as_deref()
        .map(str::trim)
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        None | Some("" | "0" | "f" | "false" | "n" | "no" | "off") => Ok(false),
        Some("1" | "t" | "true" | "y" | "yes" | "on") => Ok(true),
        Some(_) => Err(Error::new(
            ErrorKind::InvalidArgument,
            "",
            format!("{name} is neither yes nor no"),
        )),
    }
}

impl std::fmt::Debug for Config {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("endpoint", &self.endpoint.host_str())
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("token_file", &self.token_file)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn properties_go_before_the_environment() {
        let environment = |name: &str| match name {
            "AIS_ENDPOINT" => Some("http://env:1".to_owned()),
            "AIS_AUTHN_TOKEN" => Some("env-token".to_owned()),
            "AIS_SKIP_VERIFY_CRT" => Some("Yes".to_owned()),
            _ => None,
        };
        let config = Config::new(environment, &BTreeMap::new()).expect("usable");
        assert_eq!(
            (config.endpoint.as_str(), config.token.as_deref()),
            ("http://env:1/", Some("env-token"))
        );
        assert!(config.skip_verify);
        let set = properties(&[
            ("ais.endpoint", "prop:2"),
            ("ais.token", "prop-token"),
            ("aws.region", "x"),
        ]);
        let config = Config::new(environment, &set).expect("usable");
        assert_eq!(
            (config.endpoint.as_str(), config.token.as_deref()),
            ("http://prop:2/", Some("prop-token"))
        );
        assert!(!format!("{config:?}").contains("prop-token"));
    }

    #[test]
    fn the_default_token_file_is_in_an_absolute_folder() {
        let home = tempfile::tempdir().expect("a folder");
        let file = |folder: &std::path::Path| {
            let file = folder.join("ais/cli/auth.token");
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            std::fs::write(&file, "{}").expect("a file");
            file
        };
        let usual = file(&home.path().join(".config"));
        let other = home.path().join("other");
        let moved = file(&other);
        let other = other.to_str().expect("UTF-8").to_owned();
        // The same, which is there, by its way from the working directory.
        let depth = std::env::current_dir().expect("one").components().count();
        let relative = |folder: &str| format!("{}.{folder}", "../".repeat(depth - 1));
        let home = home.path().to_str().expect("UTF-8");
        let (relative, relative_home) = (relative(&other), relative(home));
        assert!(std::path::Path::new(&relative).is_dir(), "{relative}");
        for (xdg, home, expected) in [
            (None, home, Some(&usual)),
            (Some(other), home, Some(&moved)),
            (Some(String::new()), home, Some(&usual)),
            (Some(relative.clone()), home, Some(&usual)),
            (Some(relative.clone()), "", None),
            (None, &relative_home, None),
        ] {
            let environment = |variable: &str| match variable {
                "XDG_CONFIG_HOME" => xdg.clone(),
                "HOME" => Some(home.to_owned()),
                _ => None,
            };
            let config = Config::new(environment, &properties(&[("ais.endpoint", "x:1")])).expect("usable");
            assert_eq!(config.token_file.as_ref(), expected, "{xdg:?}");
        }
    }

    #[test]
    fn bad_settings_are_told() {
        for set in [
            properties(&[]),
            properties(&[("ais.endpoint", "ftp://x")]),
            properties(&[("ais.endpoint", "http://")]),
            properties(&[("ais.endpoint", "http://x"), ("ais.token", "a\r\nb")]),
            properties(&[("ais.endpoint", "http://x"), ("ais.tokn", "a")]),
            properties(&[("ais.endpoint", "http://x"), ("ais.latest", "perhaps")]),
        ] {
            let error = Config::new(|_| None, &set).expect_err("must be refused");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }
}
