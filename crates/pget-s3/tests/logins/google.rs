//! The places where Google's tools find credentials.

use pget_core::ErrorKind;

use crate::{
    standin::{Got, Reply},
    world::{FAR, World, oauth},
};

pub(super) const USER: &str = r#"{"type":"authorized_user","client_id":"id","client_secret":"canary-client","refresh_token":"canary-refresh","token_uri":"HERE/token","quota_project_id":"payer"}"#;

/// Imitates Google's services.
pub(super) fn google(got: &Got) -> Option<Reply> {
    match got.path() {
        "/token" => {
            let right = got.field("refresh_token").as_deref() == Some("canary-refresh")
                && got.field("client_secret").as_deref() == Some("canary-client");
            Some(if right {
                oauth("canary-user")
            } else {
                Reply::new(400, r#"{"error":"invalid_grant","error_description":"canary"}"#)
            })
        }
        "/impersonate" => {
            assert!(
                ["Bearer canary-user", "Bearer canary-federated"]
                    .contains(&got.header("authorization").unwrap_or_default())
            );
            assert!(got.body.contains("devstorage.read_only"), "{}", got.body);
            Some(Reply::new(
                200,
                format!(r#"{{"accessToken":"canary-other","expireTime":"{FAR}"}}"#),
            ))
        }
        "/sts" => {
            assert_eq!(got.field("subject_token").as_deref(), Some("canary-subject"));
            assert_eq!(got.field("audience").as_deref(), Some("//iam"));
            Some(oauth("canary-federated"))
        }
        "/subject" => {
            assert_eq!(got.header("x-secret"), Some("canary-header"));
            Some(Reply::new(200, r#"{"value":"canary-subject"}"#))
        }
        path if path.starts_with("/computeMetadata/") => {
            assert_eq!(got.header("metadata-flavor"), Some("Google"));
            Some(oauth("canary-machine").with("Metadata-Flavor", "Google"))
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_s_login_by_gcloud_is_enough() {
    let place = ".config/gcloud/application_default_credentials.json";
    let world = World::new(google).file(place, USER);
    world.bears("gs://bucket/k", "canary-user").await;
    for seen in world.server.seen("/bucket/k") {
        assert_eq!(seen.header("x-goog-user-project"), Some("payer"));
    }
    assert_eq!(world.server.seen("/token").len(), 1);
    let world = world.file(place, &USER.replace("canary-refresh", "canary-revoked"));
    let text = world.fails("gs://bucket/k", ErrorKind::PermissionDenied).await;
    assert!(text.contains("invalid_grant"), "{text}");
    let world = world.file(place, "{\"type\":\"gdch_service_account\",\"x\":\"canary\"}");
    let text = world.fails("gs://bucket/k", ErrorKind::InvalidArgument).await;
    assert!(text.contains("gdch_service_account"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_documents_of_google_yield_tokens() {
    let impersonated = format!(
        r#"{{"type":"impersonated_service_account","service_account_impersonation_url":"HERE/impersonate","source_credentials":{USER}}}"#
    );
    let external = |source: &str, more: &str| {
        format!(
            r#"{{"type":"external_account","audience":"//iam","subject_token_type":"urn:ietf:params:oauth:token-type:jwt",
            "token_url":"HERE/sts","credential_source":{source}{more}}}"#
        )
    };
    let by_url = r#"{"url":"HERE/subject","headers":{"x-secret":"canary-header"},"format":{"type":"json","subject_token_field_name":"value"}}"#;
    let world = World::new(google).file("subject", "canary-subject\n");
    let by_file = format!(r#"{{"file":"{}"}}"#, world.path("subject"));
    let on = r#","service_account_impersonation_url":"HERE/impersonate""#;
    for (document, token) in [
        (impersonated.as_str(), "canary-other"),
        (&external(&by_file, ""), "canary-federated"),
        (&external(by_url, ""), "canary-federated"),
        (&external(&by_file, on), "canary-other"),
    ] {
        let world = World::new(google).file("adc.json", document);
        let path = world.path("adc.json");
        let world = world.set("GOOGLE_APPLICATION_CREDENTIALS", &path);
        world.bears("gs://bucket/k", token).await;
    }
    let world = World::new(google);
    let host = world.server.url("").replace("http://", "");
    world
        .set("GCE_METADATA_HOST", &host)
        .bears("gs://bucket/k", "canary-machine")
        .await;
}
