//! Azure Blob Storage: by an account's key, a shared access signature, or a bearer token.
//!
//! What the storage's own settings say goes first (connection string, key, signature, token); then
//! the chain of azure-identity: a client's secret, a workload's identity, a managed identity, the
//! Azure CLI.
//!
//! Source: "Authorize with Shared Key" of the Azure Storage REST reference; "OAuth 2.0 client
//! credentials flow" of the Microsoft identity platform; azure-identity 1.27.0 and
//! azure-storage-blob 12.31.1, which a test compares.
//!
//! Invariant: a key signs here and is never sent.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::utf8_percent_encode;
use pget_core::{Error, ErrorKind, SourceError};
use pget_http::Client;
use ring::hmac;
use url::Url;

use crate::{
    address::{Address, PATH},
    cloud::{
        context::Context,
        contract::{Access, Ask, Cloud, Signed},
        keys::{Credential, Keys, Secret, unusable},
        search::Search,
        service::{bearer, checked},
    },
    settings::Settings,
    values::Values,
};
use identity::Identities;
use table::TABLE;

mod identity;
pub(crate) mod table;

const SUFFIX: &str = "core.windows.net";
const VERSION: &str = "2023-11-03";
/// The emulator's account and key, which its documentation states.
const EMULATOR: (&str, &str) = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
);

const MS_DATE: HeaderName = HeaderName::from_static("x-ms-date");
const MS_VERSION: HeaderName = HeaderName::from_static("x-ms-version");

/// Azure Blob Storage, for one blob.
pub(crate) struct Azure {
    address: Address,
    values: Values,
    context: Context,
    account: String,
    base: Url,
    /// Of the storage itself, by its settings.
    own: Option<(Keys, &'static str)>,
    access: Access,
}

impl Azure {
    /// Reads the settings; sends nothing.
    pub(crate) fn new(address: Address, settings: &Settings, client: Client) -> Result<Self, Error> {
        let values = settings.values(&TABLE)?;
        if !values.unknown().is_empty() {
            tracing::debug!(variables = ?values.unknown(), "not understood, and without effect");
        }
        let context = Context::new(client, settings.variables());
        let refuse = |text: String| Error::new(ErrorKind::InvalidArgument, address.text.clone(), text);
        let parts = values
            .get("storage_connection_string")
            .map(connection)
            .transpose();
        let parts = parts.map_err(refuse)?.unwrap_or_default();
        let emulator = values.switch("storage_use_emulator")? == Some(true)
            || parts
                .get("usedevelopmentstorage")
                .is_some_and(|on| on.eq_ignore_ascii_case("true"));
        let account = parts
            .get("accountname")
            .map(String::as_str)
            .or_else(|| values.get("storage_account"));
        let account = account
            .or_else(|| emulator.then_some(EMULATOR.0))
            .map(str::to_owned);
        let account = account.or_else(|| account_of(parts.get("blobendpoint")?));
        let account = account.unwrap_or_default();
        let base = base(&parts, &values, &account, emulator).map_err(refuse)?;
        let access = match values.switch("skip_signature")? {
            Some(true) => Access::Anonymous,
            Some(false) => Access::Required,
            None => Access::Found,
        };
        let own = own_keys(&parts, &values, emulator).map_err(refuse)?;
        if account.is_empty() && matches!(own, Some((Keys::Shared(_), _))) {
            return Err(refuse(
                "a key is set, and no account (AZURE_STORAGE_ACCOUNT)".into(),
            ));
        }
        check_unsupported(&values)?;
        Ok(Self {
            address,
            values,
            context,
            account,
            base,
            own,
            access,
        })
    }

    /// Returns the blob's URL, with a shared access signature if that is what authorizes.
    fn url(&self, keys: Option<&Keys>) -> Result<Url, SourceError> {
        let base = self.base.as_str().trim_end_matches('/');
        let key = utf8_percent_encode(&self.address.key, &PATH);
        let text = format!("{base}/{}/{key}", self.address.bucket);
        let url = Url::parse(&text).ok().filter(|url| url.as_str() == text);
        let mut url = url.ok_or_else(|| unusable("the key would be changed on its way into a URL"))?;
        if let Some(Keys::Sas(query)) = keys {
            url.set_query(Some(query.expose().trim_start_matches('?')));
        }
        Ok(url)
    }

