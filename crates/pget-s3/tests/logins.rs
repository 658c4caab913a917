//! Where the clouds' own tools find credentials, this program does: each place stands in as a server
//! that checks what it gets, or as a file in a home of its own.
//!
//! Every secret here has the canary in it, and the log of all tests, at its most talkative, has not.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex, Once, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use pget_core::ErrorKind;
use pget_http::{Client, ClientOptions, ProxyChoice};
use pget_s3::Settings;
use pget_testkit::content::Pattern;
use sha1_name::cache_name;
use tempfile::TempDir;
use tracing_subscriber::filter::LevelFilter;

#[path = "s3/common.rs"]
mod common;
#[path = "s3/standin.rs"]
mod standin;

use common::{CANARY, check, open, options, read, texts, within};
use standin::{Got, Reply, Standin};

const PATTERN: Pattern = Pattern::new(91);
const CHUNK: u64 = 32 << 10;
const SIZE: u64 = 6 * CHUNK + 5;
const FAR: &str = "2099-01-01T00:00:00Z";

mod sha1_name {
    /// The name of a file in the cache of single sign-on.
    pub(crate) fn cache_name(of: &str) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, of.as_bytes());
        format!("{}.json", hex::encode(digest))
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log of all tests of this program.
fn log() -> String {
    static LINES: OnceLock<Lines> = OnceLock::new();
    static ONCE: Once = Once::new();
    let lines = LINES.get_or_init(Lines::default).clone();
    ONCE.call_once(|| {
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("the only one");
    });
    String::from_utf8_lossy(&lines.0.lock().expect("no panic")).into_owned()
}

/// A home, and a server that is every service: the bucket's, and those that issue credentials.
struct World {
    home: TempDir,
    server: Standin,
    variables: Vec<(String, String)>,
}

