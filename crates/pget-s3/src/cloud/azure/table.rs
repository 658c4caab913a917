//! The settings of Azure, by their names in the environment without `AZURE_`.

use crate::values::{Known, Table, idle, unless, used};

/// Every setting that has a bearing here.
pub(crate) static TABLE: Table = Table {
    environment: "AZURE_",
    word: "azure",
    known: KNOWN,
    supersedes: |name, other| name == other || (CREDENTIALS.contains(&name) && CREDENTIALS.contains(&other)),
};

/// Settings that are, or lead to, a credential.
const CREDENTIALS: [&str; 8] = [
    "storage_connection_string",
    "storage_key",
    "storage_sas_token",
    "storage_token",
    "client_id",
    "client_secret",
    "credential_type",
    "use_azure_cli",
];

static KNOWN: &[Known] = &[
    used(
        "storage_account",
        &["storage_account_name", "account_name", "account"],
    ),
    used("storage_connection_string", &["connection_string"]),
    used(
        "storage_key",
        &[
            "storage_account_key",
            "storage_access_key",
            "storage_master_key",
            "master_key",
            "account_key",
            "access_key",
        ],
    ),
    used("storage_sas_token", &["storage_sas_key", "sas_key", "sas_token"]),
    used(
        "storage_token",
        &["bearer_token", "token", "storage_bearer_token"],
    ),
    used("storage_endpoint", &["endpoint", "storage_service_endpoint"]),
    used("storage_use_emulator", &["use_emulator"]),
    used("skip_signature", &[]),
    used("credential_type", &[]),
    used("use_azure_cli", &[]),
    used("client_id", &["storage_client_id"]),
    used("client_secret", &["storage_client_secret"]),
    used(
        "tenant_id",
        &["storage_tenant_id", "storage_authority_id", "authority_id"],
    ),
    used("authority_host", &["storage_authority_host"]),
    used("federated_token_file", &[]),
    used("client_certificate_path", &[]),
    used("username", &[]),
    used("msi_endpoint", &["identity_endpoint"]),
    used("object_id", &[]),
    used("msi_resource_id", &[]),
    used("pod_identity_authority_host", &[]),
    used("token_credentials", &[]),
    used("storage_auth_mode", &[]),
    // An encryption key that comes with requests, Microsoft Fabric's tokens.
    unless("encryption_key", &[]),
    unless("use_fabric_endpoint", &["false"]),
    unless("fabric_token_service_url", &[]),
    unless("fabric_workload_host", &[]),
    unless("fabric_session_token", &[]),
    unless("fabric_cluster_identifier", &[]),
    unless("proxy_url", &[]),
    unless("proxy_ca_certificate", &[]),
    unless("proxy_excludes", &[]),
    unless("connect_timeout", &[]),
    unless("read_timeout", &[]),
    unless("timeout", &[]),
    unless("allow_http", &["true"]),
    unless("allow_invalid_certificates", &["false"]),
    unless("disable_system_certificates", &["false"]),
    idle("container_name", &["container", "bucket"]),
    idle("disable_tagging", &[]),
    idle(
        "config_dir",
        &["core_output", "core_collect_telemetry", "extension_dir"],
    ),
    idle("default_content_type", &["user_agent", "randomize_addresses"]),
    idle(
        "pool_idle_timeout",
        &["pool_max_idle_per_host", "http1_only", "http2_only"],
    ),
];
