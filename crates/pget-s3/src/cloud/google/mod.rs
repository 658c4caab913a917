//! Google Cloud Storage, by bearer tokens.
//!
//! Credentials are looked for as google-auth's `default()` looks for them: a document that the
//! settings name, the one that `gcloud auth application-default login` left, the metadata server.
//! A document may be of an authorized user, a service account, an external account (also of a
//! person), or an account that one of these impersonates.
//!
//! Source: AIP-4110 to AIP-4117; RFC 7523; RFC 8693; google-auth 2.63.0, which a test compares.
//!
//! Invariant: tokens are asked for the scope of reading only.

use std::fmt;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::utf8_percent_encode;
use pget_core::{Error, ErrorKind, SourceError};
use pget_http::Client;
use serde_json::Value;
use url::Url;

use crate::{
    address::{Address, PATH, VALUE},
    cloud::{
        context::{Context, read},
        contract::{Access, Ask, Cloud, Signed},
        keys::{Credential, Keys, Secret, denied, unusable},
        search::Search,
        service::{bearer, checked, text},
    },
    settings::Settings,
    values::{Known, Table, Values, idle, unless, used},
};
use token::{METADATA, SCOPE, Token, Tokens};

mod token;

/// Every setting that has a bearing here.
pub(crate) static TABLE: Table = Table {
    environment: "GOOGLE_",
    word: "google",
    known: KNOWN,
    supersedes: |name, other| name == other || (DOCUMENTS.contains(&name) && DOCUMENTS.contains(&other)),
};

/// Settings that name a credential.
const DOCUMENTS: [&str; 4] = [
    "bearer_token",
    "service_account_key",
    "service_account",
    "application_credentials",
];

static KNOWN: &[Known] = &[
    used("bearer_token", &["token"]),
    used("service_account_key", &[]),
    used("service_account", &["service_account_path"]),
    used("application_credentials", &[]),
    used("base_url", &["endpoint"]),
    used("skip_signature", &[]),
    used("user_project", &["cloud_quota_project", "quota_project"]),
    used("external_account_allow_executables", &[]),
    used("cloud_universe_domain", &["universe_domain"]),
    unless("proxy_url", &[]),
    unless("proxy_ca_certificate", &[]),
    unless("proxy_excludes", &[]),
    unless("connect_timeout", &[]),
    unless("read_timeout", &[]),
    unless("timeout", &[]),
    unless("allow_http", &["true"]),
    unless("allow_invalid_certificates", &["false"]),
    unless("disable_system_certificates", &["false"]),
    idle("bucket", &["bucket_name"]),
    idle("cloud_project", &["project", "cloud_location"]),
    idle("default_content_type", &["user_agent", "randomize_addresses"]),
    idle(
        "pool_idle_timeout",
        &["pool_max_idle_per_host", "http1_only", "http2_only"],
    ),
];

const UNIVERSE: &str = "googleapis.com";
const PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");
/// Google Cloud Storage, for one object.
pub(crate) struct Google {
    address: Address,
    values: Values,
    context: Context,
    base: String,
    custom: bool,
    access: Access,
}

impl Google {
    /// Reads the settings and the document that they name; sends nothing.
    pub(crate) fn new(address: Address, settings: &Settings, client: Client) -> Result<Self, Error> {
        let values = settings.values(&TABLE)?;
        if !values.unknown().is_empty() {
            tracing::debug!(variables = ?values.unknown(), "not understood, and without effect");
        }
        let context = Context::new(client, settings.variables());
        let refuse = |text: &str| Error::new(ErrorKind::InvalidArgument, address.text.clone(), text);
        let named = named_document(&context, &values).map_err(|text| refuse(&text))?;
        let word = |key: &str| named.as_ref().and_then(|document| document.get(key)?.as_str());
        let emulator = context.variable("STORAGE_EMULATOR_HOST").map(|host| {
            if host.contains("://") {
                host.to_owned()
            } else {
                format!("http://{host}")
            }
        });
        let endpoint = values
            .get("base_url")
            .or_else(|| word("gcs_base_url"))
            .map(str::to_owned);
        let endpoint = endpoint.or_else(|| emulator.clone());
        let universe = values
            .get("cloud_universe_domain")
            .or_else(|| word("universe_domain"));
        let base = match &endpoint {
            Some(endpoint) => checked(endpoint).map_err(|error| refuse(&error.to_line()))?,
            None => Url::parse(&format!("https://storage.{}", universe.unwrap_or(UNIVERSE)))
                .map_err(|_| refuse("the universe domain cannot stand in a host name"))?,
        };
        let open = named
            .as_ref()
            .is_some_and(|document| document.get("disable_oauth") == Some(&Value::Bool(true)));
        let access = match values.switch("skip_signature")? {
            Some(true) => Access::Anonymous,
            Some(false) => Access::Required,
            None if open || emulator.is_some() => Access::Anonymous,
            None => Access::Found,
        };
        Ok(Self {
            base: base.as_str().trim_end_matches('/').to_owned(),
            custom: endpoint.is_some(),
            access,
            values,
            context,
            address,
        })
    }

