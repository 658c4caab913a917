//! The settings of AWS: their names, and which make others void.
//!
//! Names are those of the environment in lower case without `AWS_`; `aws.NAME` is the property.

use crate::values::{Known, Table, idle, unless, used};

/// Every setting that has a bearing here.
pub(crate) static TABLE: Table = Table {
    environment: "AWS_",
    word: "aws",
    known: KNOWN,
    supersedes,
};

static KNOWN: &[Known] = &[
    used("access_key_id", &[]),
    used("secret_access_key", &[]),
    used("session_token", &["token"]),
    used("security_token", &[]),
    used("credential_expiration", &[]),
    used("profile", &[]),
    used("default_profile", &[]),
    used("config_file", &[]),
    used("shared_credentials_file", &[]),
    used("region", &[]),
    used("default_region", &[]),
    used("endpoint_url", &["endpoint"]),
    used("endpoint_url_s3", &[]),
    used("endpoint_url_sts", &[]),
    used("endpoint_url_sso", &[]),
    used("endpoint_url_sso_oidc", &[]),
    used("ignore_configured_endpoint_urls", &[]),
    used("virtual_hosted_style_request", &[]),
    used("addressing_style", &[]),
    used("use_fips_endpoint", &[]),
    used("use_dualstack_endpoint", &[]),
    used("use_accelerate_endpoint", &[]),
    used("s3_use_arn_region", &["use_arn_region"]),
    used("s3_us_east_1_regional_endpoint", &[]),
    used(
        "s3_disable_express_session_auth",
        &["disable_s3_express_session_auth"],
    ),
    used("s3_express", &[]),
    used("sts_regional_endpoints", &[]),
    used("skip_signature", &[]),
    used("request_payer", &[]),
    used("server_side_encryption", &[]),
    used("sse_customer_key_base64", &[]),
    used("ca_bundle", &[]),
    used("role_arn", &[]),
    used("role_session_name", &[]),
    used("web_identity_token_file", &[]),
    used("container_credentials_relative_uri", &[]),
    used("container_credentials_full_uri", &[]),
    used("container_authorization_token", &[]),
    used("container_authorization_token_file", &[]),
    used("ec2_metadata_service_endpoint", &["metadata_endpoint"]),
    used("ec2_metadata_service_endpoint_mode", &[]),
    used("imds_use_ipv6", &[]),
    used("ec2_metadata_disabled", &[]),
    used("ec2_metadata_v1_disabled", &[]),
    used("metadata_service_timeout", &[]),
    used("metadata_service_num_attempts", &[]),
    unless("proxy_url", &[]),
    unless("proxy_ca_certificate", &[]),
    unless("proxy_excludes", &[]),
    unless("connect_timeout", &[]),
    unless("read_timeout", &[]),
    unless("timeout", &[]),
    unless("allow_http", &["true"]),
    unless("allow_invalid_certificates", &["false"]),
    unless("disable_system_certificates", &["false"]),
    // For writers, for other programs, or decided by the address.
    idle("bucket", &["bucket_name"]),
    idle("checksum_algorithm", &[]),
    idle("conditional_put", &[]),
    idle("copy_if_not_exists", &[]),
    idle("disable_bulk_delete", &[]),
    idle("disable_tagging", &[]),
    idle("unsigned_payload", &[]),
    idle("imdsv1_fallback", &[]),
    idle("sse_kms_key_id", &[]),
    idle("sse_bucket_key_enabled", &[]),
    idle("sse_customer_algorithm", &[]),
    idle("account_id", &[]),
    idle("account_id_endpoint_mode", &[]),
    idle("data_path", &[]),
    idle("default_output", &["output"]),
    idle("pager", &["cli_auto_prompt"]),
    idle("cli_file_encoding", &[]),
    idle("execution_env", &[]),
    idle("sdk_load_config", &[]),
    idle("sdk_ua_app_id", &[]),
    idle("retry_mode", &[]),
    idle("max_attempts", &[]),
    idle("defaults_mode", &[]),
    idle("request_checksum_calculation", &[]),
    idle("response_checksum_validation", &[]),
    idle("request_min_compression_size_bytes", &[]),
    idle("disable_request_compression", &[]),
    idle("endpoint_discovery_enabled", &[]),
    idle("disable_host_prefix_injection", &[]),
    idle("s3_disable_multiregion_access_points", &[]),
    idle("default_content_type", &[]),
    idle("user_agent", &[]),
    idle("pool_idle_timeout", &["pool_max_idle_per_host"]),
    idle("http1_only", &["http2_only"]),
    idle(
        "http2_keep_alive_interval",
        &[
            "http2_keep_alive_timeout",
            "http2_keep_alive_while_idle",
            "http2_max_frame_size",
        ],
    ),
    idle("randomize_addresses", &[]),
];

/// Whether setting `name` by property makes the environment's `other` void.
fn supersedes(name: &str, other: &str) -> bool {
    let set = |name: &str| match name {
        "access_key_id"
        | "secret_access_key"
        | "session_token"
        | "security_token"
        | "credential_expiration" => 1,
        "endpoint_url" | "endpoint_url_s3" => 2,
        "region" | "default_region" => 3,
        "profile" | "default_profile" => 4,
        _ => 0,
    };
    // In the order in which they are looked at: what comes first would hide what is set.
    let source = |name: &str| match name {
        "access_key_id"
        | "secret_access_key"
        | "session_token"
        | "security_token"
        | "credential_expiration" => 1,
        "web_identity_token_file" | "role_arn" => 2,
        "profile" | "default_profile" => 3,
        "container_credentials_relative_uri" => 4,
        "container_credentials_full_uri" | "container_authorization_token_file" => 5,
        _ => 0,
    };
    name == other
        || (set(name) != 0 && set(name) == set(other))
        || (source(other) != 0 && source(name) > source(other))
}
