//! The places where the AWS tools find credentials.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use pget_core::ErrorKind;
use pget_s3::Settings;

use crate::{
    common::{check, open, options, read, within},
    standin::{Got, Reply, Standin},
    world::{CHUNK, FAR, PATTERN, SIZE, World, cache_name, keys_json, log, sts_xml},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_with_keys_is_enough() {
    let world = World::new(|_| None).file(
        ".aws/credentials",
        "[default]\naws_access_key_id = AK\naws_secret_access_key = canary\n[x]\naws_access_key_id=AX\n\
         aws_secret_access_key=canary==\naws_session_token = canary-x\n",
    );
    world.signs_with("AK", None).await;
    let world = world.set("AWS_PROFILE", "x");
    world.signs_with_last("AX", Some("canary-x")).await;
    let world = world.set("AWS_PROFILE", "nobody");
    let text = world.fails("s3://bucket/k", ErrorKind::InvalidArgument).await;
    assert!(
        text.contains("nobody") && text.contains(".aws/credentials"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_prints_credentials() {
    let world = World::new(|_| None)
        .file(
            "keys",
            &format!(
                "#!/bin/sh\n[ \"$2\" = \"two words\" ] || exit 3\necho '{}'\n",
                keys_json("AP", "canary-p", FAR)
            ),
        )
        .file("broken", "#!/bin/sh\necho canary\necho canary >&2\nexit 7\n");
    for name in ["keys", "broken"] {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(world.path(name), mode).expect("a program");
    }
    let config = format!(
        "[default]\ncredential_process = {} --arg \"two words\"\n[profile b]\ncredential_process = {}\n",
        world.path("keys"),
        world.path("broken")
    );
    let world = world.file(".aws/config", &config);
    world.signs_with("AP", Some("canary-p")).await;
    let text = world
        .set("AWS_PROFILE", "b")
        .fails("s3://bucket/k", ErrorKind::PermissionDenied)
        .await;
    assert!(text.contains("status 7"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_sign_on_by_the_token_in_its_cache() {
    let portal = |got: &Got| {
        if got.path() == "/token" {
            assert!(
                got.body.contains("canary-refresh") && got.body.contains("canary-client"),
                "{got:?}"
            );
            return Some(Reply::new(
                200,
                r#"{"accessToken":"canary-new","expiresIn":3600,"refreshToken":"canary-next"}"#,
            ));
        }
        if got.path() != "/federation/credentials" {
            return None;
        }
        let token = got.header("x-amz-sso_bearer_token").unwrap_or_default();
        if !["canary-sso", "canary-new"].contains(&token) {
            return Some(Reply::new(401, "{}"));
        }
        assert!(got.target.contains("role_name=reader") && got.target.contains("account_id=123456789012"));
        Some(Reply::new(
            200,
            r#"{"roleCredentials":{"accessKeyId":"AS","secretAccessKey":"canary","sessionToken":"canary-s","expiration":4070908800000}}"#,
        ))
    };
    let profile = "sso_account_id = 123456789012\nsso_role_name = reader\n";
    let session = "[sso-session s]\nsso_start_url = https://x.awsapps.com/start\nsso_region = eu-west-1\n";
    let legacy = "sso_start_url = https://x.awsapps.com/start\nsso_region = eu-west-1\n";
    let cached =
        |token: &str, expires: &str| format!(r#"{{"accessToken":"{token}","expiresAt":"{expires}"}}"#);
    for (config, by) in [
        (
            format!("[default]\n{profile}{legacy}"),
            "https://x.awsapps.com/start",
        ),
        (format!("[default]\n{profile}sso_session = s\n{session}"), "s"),
    ] {
        let name = format!(".aws/sso/cache/{}", cache_name(by));
        let world = World::new(portal)
            .here("AWS_ENDPOINT_URL_SSO", "")
            .here("AWS_ENDPOINT_URL_SSO_OIDC", "")
            .file(".aws/config", &config)
            .file(&name, &cached("canary-sso", FAR));
        world.signs_with("AS", Some("canary-s")).await;
        for old in [
            cached("canary-sso", "2001-01-01T00:00:00Z"),
            cached("canary-void", FAR),
            "canary".into(),
        ] {
            let world = World::new(portal)
                .here("AWS_ENDPOINT_URL_SSO", "")
                .file(".aws/config", &config)
                .file(&name, &old);
            let text = world.fails("s3://bucket/k", ErrorKind::PermissionDenied).await;
            assert!(text.contains("aws sso login --profile default"), "{text}");
        }
    }
    // An expired session token is refreshed, and the cache contains the new one.
    let old = r#"{"accessToken":"canary-old","expiresAt":"2001-01-01T00:00:00Z","refreshToken":"canary-refresh",
        "clientId":"canary-client","clientSecret":"canary","registrationExpiresAt":"2099-01-01T00:00:00Z"}"#;
    let name = format!(".aws/sso/cache/{}", cache_name("s"));
    let world = World::new(portal)
        .here("AWS_ENDPOINT_URL_SSO", "")
        .here("AWS_ENDPOINT_URL_SSO_OIDC", "")
        .file(
            ".aws/config",
            &format!("[default]\n{profile}sso_session = s\n{session}"),
        )
        .file(&name, old);
    world.signs_with("AS", Some("canary-s")).await;
    let kept = std::fs::read_to_string(world.path(&name)).expect("the cache");
    assert!(
        kept.contains("canary-new") && kept.contains("canary-next"),
        "{kept}"
    );
    let mode = std::fs::metadata(world.path(&name))
        .expect("the cache")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_assumed_one_after_another() {
    let sts = |got: &Got| {
        if got.method != "POST" {
            return None;
        }
        let by = got.header("authorization").unwrap_or_default().to_owned();
        let role = got.field("RoleArn").unwrap_or_default();
        assert!(by.contains("/eu-north-9/sts/aws4_request"), "{by}");
        Some(match role.as_str() {
            "arn:aws:iam::1:role/first" if by.contains("=AK/") => sts_xml("A1"),
            "arn:aws:iam::1:role/second" if by.contains("=A1/") => {
                assert_eq!(got.header("x-amz-security-token"), Some("canary-A1"));
                assert_eq!(got.field("ExternalId").as_deref(), Some("ext"));
                assert_eq!(got.field("RoleSessionName").as_deref(), Some("me"));
                assert_eq!(got.field("DurationSeconds").as_deref(), Some("900"));
                sts_xml("A2")
            }
            _ => Reply::new(403, "<E><Code>AccessDenied</Code><Message>canary</Message></E>"),
        })
    };
    let config = "[profile base]\naws_access_key_id = AK\naws_secret_access_key = canary\n\
        [profile one]\nrole_arn = arn:aws:iam::1:role/first\nsource_profile = base\n\
        [profile two]\nrole_arn = arn:aws:iam::1:role/second\nsource_profile = one\nexternal_id = ext\n\
        role_session_name = me\nduration_seconds = 900\n\
        [profile denied]\nrole_arn = arn:aws:iam::1:role/third\nsource_profile = base\n\
        [profile circle]\nrole_arn = arn:aws:iam::1:role/first\nsource_profile = elcric\n\
        [profile elcric]\nrole_arn = arn:aws:iam::1:role/first\nsource_profile = circle\n\
        [profile mfa]\nrole_arn = arn:aws:iam::1:role/first\nsource_profile = base\nmfa_serial = x\n\
        [profile environment]\nrole_arn = arn:aws:iam::1:role/first\ncredential_source = EcsContainer\n\
        [profile self]\naws_access_key_id = AK\naws_secret_access_key = canary\n\
        role_arn = arn:aws:iam::1:role/first\nsource_profile = self\n";
    let world = |profile: &str| {
        World::new(sts)
            .here("AWS_ENDPOINT_URL_STS", "/")
            .file(".aws/config", config)
            .set("AWS_PROFILE", profile)
    };
    world("one").signs_with("A1", Some("canary-A1")).await;
    world("two").signs_with("A2", Some("canary-A2")).await;
    world("self").signs_with("A1", Some("canary-A1")).await;
    for (profile, kind, says) in [
        ("denied", ErrorKind::PermissionDenied, "AccessDenied"),
        ("circle", ErrorKind::InvalidArgument, "circle"),
        ("mfa", ErrorKind::InvalidArgument, "mfa_serial"),
        ("environment", ErrorKind::PermissionDenied, "EcsContainer"),
    ] {
        let text = world(profile).fails("s3://bucket/k", kind).await;
        assert!(text.contains(says), "{profile}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_identity_assumes_its_role() {
    let sts = |got: &Got| {
        if got.method != "POST" {
            return None;
        }
        assert_eq!(got.header("authorization"), None, "it is not signed");
        assert_eq!(got.field("Action").as_deref(), Some("AssumeRoleWithWebIdentity"));
        let right = got.field("WebIdentityToken").as_deref() == Some("canary-oidc")
            && got.field("RoleArn").as_deref() == Some("arn:aws:iam::1:role/pod");
        Some(if right {
            sts_xml("AW")
        } else {
            Reply::new(400, "<E><Code>InvalidIdentityToken</Code></E>")
        })
    };
    let world = World::new(sts)
        .here("AWS_ENDPOINT_URL_STS", "/")
        .file("token", "canary-oidc\n");
    let token = world.path("token");
    let world = world
        .set("AWS_WEB_IDENTITY_TOKEN_FILE", &token)
        .set("AWS_ROLE_ARN", "arn:aws:iam::1:role/pod");
    world.signs_with("AW", Some("canary-AW")).await;
    let world = world.file("token", "canary-other");
    let text = world.fails("s3://bucket/k", ErrorKind::PermissionDenied).await;
    assert!(text.contains("InvalidIdentityToken"), "{text}");
    let text = world
        .set("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere")
        .fails("s3://bucket/k", ErrorKind::PermissionDenied)
        .await;
    assert!(text.contains("/nowhere"), "{text}");
}

/// Imitates an instance's metadata service, which answers nothing without a session token.
fn imds(got: &Got) -> Option<Reply> {
    const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
    if got.method == "PUT" {
        assert_eq!(got.path(), "/latest/api/token");
        assert_eq!(got.header("x-aws-ec2-metadata-token-ttl-seconds"), Some("21600"));
        return Some(Reply::new(200, "canary-session"));
    }
    let rest = got.path().strip_prefix(ROLES)?;
    if got.header("x-aws-ec2-metadata-token") != Some("canary-session") {
        return Some(Reply::new(401, ""));
    }
    Some(match rest {
        "" => Reply::new(200, "a role\n"),
        "a%20role" => Reply::new(200, keys_json("AI", "canary-i", FAR)),
        _ => Reply::new(404, ""),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_has_a_role() {
    let world = World::new(imds).here("AWS_EC2_METADATA_SERVICE_ENDPOINT", "/");
    world.signs_with("AI", Some("canary-i")).await;
    let world = world
        .set("AWS_EC2_METADATA_DISABLED", "true")
        .set("AWS_SKIP_SIGNATURE", "false");
    let text = world.fails("s3://bucket/k", ErrorKind::PermissionDenied).await;
    assert!(text.contains("AWS_EC2_METADATA_DISABLED"), "{text}");
    // This service supports only version 1.
    let old = |got: &Got| match got
        .path()
        .strip_prefix("/latest/meta-data/iam/security-credentials/")
    {
        _ if got.method == "PUT" => Some(Reply::new(405, "")),
        Some("") => Some(Reply::new(200, "r")),
        Some("r") => Some(Reply::new(200, keys_json("AO", "canary-o", FAR))),
        _ => None,
    };
    let world = World::new(old).here("AWS_EC2_METADATA_SERVICE_ENDPOINT", "/");
    world.signs_with("AO", Some("canary-o")).await;
    let world = world
        .set("AWS_EC2_METADATA_V1_DISABLED", "true")
        .set("AWS_SKIP_SIGNATURE", "false");
    world.fails("s3://bucket/k", ErrorKind::PermissionDenied).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_metadata_service_is_given_up_within_two_seconds() {
    // The service accepts connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = silent.local_addr().expect("an address").to_string();
    for (address, variable) in [
        ("s3://bucket/k", "AWS_EC2_METADATA_SERVICE_ENDPOINT"),
        ("gs://bucket/k", "GCE_METADATA_HOST"),
        ("az://bucket/k", "AZURE_POD_IDENTITY_AUTHORITY_HOST"),
    ] {
        let value = if address.starts_with("gs") {
            place.clone()
        } else {
            format!("http://{place}")
        };
        let world = World::new(|_| None)
            .set(variable, &value)
            .set("AWS_SKIP_SIGNATURE", "false")
            .set("GOOGLE_SKIP_SIGNATURE", "false")
            .set("AZURE_SKIP_SIGNATURE", "false");
        let began = Instant::now();
        let text = world.fails(address, ErrorKind::PermissionDenied).await;
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert!(
            text.contains("no credentials found in") && text.contains("127.0.0.1"),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_s_service_gets_its_token() {
    let service = |got: &Got| {
        let right = got.header("authorization") == Some("canary-container");
        (got.path() == "/task").then(|| {
            if right {
                Reply::new(200, keys_json("AC", "canary-c", FAR))
            } else {
                Reply::new(403, "canary")
            }
        })
    };
    let world = World::new(service)
        .here("AWS_CONTAINER_CREDENTIALS_FULL_URI", "/task")
        .set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary-container");
    world.signs_with("AC", Some("canary-c")).await;
    // The file takes precedence over the variable.
    let world = world.file("token", "canary-wrong\n");
    let token = world.path("token");
    let world = world.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token);
    world.fails("s3://bucket/k", ErrorKind::PermissionDenied).await;
    let world = world.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/task");
    world.fails("s3://bucket/k", ErrorKind::InvalidArgument).await;
}

/// The credentials last three seconds, and the reader takes ten. Each renewal is one request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_37_a_download_outlives_three_expiries_with_one_renewal_each() {
    static ISSUED: AtomicU32 = AtomicU32::new(0);
    let service = |got: &Got| {
        if got.path() != "/task" {
            // The server is slow, so that the download lasts longer than three credentials do. No
            // other event is waited for.
            std::thread::sleep(Duration::from_millis(250));
            return None;
        }
        let number = ISSUED.fetch_add(1, Ordering::SeqCst);
        let expires = jiff::Timestamp::now() + Duration::from_secs(4);
        let body = keys_json(&format!("AT{number}"), "canary", &expires.to_string());
        Some(Reply::new(200, body))
    };
    let world = World::new(service).here("AWS_CONTAINER_CREDENTIALS_FULL_URI", "/task");
    let source = open("s3://bucket/k", &world.settings());
    let mut options = options(512, 32);
    options.window = Some(32);
    options.chunk_size = Some(512);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(9) {
        let bytes = within(read(source.clone(), options.clone())).await;
        check(
            &bytes.unwrap_or_else(|error| panic!("{}", error.to_line())),
            PATTERN,
            SIZE,
        );
    }
    let renewals = ISSUED.load(Ordering::SeqCst) - 1;
    // Credentials of four seconds are renewed when a third is left: every 2.7 s.
    let most = u32::try_from(began.elapsed().as_millis() / 2600).expect("small");
    assert!(
        (3..=most).contains(&renewals),
        "{renewals} renewals in {:?}",
        began.elapsed()
    );
    let used: std::collections::BTreeSet<_> = world
        .server
        .seen("/bucket/k")
        .iter()
        .filter_map(|got| {
            got.header("authorization")?
                .split_once("Credential=")?
                .1
                .split('/')
                .next()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(used.len(), renewals as usize + 1, "{used:?}");
    world.check_log();
}

/// SSE-C: the requests contain the customer's key, and no text shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_s_key_goes_along_and_is_signed() {
    // The key is "canary" and 26 further bytes.
    let key = "Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5eHg=";
    let world = World::new(|_| None)
        .set("AWS_ACCESS_KEY_ID", "AK")
        .set("AWS_SECRET_ACCESS_KEY", "canary")
        .set("AWS_SERVER_SIDE_ENCRYPTION", "sse-c")
        .set("AWS_SSE_CUSTOMER_KEY_BASE64", key);
    for seen in world.reads("s3://bucket/k").await {
        assert_eq!(
            seen.header("x-amz-server-side-encryption-customer-key"),
            Some(key)
        );
        assert_eq!(
            seen.header("x-amz-server-side-encryption-customer-algorithm"),
            Some("AES256")
        );
        let signed = seen.header("authorization").unwrap_or_default();
        assert!(
            signed.contains("x-amz-server-side-encryption-customer-key-md5"),
            "{signed}"
        );
    }
    assert!(!log().contains(key));
    let source = open("s3://bucket/k", &world.settings());
    assert!(!format!("{source:?}").contains(key));
    for (name, value) in [
        ("AWS_SSE_CUSTOMER_KEY_BASE64", "c2hvcnQ="),
        ("AWS_ENDPOINT_URL_S3", "http://192.0.2.1:9"),
    ] {
        let world = World::new(|_| None)
            .set("AWS_SERVER_SIDE_ENCRYPTION", "sse-c")
            .set("AWS_SSE_CUSTOMER_KEY_BASE64", key)
            .set(name, value);
        world.fails("s3://bucket/k", ErrorKind::InvalidArgument).await;
    }
}

/// A directory bucket is read with the keys of a session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_bucket_has_sessions() {
    let object = PATTERN.bytes(0, usize::try_from(SIZE).expect("small"));
    let server = Standin::start(move |got| match got.path() {
        "/b--eun9-az1--x-s3/" => {
            assert!(
                got.target.ends_with("?session")
                    && got.header("authorization").is_some_and(|by| by.contains("=AK/"))
            );
            sts_xml("AE")
        }
        "/b--eun9-az1--x-s3/k" => Reply::object(got, &object),
        _ => Reply::new(404, ""),
    });
    log();
    let settings = Settings::new()
        .property("aws.endpoint", server.url(""))
        .property("aws.region", "eu-north-9")
        .property("aws.access_key_id", "AK")
        .property("aws.secret_access_key", "canary");
    let bytes = within(read(
        open("s3://b--eun9-az1--x-s3/k", &settings),
        options(CHUNK, 4),
    ))
    .await;
    check(
        &bytes.unwrap_or_else(|error| panic!("{}", error.to_line())),
        PATTERN,
        SIZE,
    );
    for seen in server.seen("/b--eun9-az1--x-s3/k") {
        assert_eq!(seen.header("x-amz-s3session-token"), Some("canary-AE"));
        let signed = seen.header("authorization").unwrap_or_default();
        assert!(
            signed.contains("=AE/") && signed.contains("/eu-north-9/s3express/"),
            "{signed}"
        );
    }
    assert_eq!(
        server.seen("/b--eun9-az1--x-s3/?session").len(),
        1,
        "one session for all ranges"
    );
}