impl World {
    /// `services` answers what is not the object.
    fn new(services: impl Fn(&Got) -> Option<Reply> + Send + Sync + 'static) -> Self {
        log();
        let object = PATTERN.bytes(0, usize::try_from(SIZE).expect("small"));
        let server = Standin::start(move |got| match services(got) {
            Some(reply) => reply,
            None if got.path().ends_with("/bucket/k") => Reply::object(got, &object),
            None => Reply::new(404, "<Error><Code>NoSuchKey</Code></Error>"),
        });
        let world = Self {
            home: tempfile::tempdir().expect("a folder"),
            server,
            variables: Vec::new(),
        };
        let home = world.home.path().to_str().expect("a path").to_owned();
        world
            .set("HOME", &home)
            // No service of the machine that runs this.
            .set("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
            .set("GCE_METADATA_HOST", "127.0.0.1:1")
            .set("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
            .here("AWS_ENDPOINT_URL_S3", "")
            .set("AWS_REGION", "eu-north-9")
            .here("GOOGLE_BASE_URL", "")
            .here("AZURE_STORAGE_ENDPOINT", "")
            .set("AZURE_STORAGE_ACCOUNT", "account")
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Sets a variable to an address of the server.
    fn here(self, name: &str, path: &str) -> Self {
        let url = self.server.url(path);
        self.set(name, &url)
    }

    /// Writes a file into the home; `HERE` in it stands for the server.
    fn file(self, name: &str, text: &str) -> Self {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text.replace("HERE", &self.server.url(""))).expect("a file");
        self
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().expect("a path").to_owned()
    }

    fn settings(&self) -> Settings {
        Settings::new().environment(self.variables.clone())
    }

    /// Reads the object; what the server got of it.
    async fn reads(&self, address: &str) -> Vec<Got> {
        let source = open(address, &self.settings());
        let bytes = within(read(source, options(CHUNK, 4))).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{address}: {}\n{}", error.to_line(), log()));
        check(&bytes, PATTERN, SIZE);
        self.check_log();
        let seen = self.server.seen("/bucket/k");
        assert!(!seen.is_empty());
        seen
    }

    /// Every request is signed with this key and token, for the region.
    async fn signs_with(&self, id: &str, token: Option<&str>) {
        for seen in self.reads("s3://bucket/k").await {
            let signed = seen.header("authorization").expect("it is signed");
            let start = format!("AWS4-HMAC-SHA256 Credential={id}/");
            assert!(
                signed.starts_with(&start) && signed.contains("/eu-north-9/s3/"),
                "{signed}"
            );
            assert_eq!(seen.header("x-amz-security-token"), token);
        }
    }

    /// Every request has this bearer token.
    async fn bears(&self, address: &str, token: &str) {
        for seen in self.reads(address).await {
            assert_eq!(
                seen.header("authorization"),
                Some(format!("Bearer {token}").as_str())
            );
        }
    }

    /// Reading fails; the text of the error.
    async fn fails(&self, address: &str, kind: ErrorKind) -> String {
        let source = match pget_s3::S3Source::open(address, &self.settings(), common::client()) {
            Ok(source) => Arc::new(source),
            Err(error) => {
                assert_eq!(error.kind(), kind, "{}", error.to_line());
                return texts(&error);
            }
        };
        let Err(error) = within(read(source, options(CHUNK, 4))).await else {
            panic!("{address} was read, and {kind} was due");
        };
        assert_eq!(error.kind(), kind, "{}", error.to_line());
        self.check_log();
        texts(&error)
    }

    fn check_log(&self) {
        let log = log();
        let at = log.to_ascii_lowercase().find(CANARY);
        assert!(
            at.is_none(),
            "{:?}",
            at.map(|at| &log[at.saturating_sub(300)..at + 20])
        );
    }
}

fn keys_json(id: &str, token: &str, expires: &str) -> String {
    format!(
        r#"{{"Code":"Success","Version":1,"AccessKeyId":"{id}","SecretAccessKey":"canary","Token":"{token}","SessionToken":"{token}","Expiration":"{expires}"}}"#
    )
}

fn sts_xml(id: &str) -> Reply {
    Reply::new(
        200,
        format!(
            "<R><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>canary</SecretAccessKey>\
             <SessionToken>canary-{id}</SessionToken><Expiration>{FAR}</Expiration></Credentials></R>"
        ),
    )
}

fn oauth(token: &str) -> Reply {
    Reply::new(
        200,
        format!(r#"{{"access_token":"{token}","expires_in":3600,"token_type":"Bearer"}}"#),
    )
}

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

impl World {
    /// The last request is signed so: earlier ones were another's.
    async fn signs_with_last(&self, id: &str, token: Option<&str>) {
        let seen = self.reads("s3://bucket/k").await;
        let last = seen.last().expect("some");
        assert!(
            last.header("authorization")
                .is_some_and(|signed| signed.contains(&format!("={id}/")))
        );
        assert_eq!(last.header("x-amz-security-token"), token);
    }
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
    // A session's token that is over is refreshed, and the cache has the new one.
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

/// An instance's service as it is: nothing without a session's token.
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
    // Version 1 only.
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
    // It takes connections, and says nothing.
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
    // The file goes before the variable.
    let world = world.file("token", "canary-wrong\n");
    let token = world.path("token");
    let world = world.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token);
    world.fails("s3://bucket/k", ErrorKind::PermissionDenied).await;
    let world = world.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/task");
    world.fails("s3://bucket/k", ErrorKind::InvalidArgument).await;
}

/// Credentials that last three seconds, and a reader that takes ten: each renewal is one request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_37_a_download_outlives_three_expiries_with_one_renewal_each() {
    static ISSUED: AtomicU32 = AtomicU32::new(0);
    let service = |got: &Got| {
        if got.path() != "/task" {
            // A slow server, so that the download takes long.
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
    // Renewed with a third left of four seconds: every 2.7 s.
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

const USER: &str = r#"{"type":"authorized_user","client_id":"id","client_secret":"canary-client","refresh_token":"canary-refresh","token_uri":"HERE/token","quota_project_id":"payer"}"#;

/// Google's services.
fn google(got: &Got) -> Option<Reply> {
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

/// Microsoft's services.
fn microsoft(got: &Got) -> Option<Reply> {
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

/// Twenty minutes off, both ways, at each service that looks at the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_36_a_clock_that_is_off_is_corrected_at_every_service() {
    for ahead in [20 * 60, -20 * 60_i64] {
        let now = move || jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
        let refused = move |code: &str| {
            let date = now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
            Some(Reply::new(403, body).with("Date", date))
        };
        let is_off = move |said: Option<jiff::Timestamp>| {
            let said = said.expect("a time");
            said.duration_since(now()).as_secs().abs() > 15 * 60
        };
        let world = World::new(move |got| {
            let azure = got
                .header("x-ms-date")
                .map(|date| jiff::fmt::rfc2822::parse(date).expect("a date").timestamp());
            let aws = got.header("x-amz-date").map(|date| {
                let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).expect("a date");
                date.to_zoned(jiff::tz::TimeZone::UTC)
                    .expect("a time")
                    .timestamp()
            });
            match (azure, aws) {
                (Some(_), _) if is_off(azure) => refused("AuthenticationFailed"),
                (_, Some(_)) if is_off(aws) => refused(if got.method == "POST" {
                    "SignatureDoesNotMatch"
                } else {
                    "RequestTimeTooSkewed"
                }),
                (None, Some(_)) if got.method == "POST" => Some(sts_xml("A1")),
                _ => None,
            }
        });
        let world = world
            .here("AWS_ENDPOINT_URL_STS", "/")
            .file(
                ".aws/config",
                "[default]\naws_access_key_id = AK\naws_secret_access_key = canary\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = default\n",
            )
            .set("AZURE_STORAGE_KEY", "Y2FuYXJ5");
        world.reads("s3://bucket/k").await;
        world.reads("az://bucket/k").await;
        let asked = world
            .server
            .seen("/")
            .into_iter()
            .filter(|got| got.method == "POST")
            .count();
        assert_eq!(asked, 2, "once more for the role");
    }
}

/// SSE-C: the customer's key goes along, and shows nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_s_key_goes_along_and_is_signed() {
    // "canary" and 26 further bytes.
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

/// Settings that the official tools heed and that mean safety are heeded or refused by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_129_a_setting_that_cannot_be_heeded_is_refused_by_name() {
    let keyed = || {
        World::new(|_| None)
            .set("AWS_ACCESS_KEY_ID", "AK")
            .set("AWS_SECRET_ACCESS_KEY", "canary")
    };
    for (settings, named) in [
        (&[("AWS_USE_FIPS_ENDPOINT", "perhaps")][..], "fips"),
        (&[("AWS_USE_DUALSTACK_ENDPOINT", "2")], "dualstack"),
        (&[("AWS_PROFILE", "no-such")], "no-such"),
    ] {
        let mut world = keyed();
        for (name, value) in settings {
            world = world.set(name, value);
        }
        let text = world.fails("s3://bucket/k", ErrorKind::InvalidArgument).await;
        assert!(text.to_ascii_lowercase().contains(named), "{settings:?}: {text}");
        assert!(world.server.seen("/bucket").is_empty(), "{settings:?}");
    }
    // With an endpoint of its own there is nothing to choose, as for the official tools; it is reported.
    for name in ["USE_FIPS_ENDPOINT", "USE_DUALSTACK_ENDPOINT"] {
        let world = keyed().set(&format!("AWS_{name}"), "true");
        world.reads("s3://bucket/k").await;
        let report = format!("{} is without effect", name.to_ascii_lowercase());
        assert!(log().contains(&report), "{report}");
    }
    // The same in a profile.
    for (line, named) in [
        ("use_fips_endpoint = perhaps", "fips"),
        ("use_dualstack_endpoint = maybe", "dualstack"),
        (
            "mfa_serial = arn:x\nrole_arn = arn:r\nsource_profile = default",
            "mfa_serial",
        ),
    ] {
        let mut world = World::new(|_| None).file(
            ".aws/config",
            &format!("[default]\naws_access_key_id = AK\naws_secret_access_key = canary\n{line}\n"),
        );
        world.variables.retain(|(name, _)| name != "AWS_REGION");
        let world = world.set("AWS_REGION", "eu-north-9");
        let text = match pget_s3::S3Source::open("s3://bucket/k", &world.settings(), common::client()) {
            Err(error) => texts(&error),
            Ok(source) => {
                let read = within(read(Arc::new(source), options(CHUNK, 4))).await;
                texts(&read.map(|bytes| bytes.len()).expect_err(line))
            }
        };
        assert!(text.to_ascii_lowercase().contains(named), "{line}: {text}");
        assert!(world.server.seen("/bucket").is_empty(), "{line}");
    }
}

/// Requests for credentials go the way of all others: here, through a proxy that alone knows the hosts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_130_requests_for_credentials_go_through_the_proxy() {
    const HOST: &str = "http://clouds.invalid";
    let object = PATTERN.bytes(0, usize::try_from(SIZE).expect("small"));
    let beyond = move |got: &Got| {
        let mut got = got.clone();
        got.target = got.target.strip_prefix(HOST)?.to_owned();
        Some(match got.path() {
            "/bucket/k" | "/account/bucket/k" => Reply::object(&got, &object),
            _ => google(&got)
                .or_else(|| microsoft(&got))
                .unwrap_or_else(|| sts_xml("AKPROXY")),
        })
    };
    let user = USER.replace("HERE", HOST);
    let world = World::new(beyond)
        .file("adc.json", &user)
        .file("token", "canary-web")
        .set("GOOGLE_BASE_URL", HOST)
        .set("AWS_ENDPOINT_URL_S3", HOST)
        .set("AWS_ENDPOINT_URL_STS", HOST)
        .set("AWS_ROLE_ARN", "arn:aws:iam::1:role/r");
    let (document, token) = (world.path("adc.json"), world.path("token"));
    let world = world
        .set("GOOGLE_APPLICATION_CREDENTIALS", &document)
        .set("AWS_WEB_IDENTITY_TOKEN_FILE", &token);
    let mut through = ClientOptions::default();
    through.proxy = ProxyChoice::Url(world.server.url("").parse().expect("an address"));
    for (address, service) in [("gs://bucket/k", "/token"), ("s3://bucket/k", "/")] {
        let client = Client::new(&through).expect("a client");
        let source = pget_s3::S3Source::open(address, &world.settings(), client);
        let source = source.unwrap_or_else(|error| panic!("{address}: {}", error.to_line()));
        let bytes = within(read(Arc::new(source), options(CHUNK, 4))).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{address}: {}", error.to_line()));
        check(&bytes, PATTERN, SIZE);
        let asked = world.server.seen(&format!("{HOST}{service}"));
        assert!(!asked.is_empty(), "{address}");
    }
    // Nothing came past the proxy.
    assert!(world.server.seen("/").is_empty());
    world.check_log();
}
