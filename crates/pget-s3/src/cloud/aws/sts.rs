//! The token service of AWS: roles that credentials or a web identity assume; sessions of S3
//! Express.
//!
//! Source: AssumeRole and AssumeRoleWithWebIdentity of the STS API reference, CreateSession of the
//! S3 API reference.
//!
//! Invariant: of an answer, only the code of a refusal becomes part of an error.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use pget_core::SourceError;
use pget_http::Method;
use url::Url;

use super::{
    config::Config,
    credential::keys,
    endpoint,
    profile::Section,
    sign::{Scope, TOKEN, sign},
};
use crate::{
    clock::Offset,
    cloud::{
        context::{Answer, Call},
        keys::{Credential, Keys, denied, unusable},
        service::left,
    },
    errors::Document,
};

/// The version of the token service's interface.
const API: &str = "2011-06-15";
const STS: &str = "the token service (STS)";
/// Clocks so far apart are worth a second signature.
const SKEW: Duration = Duration::from_secs(60);

/// Assumes the role of a profile.
pub(super) async fn assume(
    config: &Config,
    name: &str,
    section: &Section,
    by: &Credential,
) -> Result<Credential, SourceError> {
    if section.has("mfa_serial") {
        return Err(unusable(format!(
            "the profile {name:?} has mfa_serial, which is not supported: pget cannot ask for a code"
        )));
    }
    let role = section.get("role_arn").unwrap_or_default();
    let session = session_name(section.get("role_session_name"))?;
    let mut form = vec![
        ("Action", "AssumeRole"),
        ("Version", API),
        ("RoleArn", role),
        ("RoleSessionName", &session),
    ];
    let more = [
        ("ExternalId", "external_id"),
        ("DurationSeconds", "duration_seconds"),
    ];
    for (name, key) in more {
        form.extend(section.get(key).map(|value| (name, value)));
    }
    let (url, region) = place(config)?;
    let call = Call::new(STS, Method::Post, url).form(&form);
    let scope = ("sts", region.as_str(), TOKEN);
    let answer = signed(config, call, &by.keys, &scope).await?;
    let source = format!(
        "the role {role} of the profile {name:?}, assumed by {}",
        by.source
    );
    from_answer(&answer, source)
}

/// Assumes a role by the token in a file, which another party rewrites from time to time.
pub(super) async fn web_identity(
    config: &Config,
    file: &str,
    role: &str,
    session: Option<&str>,
) -> Result<Credential, SourceError> {
    let token = config
        .context
        .secret_file("web_identity_token_file", file)
        .await?;
    let session = session_name(session)?;
    let (url, _) = place(config)?;
    let call = Call::new(STS, Method::Post, url).form(&[
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", API),
        ("RoleArn", role),
        ("RoleSessionName", &session),
        ("WebIdentityToken", token.expose()),
    ]);
    let answer = config.context.call(&call).await?;
    from_answer(
        &answer,
        format!("the role {role}, assumed by the token in {file}"),
    )
}

/// Returns a session's keys for a directory bucket at `base`.
pub(super) async fn express(
    config: &Config,
    base: &str,
    region: &str,
    by: &Credential,
) -> Result<Credential, SourceError> {
    let service = "S3 (CreateSession)";
    let url = Url::parse(&format!("{base}/?session")).map_err(|_| denied("the bucket has no URL"))?;
    let call = Call::new(service, Method::Get, url).header("x-amz-create-session-mode", "ReadOnly")?;
    let scope = ("s3express", region, TOKEN);
    let answer = signed(config, call, &by.keys, &scope).await?;
    from_answer(
        &answer,
        format!("a session of the directory bucket, by {}", by.source),
    )
}

/// Returns the name of a session that a role is assumed for.
fn session_name(set: Option<&str>) -> Result<String, SourceError> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| unusable("this machine's clock is before 1970"))?;
    Ok(set.map_or_else(|| format!("pget-session-{}", now.as_secs()), str::to_owned))
}

/// Returns the URL of STS and the region that a request there is signed for.
fn place(config: &Config) -> Result<(Url, String), SourceError> {
    let set = config.region.as_deref();
    let legacy = config.values.get("sts_regional_endpoints") == Some("legacy");
    let set = set.filter(|region| !(legacy && OLD.contains(region)));
    if let Some(url) = config.endpoint_of("sts")? {
        return Ok((url, config.region(None).to_owned()));
    }
    let (host, region) = endpoint::sts(set, config.fips, config.dual);
    let url = Url::parse(&format!("https://{host}/"))
        .map_err(|_| unusable("the region cannot stand in a host name"))?;
    Ok((url, region))
}

/// Regions that the global name of STS served before there were others.
const OLD: [&str; 16] = [
    "ap-northeast-1",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "aws-global",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// Sends a signed request; once more for the server's time if that is another.
async fn signed(
    config: &Config,
    mut call: Call,
    keys: &Keys,
    scope: &(&'static str, &str, HeaderName),
) -> Result<Answer, SourceError> {
    let plain = std::mem::take(&mut call.headers);
    call.headers = with_signature(&call, plain.clone(), keys, scope, SystemTime::now())?;
    let answer = config.context.call(&call).await?;
    let Some(offset) = Offset::told(&answer.headers) else {
        return Ok(answer);
    };
    let document = Document::parse(&answer.body);
    let skewed = matches!(answer.status.as_u16(), 400 | 403)
        && !offset.is_within(SKEW)
        && (document.may_be_skew() || document.code == "SignatureDoesNotMatch");
    if !skewed {
        return Ok(answer);
    }
    call.headers = with_signature(&call, plain, keys, scope, offset.apply(SystemTime::now()))?;
    config.context.call(&call).await
}

fn with_signature(
    call: &Call,
    mut headers: HeaderMap,
    keys: &Keys,
    (service, region, token): &(&'static str, &str, HeaderName),
    time: SystemTime,
) -> Result<HeaderMap, SourceError> {
    let scope = Scope {
        service,
        region,
        time,
        token: token.clone(),
    };
    sign(
        call.method.as_str(),
        &call.url,
        &mut headers,
        &call.content,
        keys,
        &scope,
    )?;
    headers.insert(http::header::ACCEPT, HeaderValue::from_static("*/*"));
    Ok(headers)
}

/// Reads the credentials in an answer of XML.
fn from_answer(answer: &Answer, source: String) -> Result<Credential, SourceError> {
    let text = answer.text();
    if answer.status != http::StatusCode::OK {
        let code = Document::parse(&answer.body).code;
        return Err(answer.refusal(&source, Some(&code)));
    }
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (value, _) = rest.split_once('<')?;
        (!value.is_empty()).then_some(value)
    };
    let (Some(id), Some(secret)) = (element("AccessKeyId"), element("SecretAccessKey")) else {
        return Err(denied(format!("the answer for {source} names no keys")));
    };
    Ok(Credential {
        keys: keys(id, secret, element("SessionToken")),
        left: element("Expiration").map(left).transpose()?,
        source,
    })
}
