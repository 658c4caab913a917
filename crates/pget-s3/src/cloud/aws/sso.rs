//! Single sign-on: the credentials of a role by the token that `aws sso login` left in a cache.
//!
//! Source: "IAM Identity Center credential provider" of the AWS SDKs reference; GetRoleCredentials
//! and CreateToken of the SSO API references; the cache's layout is botocore's.
//!
//! Invariant: a token is written back only where one was read, for its owner alone.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use pget_core::SourceError;
use pget_http::Method;
use serde_json::{Value, json};
use url::Url;

use super::{
    config::Config,
    credential::keys,
    endpoint,
    profile::{Files, Section},
    sign::hex,
};
use crate::cloud::{
    context::Call,
    keys::{Credential, Secret, denied, unusable},
    service::{left, text, until},
};

const PORTAL: &str = "the portal of single sign-on";
const OIDC: &str = "the token service of single sign-on";
/// With less left, a token that can be refreshed is.
const REFRESH: Duration = Duration::from_secs(15 * 60);

/// What a profile says of single sign-on.
struct Setup {
    account: String,
    role: String,
    region: String,
    /// By which the cache's file is named.
    cached_by: String,
    /// Tokens of a session can be refreshed.
    session: bool,
}

/// Returns the credentials of the profile's role.
pub(super) async fn find(
    config: &Config,
    files: &Files,
    name: &str,
    section: &Section,
) -> Result<Credential, SourceError> {
    let setup = Setup::read(files, name, section)?;
    let token = token(config, name, &setup).await?;
    let mut url = place(config, "sso", "portal.sso", &setup.region)?;
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}/federation/credentials"));
    url.query_pairs_mut()
        .append_pair("role_name", &setup.role)
        .append_pair("account_id", &setup.account);
    let call = Call::new(PORTAL, Method::Get, url).header("x-amz-sso_bearer_token", token.expose())?;
    let answer = config.context.call(&call).await?;
    if answer.status == http::StatusCode::UNAUTHORIZED {
        return Err(log_in(name, "is not valid any more"));
    }
    if answer.status != http::StatusCode::OK {
        return Err(answer.refusal(PORTAL, None));
    }
    let json = answer.json(PORTAL)?;
    let role = json.get("roleCredentials").unwrap_or(&Value::Null);
    let text = |key: &str| role.get(key).and_then(Value::as_str);
    let (Some(id), Some(secret)) = (text("accessKeyId"), text("secretAccessKey")) else {
        return Err(denied(format!("{PORTAL} names no keys")));
    };
    let expires = role.get("expiration").and_then(Value::as_i64);
    Ok(Credential {
        keys: keys(id, secret, text("sessionToken")),
        left: expires.map(until),
        source: format!("single sign-on of the profile {name:?}"),
    })
}

impl Setup {
    fn read(files: &Files, name: &str, section: &Section) -> Result<Self, SourceError> {
        let session = section.get("sso_session");
        let other = session
            .map(|session| {
                files
                    .session(session)
                    .ok_or_else(|| unusable(format!("the sso-session {session:?} of {name:?} is not there")))
            })
            .transpose()?;
        let word = |key: &str| {
            let (own, theirs) = (section.get(key), other.and_then(|other| other.get(key)));
            match (own, theirs) {
                (Some(own), Some(theirs)) if own != theirs => Err(unusable(format!(
                    "{key} of {name:?} and of its sso-session differ"
                ))),
                (own, theirs) => theirs
                    .or(own)
                    .map(str::to_owned)
                    .ok_or_else(|| unusable(format!("the profile {name:?} has no {key}"))),
            }
        };
        let start = word("sso_start_url")?;
        Ok(Self {
            account: word("sso_account_id")?,
            role: word("sso_role_name")?,
            region: word("sso_region")?,
            cached_by: session.map_or(start, str::to_owned),
            session: session.is_some(),
        })
    }
}

