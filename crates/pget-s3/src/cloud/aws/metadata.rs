//! The services of a container and of an instance that hand out the credentials of its role.
//!
//! Source: "Container credential provider" of the AWS SDKs reference; "Use the Instance Metadata
//! Service" of the EC2 user guide. Neither is ever asked through a proxy.
//!
//! Invariant: whether a metadata service is there is decided within two seconds.

use std::{net::IpAddr, time::Duration};

use pget_core::SourceError;
use pget_http::Method;
use url::{Host, Url};

use super::{config::Config, credential::from_json};
use crate::cloud::{
    context::{Answer, Call},
    keys::{Credential, denied, unusable},
    search::Search,
    service::checked,
};

const CONTAINER: &str = "the container's service for credentials";
const INSTANCE: &str = "the instance's metadata service";
/// The address of a container's service on ECS.
const ECS: &str = "http://169.254.170.2";
/// One attempt at an instance's service; botocore's.
const INSTANCE_WITHIN: Duration = Duration::from_secs(1);
/// All attempts to find out whether it is there.
const INSTANCE_IN_ALL: Duration = Duration::from_secs(2);
const CONTAINER_WITHIN: Duration = Duration::from_secs(2);

/// Asks a container's service, if the settings name one.
pub(super) async fn container(
    config: &Config,
    search: &mut Search,
) -> Result<Option<Credential>, SourceError> {
    let values = &config.values;
    let url = match (
        values.get("container_credentials_relative_uri"),
        values.get("container_credentials_full_uri"),
    ) {
        (Some(path), _) => format!("{ECS}{path}"),
        (None, Some(url)) => url.to_owned(),
        (None, None) => {
            search.missed("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and …_FULL_URI (not set)");
            return Ok(None);
        }
    };
    let url = Url::parse(&url)
        .ok()
        .filter(is_of_a_container)
        .ok_or_else(|| unusable("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor on this machine"))?;
    let mut call = Call::metadata(CONTAINER, Method::Get, url)
        .within(CONTAINER_WITHIN, 3)
        .header("accept", "application/json")?;
    let file = values.get("container_authorization_token_file");
    if let Some(file) = file {
        let what = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
        let token = config.context.secret_file(what, file).await?;
        call = call.header("authorization", token.expose())?;
    } else if let Some(token) = values.get("container_authorization_token") {
        call = call.header("authorization", token)?;
    }
    let answer = config.context.call(&call).await?;
    if answer.status != http::StatusCode::OK {
        return Err(answer.refusal(CONTAINER, None));
    }
    from_json(&answer.json(CONTAINER)?, "Token", CONTAINER, CONTAINER.into()).map(Some)
}

/// Whether a container's service may be there: a token goes to it.
fn is_of_a_container(url: &Url) -> bool {
    let own = |ip: IpAddr| {
        let known = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
        ip.is_loopback() || known.iter().any(|known| known.parse() == Ok(ip))
    };
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(Host::Ipv4(ip))) => own(ip.into()),
        ("http", Some(Host::Ipv6(ip))) => own(ip.into()),
        ("http", Some(Host::Domain(name))) => name == "localhost",
        _ => false,
    }
}

/// Asks the instance's metadata service.
pub(super) async fn instance(
    config: &Config,
    search: &mut Search,
) -> Result<Option<Credential>, SourceError> {
    if config.values.switch("ec2_metadata_disabled").map_err(setting)? == Some(true) {
        search.missed(format!("{INSTANCE} (AWS_EC2_METADATA_DISABLED)"));
        return Ok(None);
    }
    let service = Instance::new(config)?;
    let token = match tokio::time::timeout(INSTANCE_IN_ALL, service.token()).await {
        Ok(Ok(token)) => token,
        Ok(Err(error)) => {
            search.missed(format!("{INSTANCE} at {} ({error})", service.base));
            return Ok(None);
        }
        Err(_) => {
            search.missed(format!("{INSTANCE} at {} (silent)", service.base));
            return Ok(None);
        }
    };
    let roles = service.get("", token.as_deref()).await?;
    let role = roles.text().trim().to_owned();
    if roles.status == http::StatusCode::NOT_FOUND || role.is_empty() {
        search.missed(format!("{INSTANCE} at {} (no role)", service.base));
        return Ok(None);
    }
    if roles.status != http::StatusCode::OK {
        return Err(roles.refusal(INSTANCE, None));
    }
    let answer = service.get(&role, token.as_deref()).await?;
    if answer.status != http::StatusCode::OK {
        return Err(answer.refusal(INSTANCE, None));
    }
    let json = answer.json(INSTANCE)?;
    let code = json.get("Code").and_then(serde_json::Value::as_str);
    if code.is_some_and(|code| code != "Success") {
        return Err(answer.refusal(INSTANCE, code));
    }
    let source = format!("{INSTANCE} at {}", service.base);
    from_json(&json, "Token", INSTANCE, source).map(Some)
}

