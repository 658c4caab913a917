//! The identities of Azure that Microsoft Entra issues tokens for: a client's secret, a workload, a
//! managed identity, a person's log-in by the Azure CLI.
//!
//! Source: "OAuth 2.0 client credentials flow" of the Microsoft identity platform; "How to use
//! managed identities" of Microsoft Entra; azure-identity 1.27.0.
//!
//! Invariant: whether a metadata service is there is decided within two seconds.

use std::time::Duration;

use percent_encoding::utf8_percent_encode;
use pget_core::SourceError;
use pget_http::Method;
use serde_json::Value;
use url::Url;

use crate::{
    address::PATH,
    cloud::{
        context::{Call, Context},
        keys::{Credential, Keys, Secret, denied, unusable},
        search::Search,
        service::{is_open, service_url, text, until},
    },
    values::Values,
    values::switch,
};

const RESOURCE: &str = "https://storage.azure.com";
const LOGIN: &str = "https://login.microsoftonline.com";
const ENTRA: &str = "Microsoft Entra's token service";
const IDENTITY: &str = "the managed identity's service";
/// Whether a metadata service is there is decided within this time.
const METADATA_WITHIN: Duration = Duration::from_secs(2);
/// Where tokens are looked for.
pub(super) struct Identities<'a> {
    pub(super) context: &'a Context,
    pub(super) values: &'a Values,
}

