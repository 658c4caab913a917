//! Where credentials for AWS are looked for, in botocore's order.
//!
//! The environment; the profile (a role to assume, a web identity, single sign-on, keys, a
//! program); a container's service; the instance's metadata service.
//!
//! Invariants: a place that is set up and does not yield credentials is an error, so that no
//! read uses another identity than the one that was meant; the files are read again with each
//! search, as keys are rotated there.

use pget_core::SourceError;

use super::{
    config::{Config, read_files},
    credential::{from_json, keys},
    metadata,
    profile::{Files, Section},
    sso, sts,
};
use crate::cloud::{
    keys::{Credential, denied, unusable},
    search::Search,
    service::left,
};

/// Roles that lead to roles; more is a mistake.
const DEEPEST: usize = 10;

/// One search through the places.
pub(crate) struct Chain<'a> {
    config: &'a Config,
    files: Files,
}

impl<'a> Chain<'a> {
    /// Reads the files.
    pub(crate) async fn new(config: &'a Config) -> Result<Self, SourceError> {
        let (context, values) = (config.context.clone(), config.values.clone());
        let read = tokio::task::spawn_blocking(move || read_files(&context, &values));
        let files = read
            .await
            .map_err(|_| denied("reading the profile's files panicked"))??;
        Ok(Self { config, files })
    }

    /// Looks at all places.
    pub(crate) async fn find(&self, search: &mut Search) -> Result<Option<Credential>, SourceError> {
        if let Some(found) = self.environment(search)? {
            return Ok(Some(found));
        }
        // A container that a property names goes before the profile that happens to be there.
        let container = [
            "container_credentials_relative_uri",
            "container_credentials_full_uri",
        ]
        .iter()
        .any(|name| self.config.values.property(name).is_some());
        if !container {
            let profile = self.config.profile.clone();
            if let Some(found) = self.profile(&profile, search).await? {
                return Ok(Some(found));
            }
        }
        if let Some(found) = metadata::container(self.config, search).await? {
            return Ok(Some(found));
        }
        metadata::instance(self.config, search).await
    }

    fn environment(&self, search: &mut Search) -> Result<Option<Credential>, SourceError> {
        let values = &self.config.values;
        let Some(id) = values.get("access_key_id") else {
            search.missed("AWS_ACCESS_KEY_ID (not set)");
            return Ok(None);
        };
        let Some(secret) = values.get("secret_access_key") else {
            return Err(denied(
                "AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not",
            ));
        };
        let token = values.first(&["security_token", "session_token"]);
        let source = match values.property("access_key_id") {
            Some(_) => "the properties aws.access_key_id and aws.secret_access_key",
            None => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        };
        Ok(Some(Credential {
            keys: keys(id, secret, token),
            left: values.get("credential_expiration").map(left).transpose()?,
            source: source.into(),
        }))
    }

    /// Looks at the profile that is chosen, and at a web identity that the environment names.
    async fn profile(&self, name: &str, search: &mut Search) -> Result<Option<Credential>, SourceError> {
        let section = self.files.profile(name);
        if section.is_none() && self.config.named {
            return Err(unusable(format!(
                "the profile {name:?} is not in {}",
                self.files.looked()
            )));
        }
        if let Some(section) = section
            && is_role(section)
        {
            return self.role(name, section).await.map(Some);
        }
        let values = &self.config.values;
        if let (Some(file), Some(role)) = (values.get("web_identity_token_file"), values.get("role_arn")) {
            let session = values.get("role_session_name");
            return sts::web_identity(self.config, file, role, session)
                .await
                .map(Some);
        }
        if let Some(section) = section
            && let Some(found) = self.own(name, section).await?
        {
            return Ok(Some(found));
        }
        search.missed(format!("the profile {name:?} in {}", self.files.looked()));
        Ok(None)
    }

    /// Returns what a profile yields by itself, without another one.
    async fn own(&self, name: &str, section: &Section) -> Result<Option<Credential>, SourceError> {
        let config = self.config;
        if let Some(file) = section.get("web_identity_token_file") {
            let role = section
                .get("role_arn")
                .ok_or_else(|| unusable(format!("the profile {name:?} has no role_arn")))?;
            let session = section.get("role_session_name");
            return sts::web_identity(config, file, role, session).await.map(Some);
        }
        if section.has("sso_account_id") || section.has("sso_role_name") {
            return sso::find(config, &self.files, name, section).await.map(Some);
        }
        if let Some(found) = fixed(name, self.files.shared(name))? {
            return Ok(Some(found));
        }
        if let Some(command) = section.get("credential_process") {
            return self.program(name, command).await.map(Some);
        }
        if section.has("login_session") {
            return Err(unusable(format!(
                "the profile {name:?} has login_session (aws login), which is not supported"
            )));
        }
        fixed(name, Some(section))
    }

