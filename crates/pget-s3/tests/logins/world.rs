//! A home directory with files, and a server that imitates every service.

use std::sync::{Arc, Once, OnceLock};

use pget_core::ErrorKind;
use pget_s3::Settings;
use pget_testkit::content::Pattern;
use tempfile::TempDir;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    common::{self, CANARY, check, open, options, read, texts, within},
    lines::Lines,
    standin::{Got, Reply, Standin},
};

pub(super) const PATTERN: Pattern = Pattern::new(91);
pub(super) const CHUNK: u64 = 32 << 10;
pub(super) const SIZE: u64 = 6 * CHUNK + 5;
pub(super) const FAR: &str = "2099-01-01T00:00:00Z";

/// Returns the name of a file in the cache of single sign-on.
pub(super) fn cache_name(of: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, of.as_bytes());
    format!("{}.json", hex::encode(digest))
}

/// Returns the log of all tests of this program.
pub(super) fn log() -> String {
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
    lines.text()
}

/// A home directory, and a server for the bucket and for the services that issue credentials.
pub(super) struct World {
    pub(super) home: TempDir,
    pub(super) server: Standin,
    pub(super) variables: Vec<(String, String)>,
}

impl World {
    /// Starts a world. `services` answers all requests except those for the object.
    pub(super) fn new(services: impl Fn(&Got) -> Option<Reply> + Send + Sync + 'static) -> Self {
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
            // The tests must not use the services of the machine on which they run.
            .set("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
            .set("GCE_METADATA_HOST", "127.0.0.1:1")
            .set("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")
            .here("AWS_ENDPOINT_URL_S3", "")
            .set("AWS_REGION", "eu-north-9")
            .here("GOOGLE_BASE_URL", "")
            .here("AZURE_STORAGE_ENDPOINT", "")
            .set("AZURE_STORAGE_ACCOUNT", "account")
    }

    pub(super) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Sets a variable to an address of the server.
    pub(super) fn here(self, name: &str, path: &str) -> Self {
        let url = self.server.url(path);
        self.set(name, &url)
    }

    /// Writes a file into the home directory. `HERE` in the text stands for the server.
    pub(super) fn file(self, name: &str, text: &str) -> Self {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text.replace("HERE", &self.server.url(""))).expect("a file");
        self
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().expect("a path").to_owned()
    }

    pub(super) fn settings(&self) -> Settings {
        Settings::new().environment(self.variables.clone())
    }

    /// Reads the object, and returns the requests that the server received for it.
    pub(super) async fn reads(&self, address: &str) -> Vec<Got> {
        let source = open(address, &self.settings());
        let bytes = within(read(source, options(CHUNK, 4))).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{address}: {}\n{}", error.to_line(), log()));
        check(&bytes, PATTERN, SIZE);
        self.check_log();
        let seen = self.server.seen("/bucket/k");
        assert!(!seen.is_empty());
        seen
    }

    /// Checks that every request is signed with this key and token for the region.
    pub(super) async fn signs_with(&self, id: &str, token: Option<&str>) {
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

    /// Checks that every request has this bearer token.
    pub(super) async fn bears(&self, address: &str, token: &str) {
        for seen in self.reads(address).await {
            assert_eq!(
                seen.header("authorization"),
                Some(format!("Bearer {token}").as_str())
            );
        }
    }

    /// Checks that a read fails with this kind, and returns the text of the error.
    pub(super) async fn fails(&self, address: &str, kind: ErrorKind) -> String {
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

    /// Checks that a read fails, whatever form the refusal has, and returns the text of the error.
    pub(super) async fn refuses(&self, address: &str) -> String {
        let source = open(address, &self.settings());
        let Err(error) = within(read(source, options(CHUNK, 4))).await else {
            panic!("{address} was read, and a refusal was due");
        };
        self.check_log();
        texts(&error)
    }

    pub(super) fn check_log(&self) {
        let log = log();
        let at = log.to_ascii_lowercase().find(CANARY);
        assert!(
            at.is_none(),
            "{:?}",
            at.map(|at| &log[at.saturating_sub(300)..at + 20])
        );
    }
}

pub(super) fn keys_json(id: &str, token: &str, expires: &str) -> String {
    format!(
        r#"{{"Code":"Success","Version":1,"AccessKeyId":"{id}","SecretAccessKey":"canary","Token":"{token}","SessionToken":"{token}","Expiration":"{expires}"}}"#
    )
}

pub(super) fn sts_xml(id: &str) -> Reply {
    Reply::new(
        200,
        format!(
            "<R><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>canary</SecretAccessKey>\
             <SessionToken>canary-{id}</SessionToken><Expiration>{FAR}</Expiration></Credentials></R>"
        ),
    )
}

pub(super) fn oauth(token: &str) -> Reply {
    Reply::new(
        200,
        format!(r#"{{"access_token":"{token}","expires_in":3600,"token_type":"Bearer"}}"#),
    )
}

impl World {
    /// Checks that the last request is signed with this key. Earlier ones had another.
    pub(super) async fn signs_with_last(&self, id: &str, token: Option<&str>) {
        let seen = self.reads("s3://bucket/k").await;
        let last = seen.last().expect("some");
        assert!(
            last.header("authorization")
                .is_some_and(|signed| signed.contains(&format!("={id}/")))
        );
        assert_eq!(last.header("x-amz-security-token"), token);
    }
}
