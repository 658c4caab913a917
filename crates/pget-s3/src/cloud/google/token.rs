//! Google's bearer tokens: what a document of credentials is exchanged for, and what the metadata
//! server issues.
//!
//! Source: AIP-4110 to AIP-4117; RFC 7523 (a service account's assertion); RFC 8693 (the token of
//! another party).
//!
//! Invariant: no token is asked for more than reading, except those that are exchanged for another.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue};
use percent_encoding::utf8_percent_encode;
use pget_core::SourceError;
use pget_http::Method;
use ring::{rand::SystemRandom, rsa, signature::RSA_PKCS1_SHA256};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use url::Url;

use crate::{
    address::VALUE,
    cloud::{
        context::{Answer, Call, Context},
        keys::{Secret, denied, unusable},
        search::Search,
        service::{left, required, service_url, text},
    },
};

/// The scope of reading.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
/// Of a token that is exchanged for another one.
const ANY_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const GOOGLE: &str = "Google's token service";
const EXTERNAL: &str = "the token service of external accounts";
pub(super) const METADATA: &str = "the metadata server";
/// Whether a metadata server is there is decided within this time.
const METADATA_WITHIN: Duration = Duration::from_secs(2);
/// Impersonation in impersonation; more is a mistake.
const DEEPEST: u32 = 4;

/// A token as a service issued it.
pub(super) struct Token {
    pub(super) text: Secret,
    pub(super) left: Option<Duration>,
}

/// Asks for tokens.
pub(super) struct Tokens<'a>(pub(super) &'a Context);

