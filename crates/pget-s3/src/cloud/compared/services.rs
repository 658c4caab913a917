//! Every service that issues credentials, as a single server.

use super::{
    standin::{Got, Reply},
    table::FAR,
};

/// Answers as every service that issues credentials.
pub(super) fn services(got: &Got) -> Reply {
    let keys = |id: &str| {
        format!(
            r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"S{id}","Token":"T{id}","Expiration":"{FAR}"}}"#
        )
    };
    let roles = "/latest/meta-data/iam/security-credentials/";
    let oauth = |token: &str| {
        Reply::new(200, format!(r#"{{"access_token":"{token}","expires_in":3600,"token_type":"Bearer","issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}}"#)).with("Content-Type", "application/json")
    };
    match got.path() {
        "/latest/api/token" => Reply::new(200, "imds"),
        path if path == roles => Reply::new(200, "role"),
        path if path == format!("{roles}role") => Reply::new(200, keys("AI")),
        "/task" => Reply::new(200, keys(if got.header("authorization") == Some("t") { "AT" } else { "AC" })),
        "/federation/credentials" => Reply::new(
            200,
            r#"{"roleCredentials":{"accessKeyId":"AS","secretAccessKey":"SS","sessionToken":"TS","expiration":4070908800000}}"#,
        ),
        "/" if got.method == "POST" => {
            let action = got.field("Action").unwrap_or_default();
            let role = got.field("RoleArn").unwrap_or_default();
            // The key contains the identity that assumes the role.
            let by = got.header("authorization").and_then(|by| by.split("Credential=").nth(1)?.split('/').next()).unwrap_or("W");
            let id = format!("R{}{by}", role.rsplit('/').next().unwrap_or_default());
            Reply::new(
                200,
                format!(
                    "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><AssumedRoleUser><AssumedRoleId>i</AssumedRoleId><Arn>{role}</Arn>\
                     </AssumedRoleUser><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken>\
                     <Expiration>{FAR}</Expiration></Credentials></{action}Result></{action}Response>"
                ),
            )
            .with("Content-Type", "text/xml")
        }
        "/token" => oauth(&format!("token-{}", got.field("grant_type").unwrap_or_default())),
        "/sts" => oauth(&format!("sts-{}", got.field("subject_token").unwrap_or_default())),
        "/sts-oauth" => oauth(&format!("person-{}", got.header("authorization").unwrap_or_default())),
        "/subject" => Reply::new(200, r#"{"v":"subject-by-url"}"#),
        path if path.ends_with(":generateAccessToken") => {
            let by = got.header("authorization").unwrap_or_default();
            Reply::new(200, format!(r#"{{"accessToken":"as-other-by-{by}","expireTime":"{FAR}"}}"#))
        }
        path if path.starts_with("/computeMetadata/") || path == "/" => {
            let body = if path.ends_with("/token") {
                r#"{"access_token":"machine","expires_in":3600,"token_type":"Bearer"}"#
            } else if got.target.contains("recursive=true") {
                r#"{"email":"m@p.iam","scopes":["x"],"aliases":["default"]}"#
            } else if path.ends_with("universe-domain") {
                "googleapis.com"
            } else {
                "p"
            };
            let kind = if body.starts_with('{') { "application/json" } else { "application/text" };
            Reply::new(200, body).with("Metadata-Flavor", "Google").with("Content-Type", kind)
        }
        path if path.ends_with("/openid-configuration") => Reply::new(
            200,
            r#"{"token_endpoint":"https://login.stand-in/tenant/oauth2/v2.0/token","authorization_endpoint":"https://login.stand-in/a","issuer":"https://login.stand-in/tenant"}"#,
        )
        .with("Content-Type", "application/json"),
        "/tenant/oauth2/v2.0/token" => oauth(&format!(
            "entra-{}{}",
            got.field("client_secret").unwrap_or_default(),
            got.field("client_assertion").unwrap_or_default()
        )),
        "/msi" => Reply::new(200, r#"{"access_token":"app","expires_on":"4070908800","token_type":"Bearer","resource":"r"}"#).with("Content-Type", "application/json"),
        "/metadata/identity/oauth2/token" if got.header("metadata").is_none() => {
            Reply::new(400, r#"{"error":"invalid_request"}"#).with("Content-Type", "application/json")
        }
        "/metadata/identity/oauth2/token" => {
            let client = if got.target.contains("client_id=c") { "client" } else { "" };
            let body = format!(r#"{{"access_token":"machine{client}","expires_in":"3600","expires_on":"4070908800","token_type":"Bearer","resource":"r"}}"#);
            Reply::new(200, body).with("Content-Type", "application/json")
        }
        _ => Reply::new(403, "{}"),
    }
}