    /// Returns the signature of a request with these headers.
    fn signature(
        &self,
        ask: &Ask<'_>,
        url: &Url,
        headers: &HeaderMap,
        key: &Secret,
    ) -> Result<HeaderValue, SourceError> {
        let key = BASE64_STANDARD
            .decode(key.expose())
            .map_err(|_| unusable("the account's key is not base64"))?;
        let mut lines: Vec<_> = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("x-ms-"))
            .map(|(name, value)| format!("{name}:{}\n", value.to_str().unwrap_or_default()))
            .collect();
        lines.sort();
        let mut resource = format!("/{}{}", self.account, url.path());
        let pairs: BTreeMap<String, String> = url
            .query_pairs()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned()))
            .collect();
        for (name, value) in pairs {
            resource.push_str(&format!("\n{name}:{value}"));
        }
        // Content-Encoding, -Language, -Length, -MD5, -Type, Date, If-Modified-Since, If-Match,
        // If-None-Match, If-Unmodified-Since, Range.
        let text = format!(
            "{}\n\n\n\n\n\n\n\n{}\n\n\n{}\n{}{resource}",
            ask.method.as_str(),
            ask.pin.unwrap_or_default(),
            ask.range.unwrap_or_default(),
            lines.concat()
        );
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
        let value = format!("SharedKey {}:{}", self.account, BASE64_STANDARD.encode(signature));
        let mut value =
            HeaderValue::from_str(&value).map_err(|_| unusable("the account cannot stand in a header"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[async_trait]
impl Cloud for Azure {
    async fn find(&self, search: &mut Search) -> Result<Option<Credential>, SourceError> {
        if let Some((keys, source)) = &self.own {
            return Ok(Some(Credential {
                keys: keys.clone(),
                left: None,
                source: (*source).into(),
            }));
        }
        search.missed("AZURE_STORAGE_CONNECTION_STRING, …_KEY and …_SAS_TOKEN (not set)");
        let identities = Identities {
            context: &self.context,
            values: &self.values,
        };
        identities.find(search).await
    }

    fn access(&self) -> Access {
        self.access
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Signed, SourceError> {
        let url = self.url(ask.keys)?;
        let mut headers = HeaderMap::new();
        headers.insert(MS_VERSION, HeaderValue::from_static(VERSION));
        match ask.keys {
            None => {}
            // It states a version of its own.
            Some(Keys::Sas(_)) => headers.clear(),
            Some(Keys::Bearer { token, .. }) => {
                headers.insert(header::AUTHORIZATION, bearer(token)?);
            }
            Some(Keys::Shared(key)) => {
                let date = HeaderValue::try_from(httpdate::fmt_http_date(ask.time));
                headers.insert(
                    MS_DATE,
                    date.map_err(|_| unusable("this machine's clock is beyond all dates"))?,
                );
                let signature = self.signature(ask, &url, &headers, key)?;
                headers.insert(header::AUTHORIZATION, signature);
            }
            Some(Keys::Aws { .. }) => return Err(unusable("keys of AWS do not open Azure")),
        }
        Ok(Signed { url, headers })
    }

    fn region<'a>(&'a self, _: Option<&'a str>) -> Option<&'a str> {
        None
    }

    /// A bearer token or a shared access signature is good at any host.
    fn may_follow(&self, _: &Url) -> bool {
        false
    }

    fn endpoint_id(&self) -> String {
        format!("{} {}", self.base.as_str().trim_end_matches('/'), self.account)
    }
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Azure")
            .field("address", &self.address.text)
            .finish_non_exhaustive()
    }
}

/// Reads a connection string, by lower-case name.
fn connection(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pairs = text.split(';').filter(|part| !part.trim().is_empty());
    pairs
        .map(|part| {
            let (name, value) = part
                .split_once('=')
                .ok_or("AZURE_STORAGE_CONNECTION_STRING is not of the form NAME=VALUE;…")?;
            Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect()
}

/// Returns the account that a blob endpoint names.
fn account_of(endpoint: &str) -> Option<String> {
    let url = Url::parse(endpoint).ok()?;
    let (account, rest) = url.host_str()?.split_once('.')?;
    rest.starts_with("blob.").then(|| account.to_owned())
}

/// Returns the service's URL.
fn base(
    parts: &BTreeMap<String, String>,
    values: &Values,
    account: &str,
    emulator: bool,
) -> Result<Url, String> {
    let set = parts
        .get("blobendpoint")
        .map(String::as_str)
        .or_else(|| values.get("storage_endpoint"));
    let label = account
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let text = match set {
        Some(set) => set.to_owned(),
        None if account.is_empty() => {
            return Err(
                "no account is set (AZURE_STORAGE_ACCOUNT or AZURE_STORAGE_CONNECTION_STRING)".into(),
            );
        }
        None if !label => return Err("the account cannot stand in a host name".into()),
        None if emulator => format!("http://127.0.0.1:10000/{account}"),
        None => {
            let scheme = parts
                .get("defaultendpointsprotocol")
                .map_or("https", String::as_str);
            let suffix = parts.get("endpointsuffix").map_or(SUFFIX, String::as_str);
            format!("{scheme}://{account}.blob.{suffix}")
        }
    };
    checked(&text).map_err(|error| error.to_line())
}

/// Returns what the storage's own settings authorize with.
fn own_keys(
    parts: &BTreeMap<String, String>,
    values: &Values,
    emulator: bool,
) -> Result<Option<(Keys, &'static str)>, String> {
    let key = |text: &str| {
        let right = BASE64_STANDARD.decode(text).is_ok();
        right
            .then(|| Keys::Shared(Secret::new(text)))
            .ok_or_else(|| "the account's key is not base64".to_owned())
    };
    let in_string = "AZURE_STORAGE_CONNECTION_STRING";
    if let Some(text) = parts.get("accountkey") {
        return Ok(Some((key(text)?, in_string)));
    }
    if let Some(text) = parts.get("sharedaccesssignature") {
        return Ok(Some((Keys::Sas(Secret::new(text)), in_string)));
    }
    if let Some(text) = values.get("storage_key") {
        return Ok(Some((key(text)?, "the account's key")));
    }
    if let Some(text) = values.get("storage_sas_token") {
        return Ok(Some((
            Keys::Sas(Secret::new(text)),
            "the shared access signature",
        )));
    }
    if let Some(text) = values.get("storage_token") {
        let keys = Keys::Bearer {
            token: Secret::new(text),
            project: None,
        };
        return Ok(Some((keys, "the bearer token")));
    }
    Ok(if emulator {
        Some((key(EMULATOR.1)?, "the emulator's key"))
    } else {
        None
    })
}

/// Refuses what is set and this program cannot do.
fn check_unsupported(values: &Values) -> Result<(), Error> {
    let refuse = |text: String| Error::new(ErrorKind::Unsupported, "", text);
    if values.get("client_secret").is_none() {
        for (name, variable) in [
            ("client_certificate_path", "AZURE_CLIENT_CERTIFICATE_PATH"),
            ("username", "AZURE_USERNAME"),
        ] {
            if values.get(name).is_some() {
                return Err(refuse(format!("{variable}: only a client's secret is supported")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_says_account_key_and_endpoint() {
        let text = "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=Y2FuYXJ5==;EndpointSuffix=core.chinacloudapi.cn";
        let parts = connection(text).expect("right");
        assert_eq!(parts.get("accountkey").map(String::as_str), Some("Y2FuYXJ5=="));
        let url = base(&parts, &Values::default(), "acc", false).expect("a URL");
        assert_eq!(url.as_str(), "https://acc.blob.core.chinacloudapi.cn/");
        assert!(connection("AccountName").is_err());
        assert!(base(&BTreeMap::new(), &Values::default(), "evil.example/", false).is_err());
    }
}