impl Tokens<'_> {
    /// Exchanges a document for a token with `scope`.
    pub(super) async fn exchange(
        &self,
        document: &Value,
        scope: &str,
        depth: u32,
    ) -> Result<Token, SourceError> {
        if depth > DEEPEST {
            return Err(unusable("the credentials impersonate too many accounts in a row"));
        }
        let kind = text(document, "type").unwrap_or("service_account");
        match kind {
            "authorized_user" => {
                self.refresh(document, &required(document, "client_secret")?)
                    .await
            }
            "external_account_authorized_user" => self.refresh_external(document).await,
            "service_account" => self.assert(document, scope).await,
            "external_account" => self.federate(document, scope).await,
            "impersonated_service_account" => {
                let source = document
                    .get("source_credentials")
                    .ok_or_else(|| unusable("the credentials have no source_credentials"))?;
                let token = Box::pin(self.exchange(source, ANY_SCOPE, depth + 1)).await?;
                let url = required(document, "service_account_impersonation_url")?;
                self.impersonate(document, &url, &token, scope).await
            }
            _ => Err(unusable(format!(
                "credentials of the type {kind:?} are not supported"
            ))),
        }
    }

    /// An authorized user's refresh token.
    async fn refresh(&self, document: &Value, secret: &str) -> Result<Token, SourceError> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &required(document, "client_id")?),
            ("client_secret", secret),
            ("refresh_token", &required(document, "refresh_token")?),
        ];
        let url = service_url(text(document, "token_uri").unwrap_or(TOKEN_URL))?;
        self.token(Call::new(GOOGLE, Method::Post, url).form(&form)).await
    }

    /// The refresh token of a person whom another party knows.
    async fn refresh_external(&self, document: &Value) -> Result<Token, SourceError> {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &required(document, "refresh_token")?),
        ];
        let url = service_url(&required(document, "token_url")?)?;
        let pair = format!(
            "{}:{}",
            required(document, "client_id")?,
            required(document, "client_secret")?
        );
        let call = Call::new(EXTERNAL, Method::Post, url).form(&form).header(
            "authorization",
            &format!("Basic {}", BASE64_STANDARD.encode(pair)),
        )?;
        self.token(call).await
    }

    /// A service account's assertion, signed with its key.
    async fn assert(&self, document: &Value, scope: &str) -> Result<Token, SourceError> {
        let url = text(document, "token_uri").unwrap_or(TOKEN_URL).to_owned();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|_| unusable("this machine's clock is before 1970"))?
            .as_secs();
        let claims = json!({
            "iss": required(document, "client_email")?, "scope": scope, "aud": url,
            "iat": now, "exp": now + 3600,
        });
        let mut head = json!({ "alg": "RS256", "typ": "JWT" });
        if let Some(id) = text(document, "private_key_id") {
            head["kid"] = id.into();
        }
        let assertion = signed(&head, &claims, &required(document, "private_key")?)?;
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", &assertion),
        ];
        self.token(Call::new(GOOGLE, Method::Post, service_url(&url)?).form(&form))
            .await
    }

    /// The token of another party, exchanged for one of Google's.
    async fn federate(&self, document: &Value, scope: &str) -> Result<Token, SourceError> {
        let subject = self.subject(document).await?;
        let impersonation = text(document, "service_account_impersonation_url");
        let id = text(document, "client_id");
        let project = text(document, "workforce_pool_user_project").filter(|_| id.is_none());
        let options = project.map(|project| json!({ "userProject": project }).to_string());
        let (audience, kind) = (
            required(document, "audience")?,
            required(document, "subject_token_type")?,
        );
        let mut form = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", &audience),
            ("scope", if impersonation.is_some() { ANY_SCOPE } else { scope }),
            (
                "requested_token_type",
                "urn:ietf:params:oauth:token-type:access_token",
            ),
            ("subject_token", subject.expose()),
            ("subject_token_type", &kind),
        ];
        form.extend(options.as_deref().map(|options| ("options", options)));
        let url = service_url(&required(document, "token_url")?)?;
        let mut call = Call::new(EXTERNAL, Method::Post, url).form(&form);
        if let Some(id) = id {
            let pair = format!("{id}:{}", text(document, "client_secret").unwrap_or_default());
            call = call.header(
                "authorization",
                &format!("Basic {}", BASE64_STANDARD.encode(pair)),
            )?;
        }
        let token = self.token(call).await?;
        match impersonation {
            Some(url) => self.impersonate(document, url, &token, scope).await,
            None => Ok(token),
        }
    }

    /// Returns the token that another party has issued.
    async fn subject(&self, document: &Value) -> Result<Secret, SourceError> {
        let source = document.get("credential_source").unwrap_or(&Value::Null);
        let format = source.get("format").unwrap_or(&Value::Null);
        let bytes = if let Some(file) = text(source, "file") {
            let path = self.0.path(file).unwrap_or_else(|| file.into());
            self.0.file(&path).await.map_err(|error| {
                denied(format!(
                    "cannot read the subject's token in {}: {}",
                    path.display(),
                    error.kind()
                ))
            })?
        } else if let Some(url) = text(source, "url") {
            let what = "the service of the subject's token";
            let mut call = Call::new(what, Method::Get, service_url(url)?);
            for (name, value) in source
                .get("headers")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                let name = HeaderName::try_from(name).ok();
                let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
                let (Some(name), Some(mut value)) = (name, value) else {
                    return Err(unusable("a header of credential_source cannot be sent"));
                };
                value.set_sensitive(true);
                call.headers.insert(name, value);
            }
            let answer = self.0.call(&call).await?;
            if answer.status != http::StatusCode::OK {
                return Err(answer.refusal(what, None));
            }
            answer.body
        } else {
            let kinds = ["environment_id", "executable", "certificate"];
            let kind = kinds.into_iter().find(|kind| source.get(kind).is_some());
            return Err(unusable(format!(
                "the credential_source {} is not supported (file and url are)",
                kind.unwrap_or("of the external account")
            )));
        };
        if text(format, "type") != Some("json") {
            return Ok(Secret::new(String::from_utf8_lossy(&bytes).trim()));
        }
        let field = required(format, "subject_token_field_name")?;
        let json: Value =
            serde_json::from_slice(&bytes).map_err(|_| denied("the subject's token is not in JSON"))?;
        text(&json, &field)
            .map(Secret::new)
            .ok_or_else(|| denied(format!("the subject's token has no {field:?}")))
    }

    /// A token of another account, by one that may act for it.
    async fn impersonate(
        &self,
        document: &Value,
        url: &str,
        by: &Token,
        scope: &str,
    ) -> Result<Token, SourceError> {
        let what = "the service of impersonation";
        let seconds = document
            .get("service_account_impersonation")
            .and_then(|part| part.get("token_lifetime_seconds")?.as_u64())
            .unwrap_or(3600);
        let mut content = json!({ "scope": [scope], "lifetime": format!("{seconds}s") });
        if let Some(delegates) = document.get("delegates") {
            content["delegates"] = delegates.clone();
        }
        let call = Call::new(what, Method::Post, service_url(url)?)
            .content("application/json", content.to_string())
            .header("authorization", &format!("Bearer {}", by.text.expose()))?;
        let answer = self.0.call(&call).await?;
        if answer.status != http::StatusCode::OK {
            return Err(refusal(&answer, what));
        }
        let json = answer.json(what)?;
        let token = text(&json, "accessToken").ok_or_else(|| denied(format!("{what} names no token")))?;
        let left = text(&json, "expireTime").map(left).transpose()?;
        Ok(Token {
            text: Secret::new(token),
            left,
        })
    }

    /// Sends a request for a token.
    async fn token(&self, call: Call) -> Result<Token, SourceError> {
        let answer = self.0.call(&call).await?;
        if answer.status != http::StatusCode::OK {
            return Err(refusal(&answer, &call.service));
        }
        issued(&answer, &call.service)
    }

    /// Asks the metadata server.
    pub(super) async fn metadata(&self, search: &mut Search) -> Result<Option<Token>, SourceError> {
        let off = self
            .0
            .variable("NO_GCE_CHECK")
            .is_some_and(|off| off.eq_ignore_ascii_case("true"));
        if off {
            search.missed(format!("{METADATA} (NO_GCE_CHECK)"));
            return Ok(None);
        }
        let host = ["GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"]
            .into_iter()
            .find_map(|name| self.0.variable(name))
            // By its number: where it is not, its name takes time to be found not to be there.
            .unwrap_or("169.254.169.254");
        let path = "computeMetadata/v1/instance/service-accounts/default/token";
        let url = format!(
            "http://{host}/{path}?scopes={}",
            utf8_percent_encode(SCOPE, &VALUE)
        );
        let url = Url::parse(&url).map_err(|_| unusable("GCE_METADATA_HOST is not HOST[:PORT]"))?;
        let call = Call::metadata(METADATA, Method::Get, url)
            .within(METADATA_WITHIN, 2)
            .header("metadata-flavor", "Google")?;
        let answer = match tokio::time::timeout(METADATA_WITHIN, self.0.call(&call)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                search.missed(format!("{METADATA} at {host} ({error})"));
                return Ok(None);
            }
            Err(_) => {
                search.missed(format!("{METADATA} at {host} (silent)"));
                return Ok(None);
            }
        };
        if answer
            .headers
            .get("metadata-flavor")
            .is_none_or(|flavor| flavor != "Google")
        {
            search.missed(format!("{METADATA} at {host} (another service answers)"));
            return Ok(None);
        }
        match answer.status.as_u16() {
            200 => issued(&answer, METADATA).map(Some),
            404 => {
                search.missed(format!("{METADATA} at {host} (no account)"));
                Ok(None)
            }
            _ => Err(answer.refusal(METADATA, None)),
        }
    }
}