/// Returns the token in the cache, refreshed if it can be and its time is almost over.
async fn token(config: &Config, name: &str, setup: &Setup) -> Result<Secret, SourceError> {
    let digest = ring::digest::digest(
        &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
        setup.cached_by.as_bytes(),
    );
    let path = config.context.path("~/.aws/sso/cache");
    let path = path
        .ok_or_else(|| unusable("HOME is not set, where the cache of single sign-on is"))?
        .join(format!("{}.json", hex(digest.as_ref())));
    let bytes = config.context.file(&path).await;
    let bytes = bytes.map_err(|_| log_in(name, "is not in the cache"))?;
    let mut cached: Value =
        serde_json::from_slice(&bytes).map_err(|_| log_in(name, "cannot be read in the cache"))?;
    let (Some(_), Some(expires)) = (text(&cached, "accessToken"), text(&cached, "expiresAt")) else {
        return Err(log_in(name, "is not complete in the cache"));
    };
    let remaining = left(expires)?;
    if setup.session && remaining < REFRESH {
        match refreshed(config, setup, &cached).await {
            Ok(Some(new)) => {
                cached = new;
                keep(&path, &cached).await;
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the token of single sign-on is not refreshed"),
        }
    }
    let expired = text(&cached, "expiresAt")
        .map(left)
        .transpose()?
        .is_none_or(|left| left.is_zero());
    match text(&cached, "accessToken") {
        Some(token) if !expired => Ok(Secret::new(token)),
        _ => Err(log_in(name, "has expired")),
    }
}

/// Returns the cache's content with a new token; `None` if there is nothing to refresh it by.
async fn refreshed(config: &Config, setup: &Setup, cached: &Value) -> Result<Option<Value>, SourceError> {
    let parts = [
        "refreshToken",
        "clientId",
        "clientSecret",
        "registrationExpiresAt",
    ]
    .map(|key| text(cached, key));
    let [Some(refresh), Some(id), Some(secret), Some(registered)] = parts else {
        return Ok(None);
    };
    if left(registered)?.is_zero() {
        return Ok(None);
    }
    let mut url = place(config, "sso-oidc", "oidc", &setup.region)?;
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}/token"));
    let content = json!({
        "grantType": "refresh_token", "clientId": id, "clientSecret": secret, "refreshToken": refresh,
    });
    let call = Call::new(OIDC, Method::Post, url).content("application/json", content.to_string());
    let answer = config.context.call(&call).await?;
    if answer.status != http::StatusCode::OK {
        return Err(answer.refusal(OIDC, None));
    }
    let json = answer.json(OIDC)?;
    let (Some(token), Some(seconds)) = (
        text(&json, "accessToken"),
        json.get("expiresIn").and_then(Value::as_u64),
    ) else {
        return Err(denied(format!("{OIDC} names no token")));
    };
    let expires = Timestamp::try_from(SystemTime::now() + Duration::from_secs(seconds))
        .map_err(|_| denied(format!("{OIDC} names no time")))?;
    let mut new = cached.clone();
    new["accessToken"] = token.into();
    new["expiresAt"] = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
    if let Some(refresh) = text(&json, "refreshToken") {
        new["refreshToken"] = refresh.into();
    }
    Ok(Some(new))
}

/// Writes a token back for the AWS CLI, whose refresh token may be void now.
async fn keep(path: &Path, cached: &Value) {
    let (path, content) = (path.to_owned(), zeroize::Zeroizing::new(cached.to_string()));
    let written = tokio::task::spawn_blocking(move || write(&path, content.as_bytes())).await;
    if !matches!(written, Ok(Ok(()))) {
        tracing::debug!("the refreshed token of single sign-on is not written to the cache");
    }
}

fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let done = file
        .write_all(content)
        .and_then(|()| std::fs::rename(&temporary, path));
    if done.is_err() {
        std::fs::remove_file(&temporary).ok();
    }
    done
}

/// Returns the URL of a service in the region of single sign-on.
fn place(config: &Config, service: &str, host: &str, region: &str) -> Result<Url, SourceError> {
    if let Some(url) = config.endpoint_of(service)? {
        return Ok(url);
    }
    if !endpoint::is_region(region) {
        return Err(unusable("sso_region cannot stand in a host name"));
    }
    let fips = format!("{host}-fips");
    let host = endpoint::service(host, &fips, region, config.fips, config.dual);
    Url::parse(&format!("https://{host}")).map_err(|_| unusable("sso_region cannot stand in a host name"))
}

fn log_in(profile: &str, why: &str) -> SourceError {
    denied(format!(
        "the token of single sign-on {why}: run `aws sso login --profile {profile}`"
    ))
}