/// An instance's metadata service.
struct Instance<'a> {
    config: &'a Config,
    base: Url,
    within: Duration,
    attempts: u32,
}

impl<'a> Instance<'a> {
    fn new(config: &'a Config) -> Result<Self, SourceError> {
        let section = config.files.profile(&config.profile);
        let word = |name: &str| config.values.get(name).or_else(|| section?.get(name));
        let number = |name: &str, default: u32| -> Result<u32, SourceError> {
            let text = word(name).map(str::parse);
            text.unwrap_or(Ok(default))
                .map_err(|_| unusable(format!("{name} is a number")))
        };
        let six =
            word("ec2_metadata_service_endpoint_mode").is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
        let six = six || config.values.switch("imds_use_ipv6").map_err(setting)? == Some(true);
        let base = match word("ec2_metadata_service_endpoint") {
            Some(base) => base,
            None if six => "http://[fd00:ec2::254]",
            None => "http://169.254.169.254",
        };
        let base = checked(base).map_err(setting)?;
        let default = u32::try_from(INSTANCE_WITHIN.as_secs()).unwrap_or(1);
        Ok(Self {
            config,
            base,
            within: Duration::from_secs(number("metadata_service_timeout", default)?.into()),
            attempts: number("metadata_service_num_attempts", 1)?.max(1),
        })
    }

    /// Begins a session (version 2); `None` where the service knows only version 1.
    async fn token(&self) -> Result<Option<String>, SourceError> {
        let call = Call::metadata(INSTANCE, Method::Put, self.url("latest/api/token")?)
            .within(self.within, self.attempts)
            .header("x-aws-ec2-metadata-token-ttl-seconds", "21600")?;
        let answer = self.config.context.call(&call).await?;
        match answer.status.as_u16() {
            200 => Ok(Some(answer.text().trim().to_owned())),
            403..=405
                if self
                    .config
                    .values
                    .switch("ec2_metadata_v1_disabled")
                    .map_err(setting)?
                    != Some(true) =>
            {
                Ok(None)
            }
            _ => Err(answer.refusal(INSTANCE, None)),
        }
    }

    async fn get(&self, name: &str, token: Option<&str>) -> Result<Answer, SourceError> {
        let name: String = percent_encoding::utf8_percent_encode(name, &crate::address::PATH).to_string();
        let url = self.url(&format!("latest/meta-data/iam/security-credentials/{name}"))?;
        // It answered before, so it is worth another attempt.
        let mut call = Call::metadata(INSTANCE, Method::Get, url).within(self.within * 2, self.attempts + 1);
        if let Some(token) = token {
            call = call.header("x-aws-ec2-metadata-token", token)?;
        }
        self.config.context.call(&call).await
    }

    fn url(&self, path: &str) -> Result<Url, SourceError> {
        let base = self.base.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}/{path}")).map_err(|_| denied("the metadata service has no URL"))
    }
}

fn setting(error: pget_core::Error) -> SourceError {
    unusable(error.to_line())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_s_token_goes_to_no_other_machine_in_the_open() {
        for (url, may) in [
            ("http://169.254.170.2/x", true),
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::23]/v1", true),
            ("http://127.0.0.1:80/x", true),
            ("http://localhost/x", true),
            ("https://any.example/x", true),
            ("http://any.example/x", false),
            ("http://10.0.0.1/x", false),
            ("ftp://127.0.0.1/x", false),
        ] {
            assert_eq!(is_of_a_container(&Url::parse(url).expect("a URL")), may, "{url}");
        }
    }
}