impl Identities<'_> {
    /// Looks at all places that are wanted.
    pub(super) async fn find(&self, search: &mut Search) -> Result<Option<Credential>, SourceError> {
        if self.wants("clientsecret")
            && let Some(found) = self.client_secret(search).await?
        {
            return Ok(Some(found));
        }
        if self.wants("workloadidentity")
            && let Some(found) = self.workload(search).await?
        {
            return Ok(Some(found));
        }
        if self.wants("managedidentity")
            && let Some(found) = self.managed(search).await?
        {
            return Ok(Some(found));
        }
        if self.wants("azurecli") {
            return self.program(search).await;
        }
        Ok(None)
    }

    /// Whether a kind of credential is asked for: all are unless one is chosen.
    fn wants(&self, kind: &str) -> bool {
        let chosen = self
            .values
            .get("credential_type")
            .filter(|chosen| *chosen != "auto");
        let chosen = chosen.or_else(|| self.values.get("token_credentials"));
        match chosen
            .map(|chosen| chosen.to_ascii_lowercase().replace('_', ""))
            .as_deref()
        {
            None => {
                kind != "azurecli"
                    || self
                        .values
                        .get("use_azure_cli")
                        .is_none_or(|on| switch(on) != Some(false))
            }
            Some("prod") => kind != "azurecli",
            Some("dev" | "azurecli" | "azureclicredential") => kind == "azurecli",
            Some("clientsecret" | "environmentcredential") => kind == "clientsecret",
            Some("workloadidentity" | "workloadidentitycredential") => kind == "workloadidentity",
            Some("imds" | "msi" | "managedidentity" | "managedidentitycredential") => {
                kind == "managedidentity"
            }
            Some(_) => false,
        }
    }

    /// A client's secret.
    async fn client_secret(&self, search: &mut Search) -> Result<Option<Credential>, SourceError> {
        let parts = ["tenant_id", "client_id", "client_secret"].map(|name| self.values.get(name));
        let [Some(tenant), Some(client), Some(secret)] = parts else {
            search.missed("AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET (not set)");
            return Ok(None);
        };
        let form = [("client_secret", secret)];
        self.entra(tenant, client, &form, "a client's secret")
            .await
            .map(Some)
    }

    /// The token that a cluster writes for a workload.
    async fn workload(&self, search: &mut Search) -> Result<Option<Credential>, SourceError> {
        let parts = ["tenant_id", "client_id", "federated_token_file"].map(|name| self.values.get(name));
        let [Some(tenant), Some(client), Some(file)] = parts else {
            search.missed("AZURE_FEDERATED_TOKEN_FILE (not set)");
            return Ok(None);
        };
        let token = self
            .context
            .secret_file("AZURE_FEDERATED_TOKEN_FILE", file)
            .await?;
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let form = [
            ("client_assertion_type", kind),
            ("client_assertion", token.expose()),
        ];
        self.entra(tenant, client, &form, "a workload's identity")
            .await
            .map(Some)
    }

    async fn entra(
        &self,
        tenant: &str,
        client: &str,
        proof: &[(&str, &str)],
        source: &str,
    ) -> Result<Credential, SourceError> {
        let host = self
            .values
            .get("authority_host")
            .unwrap_or(LOGIN)
            .trim_end_matches('/');
        let host = if host.contains("://") {
            host.to_owned()
        } else {
            format!("https://{host}")
        };
        let url = format!("{host}/{}/oauth2/v2.0/token", utf8_percent_encode(tenant, &PATH));
        let url = Url::parse(&url).ok().filter(|url| !is_open(url));
        let url = url.ok_or_else(|| unusable("AZURE_AUTHORITY_HOST is not the https URL of a host"))?;
        let scope = format!("{RESOURCE}/.default");
        let mut form = vec![
            ("client_id", client),
            ("grant_type", "client_credentials"),
            ("scope", &scope),
        ];
        form.extend_from_slice(proof);
        let call = Call::new(ENTRA, Method::Post, url).form(&form);
        let answer = self.context.call(&call).await?;
        if answer.status != http::StatusCode::OK {
            let json = answer.json(ENTRA).unwrap_or_default();
            return Err(answer.refusal(ENTRA, text(&json, "error")));
        }
        credential(&answer.json(ENTRA)?, ENTRA, source)
    }

    /// Returns the request for a managed identity's token.
    fn managed_request(&self) -> Result<Call, SourceError> {
        let set = |name: &str| self.context.variable(name);
        let machine = ("metadata", "true");
        let (url, (header, value), version) = match (
            set("IDENTITY_ENDPOINT"),
            set("IDENTITY_HEADER"),
            set("MSI_ENDPOINT"),
        ) {
            (Some(url), Some(secret), _) => (url.to_owned(), ("x-identity-header", secret), "2019-08-01"),
            (_, _, Some(url)) => {
                let secret = set("MSI_SECRET").map(|secret| ("secret", secret));
                (url.to_owned(), secret.unwrap_or(machine), "2017-09-01")
            }
            _ => {
                let host = self.values.get("pod_identity_authority_host");
                let host = host.unwrap_or("http://169.254.169.254").trim_end_matches('/');
                let url = self.values.get("msi_endpoint").map(str::to_owned);
                let url = url.unwrap_or_else(|| format!("{host}/metadata/identity/oauth2/token"));
                (url, machine, "2018-02-01")
            }
        };
        let mut url = service_url(&url)?;
        let client = if version == "2017-09-01" {
            "clientid"
        } else {
            "client_id"
        };
        let resource = if version == "2018-02-01" {
            "msi_res_id"
        } else {
            "mi_res_id"
        };
        url.query_pairs_mut()
            .append_pair("api-version", version)
            .append_pair("resource", RESOURCE);
        for (setting, name) in [
            ("client_id", client),
            ("object_id", "object_id"),
            ("msi_resource_id", resource),
        ] {
            if let Some(value) = self.values.get(setting) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        Call::metadata(IDENTITY, Method::Get, url)
            .within(METADATA_WITHIN, 1)
            .header(header, value)
    }

    /// The identity of a machine or an app.
    async fn managed(&self, search: &mut Search) -> Result<Option<Credential>, SourceError> {
        let set = |name: &str| self.context.variable(name);
        if set("IDENTITY_ENDPOINT").is_some() && set("IMDS_ENDPOINT").is_some() {
            return Err(unusable("the managed identity of Azure Arc is not supported"));
        }
        if set("IDENTITY_SERVER_THUMBPRINT").is_some() {
            return Err(unusable(
                "the managed identity of Service Fabric is not supported",
            ));
        }
        let call = self.managed_request()?;
        let place = call.url.host_str().unwrap_or_default().to_owned();
        let named = set("IDENTITY_ENDPOINT").is_some() || set("MSI_ENDPOINT").is_some();
        let answer = match self.context.call(&call).await {
            Ok(answer) => answer,
            Err(error) if named => return Err(error),
            Err(error) => {
                search.missed(format!("{IDENTITY} at {place} ({error})"));
                return Ok(None);
            }
        };
        let json = answer.json(IDENTITY).unwrap_or_default();
        let code = text(&json, "error").filter(|_| answer.status == http::StatusCode::BAD_REQUEST);
        if code == Some("invalid_request") && self.values.get("client_id").is_none() {
            search.missed(format!("{IDENTITY} at {place} (no identity)"));
            return Ok(None);
        }
        if answer.status != http::StatusCode::OK {
            return Err(answer.refusal(IDENTITY, code));
        }
        credential(&json, IDENTITY, "a managed identity").map(Some)
    }

    /// A person's log-in, by the Azure CLI.
    async fn program(&self, search: &mut Search) -> Result<Option<Credential>, SourceError> {
        let chosen =
            self.values.get("credential_type").is_some() || self.values.get("use_azure_cli").is_some();
        let path = self.context.variable("PATH").unwrap_or_default();
        let program = std::env::split_paths(path)
            .map(|folder| folder.join("az"))
            .find(|az| az.is_file());
        let Some(program) = program.as_deref().and_then(std::path::Path::to_str) else {
            search.missed("the Azure CLI (az is not in PATH)");
            return if chosen {
                Err(denied("the Azure CLI is chosen, and az is not in PATH"))
            } else {
                Ok(None)
            };
        };
        let mut words = vec![
            program,
            "account",
            "get-access-token",
            "--output",
            "json",
            "--resource",
            RESOURCE,
        ];
        if let Some(tenant) = self.values.get("tenant_id") {
            words.extend(["--tenant", tenant]);
        }
        let what = "the Azure CLI";
        let ran = self
            .context
            .run(what, words.into_iter().map(str::to_owned).collect())
            .await;
        let output = match ran {
            Ok(output) => output,
            Err(error) if !chosen => {
                search.missed(format!("{error} (`az login`?)"));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let json: Value =
            serde_json::from_slice(&output).map_err(|_| denied(format!("{what} does not print JSON")))?;
        let token =
            text(&json, "accessToken").ok_or_else(|| denied(format!("{what} prints no accessToken")))?;
        let expires = json.get("expires_on").and_then(Value::as_i64);
        Ok(Some(Credential {
            keys: Keys::Bearer {
                token: Secret::new(token),
                project: None,
            },
            // Its expiresOn is in the machine's own time zone, without saying so.
            left: Some(expires.map_or(Duration::from_secs(300), |seconds| {
                until(seconds.saturating_mul(1000))
            })),
            source: what.into(),
        }))
    }
}

/// Reads a token of Entra, or of a managed identity.
fn credential(json: &Value, service: &str, source: &str) -> Result<Credential, SourceError> {
    let token = text(json, "access_token").ok_or_else(|| denied(format!("{service} names no token")))?;
    // Some write numbers as text.
    let number = |key: &str| {
        let value = json.get(key)?;
        value.as_i64().or_else(|| value.as_str()?.parse().ok())
    };
    let seconds = number("expires_in").and_then(|seconds| u64::try_from(seconds).ok());
    let left = seconds
        .map(Duration::from_secs)
        .or_else(|| number("expires_on").map(|seconds| until(seconds.saturating_mul(1000))));
    Ok(Credential {
        keys: Keys::Bearer {
            token: Secret::new(token),
            project: None,
        },
        left,
        source: source.into(),
    })
}