    /// Returns the document that is named, or was left by a log-in.
    async fn document(&self, search: &mut Search) -> Result<Option<(Value, String)>, SourceError> {
        if let Some(text) = self.values.get("service_account_key") {
            let value =
                serde_json::from_str(text).map_err(|_| unusable("GOOGLE_SERVICE_ACCOUNT_KEY is not JSON"))?;
            return Ok(Some((value, "GOOGLE_SERVICE_ACCOUNT_KEY".into())));
        }
        for name in ["service_account", "application_credentials"] {
            if let Some(path) = self.values.get(name) {
                let path = self.context.path(path).unwrap_or_else(|| path.into());
                let bytes = self.context.file(&path).await.map_err(|error| {
                    denied(format!(
                        "cannot read the credentials in {}: {}",
                        path.display(),
                        error.kind()
                    ))
                })?;
                return parsed(&bytes, &path).map(Some);
            }
        }
        search.missed("GOOGLE_APPLICATION_CREDENTIALS (not set)");
        let folder = self
            .context
            .variable("CLOUDSDK_CONFIG")
            .unwrap_or("~/.config/gcloud");
        let Some(folder) = self.context.path(folder) else {
            search.missed("~/.config/gcloud (HOME is not set)");
            return Ok(None);
        };
        let path = folder.join("application_default_credentials.json");
        match self.context.file(&path).await {
            Ok(bytes) => parsed(&bytes, &path).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                search.missed(format!("{} (not there)", path.display()));
                Ok(None)
            }
            Err(error) => Err(denied(format!(
                "cannot read the credentials in {}: {}",
                path.display(),
                error.kind()
            ))),
        }
    }

    fn credential(&self, token: Token, project: Option<&str>, source: String) -> Credential {
        let project = self.values.get("user_project").or(project);
        Credential {
            keys: Keys::Bearer {
                token: token.text,
                project: project.map(str::to_owned),
            },
            left: token.left,
            source,
        }
    }
}

#[async_trait]
impl Cloud for Google {
    async fn find(&self, search: &mut Search) -> Result<Option<Credential>, SourceError> {
        if let Some(token) = self.values.get("bearer_token") {
            let token = Token {
                text: Secret::new(token),
                left: None,
            };
            return Ok(Some(self.credential(token, None, "google.bearer_token".into())));
        }
        if let Some((document, place)) = self.document(search).await? {
            let token = Tokens(&self.context).exchange(&document, SCOPE, 0).await?;
            let kind = text(&document, "type").unwrap_or("service_account");
            let project = text(&document, "quota_project_id");
            return Ok(Some(self.credential(
                token,
                project,
                format!("{kind} in {place}"),
            )));
        }
        let token = Tokens(&self.context).metadata(search).await?;
        Ok(token.map(|token| self.credential(token, None, METADATA.into())))
    }

    fn access(&self) -> Access {
        self.access
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Signed, SourceError> {
        let url = match ask.to {
            Some(url) => url.clone(),
            None => {
                let key = utf8_percent_encode(&self.address.key, &PATH);
                let mut text = format!("{}/{}/{key}", self.base, self.address.bucket);
                if let Some(version) = &self.address.version {
                    text.push_str(&format!("?generation={}", utf8_percent_encode(version, &VALUE)));
                }
                let url = Url::parse(&text).ok().filter(|url| url.as_str() == text);
                url.ok_or_else(|| unusable("the key would be changed on its way into a URL"))?
            }
        };
        let mut headers = HeaderMap::new();
        let mut project = self.values.get("user_project");
        if let Some(Keys::Bearer {
            token,
            project: theirs,
        }) = ask.keys
        {
            headers.insert(header::AUTHORIZATION, bearer(token)?);
            project = theirs.as_deref();
        }
        if let Some(project) = project {
            let value =
                HeaderValue::from_str(project).map_err(|_| unusable("the user project cannot be sent"))?;
            headers.insert(PROJECT, value);
        }
        Ok(Signed { url, headers })
    }

    fn region<'a>(&'a self, _: Option<&'a str>) -> Option<&'a str> {
        None
    }

    /// A bearer token is good at any host, so it goes to the one that the settings name only.
    fn may_follow(&self, _: &Url) -> bool {
        false
    }

    fn endpoint_id(&self) -> String {
        if self.custom {
            self.base.clone()
        } else {
            String::new()
        }
    }
}

impl fmt::Debug for Google {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Google")
            .field("address", &self.address.text)
            .finish_non_exhaustive()
    }
}

/// Returns the document that a setting names, for what it says beside credentials. That it is not
/// there is said when credentials are looked for.
fn named_document(context: &Context, values: &Values) -> Result<Option<Value>, String> {
    if let Some(text) = values.get("service_account_key") {
        let document = serde_json::from_str(text);
        return document
            .map(Some)
            .map_err(|_| "GOOGLE_SERVICE_ACCOUNT_KEY is not JSON".into());
    }
    let path = values.first(&["service_account", "application_credentials"]);
    let path = path.and_then(|path| context.path(path));
    Ok(path.and_then(|path| serde_json::from_slice(&read(&path).ok()?).ok()))
}

fn parsed(bytes: &[u8], path: &std::path::Path) -> Result<(Value, String), SourceError> {
    // The cause would quote the document.
    let value = serde_json::from_slice(bytes)
        .map_err(|_| unusable(format!("the credentials in {} are not JSON", path.display())))?;
    Ok((value, path.display().to_string()))
}