/// Reads an OAuth token.
fn issued(answer: &Answer, service: &str) -> Result<Token, SourceError> {
    let json = answer.json(service)?;
    let token = text(&json, "access_token").ok_or_else(|| denied(format!("{service} names no token")))?;
    let left = json.get("expires_in").and_then(Value::as_u64);
    Ok(Token {
        text: Secret::new(token),
        left: left.map(Duration::from_secs),
    })
}

/// Returns a refusal with the code that OAuth, or Google's own API, names it by.
fn refusal(answer: &Answer, service: &str) -> SourceError {
    let json = answer.json(service).unwrap_or_default();
    let code = text(&json, "error").or_else(|| text(json.get("error")?, "status"));
    answer.refusal(service, code)
}

/// Returns a JSON web token (RFC 7515), signed with an RSA key in PEM.
fn signed(head: &Value, claims: &Value, pem: &str) -> Result<String, SourceError> {
    let bad = || unusable("the private key is not an RSA key in PEM");
    let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| bad())? {
        PrivateKeyDer::Pkcs8(key) => rsa::KeyPair::from_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => rsa::KeyPair::from_der(key.secret_pkcs1_der()),
        _ => return Err(bad()),
    };
    let key = key.map_err(|_| bad())?;
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(head), part(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        text.as_bytes(),
        &mut signature,
    )
    .map_err(|_| unusable("the private key cannot sign"))?;
    Ok(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}