    /// Assumes the profile's role, by the credentials of the profiles that it leads to.
    async fn role(&self, name: &str, section: &Section) -> Result<Credential, SourceError> {
        let mut roles = vec![(name.to_owned(), section)];
        let mut found = loop {
            let (name, section) = &roles[roles.len() - 1];
            match (section.get("source_profile"), section.get("credential_source")) {
                (Some(_), Some(_)) => {
                    let text = format!("the profile {name:?} has both source_profile and credential_source");
                    return Err(unusable(text));
                }
                (None, None) => {
                    let text = format!("the profile {name:?} has role_arn without source_profile");
                    return Err(unusable(text));
                }
                (None, Some(source)) => break self.named_source(source, name).await?,
                (Some(source), None) => {
                    let next = self.files.profile(source).ok_or_else(|| {
                        unusable(format!("the source_profile {source:?} of {name:?} is not there"))
                    })?;
                    let keys = next.has("aws_access_key_id");
                    if keys || !is_role(next) {
                        break self.source_profile(source, next).await?;
                    }
                    if roles.len() > DEEPEST || roles.iter().any(|(name, _)| name == source) {
                        return Err(unusable(format!(
                            "the source_profile of {name:?} leads in a circle"
                        )));
                    }
                    roles.push((source.to_owned(), next));
                }
            }
        };
        for (name, section) in roles.iter().rev() {
            found = sts::assume(self.config, name, section, &found).await?;
        }
        Ok(found)
    }

    async fn source_profile(&self, name: &str, section: &Section) -> Result<Credential, SourceError> {
        // Its keys go before a role of its own.
        if let Some(found) = fixed(name, Some(section))? {
            return Ok(found);
        }
        let found = self.own(name, section).await?;
        found.ok_or_else(|| unusable(format!("the source_profile {name:?} has no credentials")))
    }

    async fn named_source(&self, source: &str, profile: &str) -> Result<Credential, SourceError> {
        let mut search = Search::new();
        let found = match source.to_ascii_lowercase().as_str() {
            "environment" => self.environment(&mut search)?,
            "ecscontainer" => metadata::container(self.config, &mut search).await?,
            "ec2instancemetadata" => metadata::instance(self.config, &mut search).await?,
            _ => {
                let text = format!(
                    "the credential_source of {profile:?} is not Environment, EcsContainer or Ec2InstanceMetadata"
                );
                return Err(unusable(text));
            }
        };
        found.ok_or_else(|| {
            denied(format!(
                "the credential_source {source} of {profile:?}: {}",
                search.summary()
            ))
        })
    }

    async fn program(&self, name: &str, command: &str) -> Result<Credential, SourceError> {
        let what = "the credential_process";
        let words = shlex::split(command)
            .filter(|words| !words.is_empty())
            .ok_or_else(|| unusable(format!("{what} of {name:?} is not a command line")))?;
        let output = self.config.context.run(what, words).await?;
        let json: serde_json::Value = serde_json::from_slice(&output)
            .map_err(|_| denied(format!("{what} of {name:?} does not print JSON")))?;
        if json.get("Version").and_then(serde_json::Value::as_u64) != Some(1) {
            return Err(denied(format!(
                "{what} of {name:?} prints another Version than 1"
            )));
        }
        from_json(
            &json,
            "SessionToken",
            what,
            format!("{what} of the profile {name:?}"),
        )
    }
}

/// Whether the profile is that of a role that other credentials assume.
fn is_role(section: &Section) -> bool {
    section.has("role_arn") && !section.has("web_identity_token_file")
}

/// Returns the keys that stand in a profile.
fn fixed(name: &str, section: Option<&Section>) -> Result<Option<Credential>, SourceError> {
    let Some(section) = section else { return Ok(None) };
    let Some(id) = section.get("aws_access_key_id") else {
        return Ok(None);
    };
    let Some(secret) = section.get("aws_secret_access_key") else {
        return Err(unusable(format!(
            "the profile {name:?} has aws_access_key_id without aws_secret_access_key"
        )));
    };
    let token = ["aws_security_token", "aws_session_token"]
        .iter()
        .find_map(|key| section.get(key));
    Ok(Some(Credential {
        keys: keys(id, secret, token),
        left: None,
        source: format!("the keys of the profile {name:?}"),
    }))
}
