//! The places where Azure's tools find credentials.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use pget_core::ErrorKind;

use crate::{
    standin::{Got, Reply},
    world::{World, oauth},
};

/// Imitates Microsoft's services.
pub(super) fn microsoft(got: &Got) -> Option<Reply> {
    match got.path() {
        "/tenant/oauth2/v2.0/token" => {
            assert_eq!(
                got.field("scope").as_deref(),
                Some("https://storage.azure.com/.default")
            );
            let by_secret = got.field("client_secret").as_deref() == Some("canary-client");
            let by_token = got.field("client_assertion").as_deref() == Some("canary-federated");
            Some(if by_secret || by_token {
                oauth("canary-entra")
            } else {
                Reply::new(401, r#"{"error":"invalid_client"}"#)
            })
        }
        "/metadata/identity/oauth2/token" => {
            assert_eq!(got.header("metadata"), Some("true"));
            assert!(
                got.target.contains("api-version=2018-02-01") && got.target.contains("storage.azure.com")
            );
            Some(Reply::new(
                200,
                r#"{"access_token":"canary-machine","expires_in":"86399","resource":"x"}"#,
            ))
        }
        "/msi" => {
            assert_eq!(got.header("x-identity-header"), Some("canary-header"));
            assert!(got.target.contains("api-version=2019-08-01"));
            Some(Reply::new(
                200,
                r#"{"access_token":"canary-app","expires_on":"4070908800"}"#,
            ))
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identities_of_azure_yield_tokens() {
    let world = || World::new(microsoft).here("AZURE_AUTHORITY_HOST", "");
    let machine = world().here("AZURE_POD_IDENTITY_AUTHORITY_HOST", "");
    machine.bears("az://bucket/k", "canary-machine").await;
    let app = world()
        .here("IDENTITY_ENDPOINT", "/msi")
        .set("IDENTITY_HEADER", "canary-header");
    app.bears("az://bucket/k", "canary-app").await;
    let client = world()
        .set("AZURE_TENANT_ID", "tenant")
        .set("AZURE_CLIENT_ID", "client");
    let secret = client.set("AZURE_CLIENT_SECRET", "canary-client");
    secret.bears("az://bucket/k", "canary-entra").await;
    let wrong = secret.set("AZURE_CLIENT_SECRET", "canary-wrong");
    let text = wrong.fails("az://bucket/k", ErrorKind::PermissionDenied).await;
    assert!(text.contains("invalid_client"), "{text}");
    let workload = world()
        .set("AZURE_TENANT_ID", "tenant")
        .set("AZURE_CLIENT_ID", "client")
        .file("token", "canary-federated");
    let token = workload.path("token");
    let workload = workload.set("AZURE_FEDERATED_TOKEN_FILE", &token);
    workload.bears("az://bucket/k", "canary-entra").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_s_login_by_the_azure_cli_is_enough() {
    let world = World::new(|_| None).file(
        "bin/az",
        "#!/bin/sh\n[ \"$1 $2\" = \"account get-access-token\" ] || exit 2\necho '{\"accessToken\":\"canary-cli\",\"expires_on\":4070908800,\"tokenType\":\"Bearer\"}'\n",
    );
    let az = world.path("bin/az");
    std::fs::set_permissions(Path::new(&az), std::fs::Permissions::from_mode(0o755)).expect("a program");
    let path = world.path("bin");
    let world = world.set("PATH", &path);
    world.bears("az://bucket/k", "canary-cli").await;
    let off = world
        .set("AZURE_USE_AZURE_CLI", "false")
        .set("AZURE_SKIP_SIGNATURE", "false");
    off.fails("az://bucket/k", ErrorKind::PermissionDenied).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_azure_connection_string_is_enough() {
    let world = World::new(|_| None);
    let string = format!(
        "AccountName=account;AccountKey=Y2FuYXJ5;BlobEndpoint={}",
        world.server.url("")
    );
    for seen in world
        .set("AZURE_STORAGE_CONNECTION_STRING", &string)
        .reads("az://bucket/k")
        .await
    {
        let signed = seen.header("authorization").unwrap_or_default();
        assert!(signed.starts_with("SharedKey account:"), "{signed}");
    }
}
