//! The readers. Each is used for a large object as its own documentation recommends.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, RetryConfig, http::HttpBuilder,
};
use opendal::{Operator, layers, services};
use pget_core::{ErrorKind, Options};
use pget_testkit::{
    content::Pattern,
    modes::{self, Expected, Mode},
};
use tokio::process::Command;

pub const SEED: u64 = 29;
pub const SIZE: u64 = 4 * CHUNK + 3;
const CHUNK: u64 = 1 << 20;
const PATTERN: Pattern = Pattern::new(SEED);
const TIMEOUT: Duration = Duration::from_secs(3);
const RETRIES: usize = 3;

/// The path of the object for the AIStore client. The other readers get the URL.
const AIS: &str = "/v1/objects/b/o";
const PLAIN: &str = "/b/o";

#[derive(Clone)]
pub enum Reader {
    Pget(Mode),
    ObjectStore,
    OpenDal,
    Curl,
    Aria2c,
    Python {
        name: &'static str,
        python: PathBuf,
        script: PathBuf,
    },
}

/// Whether the bytes are right, or an error, with its kind if it is pget's.
type Ended = Result<bool, Option<ErrorKind>>;

impl Reader {
    pub fn all(python: &Path, script: &Path) -> Vec<Self> {
        let in_python = |name| Self::Python {
            name,
            python: python.into(),
            script: script.into(),
        };
        let pget = Mode::ALL.into_iter().map(Self::Pget);
        let others = [
            Self::Curl,
            Self::ObjectStore,
            Self::OpenDal,
            in_python("s3transfer"),
            Self::Aria2c,
            in_python("aistore"),
        ];
        pget.chain(others).collect()
    }

    pub fn name(&self) -> String {
        match self {
            Self::Pget(mode) => format!("pget, {mode}"),
            Self::ObjectStore => "object_store, If-Match".into(),
            Self::OpenDal => "OpenDAL, if_match".into(),
            Self::Curl => "curl".into(),
            Self::Aria2c => "aria2c -x4".into(),
            Self::Python { name: "aistore", .. } => "AIStore client, 4 workers".into(),
            Self::Python { name, .. } => (*name).into(),
        }
    }

    pub fn path(&self) -> &'static str {
        match self {
            Self::Python { name: "aistore", .. } => AIS,
            _ => PLAIN,
        }
    }

    pub async fn read(&self, endpoint: String) -> Ended {
        match self {
            Self::Pget(mode) => pget(*mode, &endpoint).await,
            Self::ObjectStore => right(object_store(&endpoint).await),
            Self::OpenDal => right(opendal(&endpoint).await),
            Self::Curl => {
                let arguments = [
                    "-fsS",
                    "--retry",
                    "3",
                    "--retry-all-errors",
                    "--retry-delay",
                    "1",
                    "--speed-time",
                    "3",
                ];
                let url = format!("{endpoint}{PLAIN}");
                program("curl", &arguments, |command, file| {
                    command.arg("-o").arg(file).arg(url);
                })
                .await
            }
            Self::Aria2c => {
                let arguments = [
                    "-q",
                    "-x4",
                    "-s4",
                    "-k1M",
                    "--timeout=3",
                    "--connect-timeout=3",
                    "--max-tries=4",
                    "--no-conf",
                ];
                let url = format!("{endpoint}{PLAIN}");
                program("aria2c", &arguments, |command, file| {
                    command.arg("-d").arg(file.parent().expect("it has a folder"));
                    command.arg("-o").arg("object").arg(url);
                })
                .await
            }
            Self::Python { name, python, script } => {
                let python = python.display().to_string();
                program(&python, &[], |command, file| {
                    command.arg(script).arg(name).arg(endpoint).arg(file);
                })
                .await
            }
        }
    }
}

fn right<E>(read: Result<Vec<u8>, E>) -> Ended {
    read.map(|bytes| is_right(&bytes)).map_err(|_| None)
}

/// Returns whether the bytes are the whole object, or the whole revision that replaced it.
fn is_right(bytes: &[u8]) -> bool {
    let revisions = [PATTERN, Pattern::new(SEED + 1)];
    bytes.len() as u64 == SIZE && revisions.iter().any(|pattern| pattern.check(0, bytes).is_ok())
}

async fn pget(mode: Mode, endpoint: &str) -> Ended {
    let client =
        pget_http::Client::new(&pget_http::ClientOptions::default()).expect("the defaults are sound");
    let url = format!("{endpoint}{PLAIN}");
    let source = pget_http::HttpSource::new(client, &url, http::HeaderMap::new()).expect("an address");
    let mut options = Options::default();
    (options.chunk_size, options.concurrency, options.retries) = (Some(CHUNK), Some(4), Some(3));
    (options.deadlines.first_byte, options.deadlines.stall) = (TIMEOUT, TIMEOUT);
    let expected = Expected {
        pattern: PATTERN,
        offset: 0,
        size: SIZE,
    };
    // A wrong byte or a hang is a panic of the test's own, with a message that says which.
    let outcome = tokio::spawn(modes::run(mode, Arc::new(source), options, expected)).await;
    match outcome {
        Ok(outcome) => outcome.end.map(|()| true).map_err(|error| Some(error.kind())),
        Err(wrong) => {
            eprintln!("pget, {mode}: {wrong}");
            Ok(false)
        }
    }
}

async fn object_store(endpoint: &str) -> object_store::Result<Vec<u8>> {
    let options = ClientOptions::new().with_timeout(TIMEOUT);
    let retries = RetryConfig {
        max_retries: RETRIES,
        retry_timeout: Duration::from_secs(30),
        ..RetryConfig::default()
    };
    let mut bytes = Vec::new();
    object_store_ranges(endpoint, CHUNK, 4, options, retries, |part| {
        bytes.extend_from_slice(part)
    })
    .await?;
    Ok(bytes)
}

/// Reads the whole object in ranges, in order.
pub async fn object_store_ranges(
    endpoint: &str,
    chunk: u64,
    concurrency: usize,
    options: ClientOptions,
    retries: RetryConfig,
    mut take: impl FnMut(&[u8]),
) -> object_store::Result<()> {
    let store = HttpBuilder::new()
        .with_url(format!("{endpoint}/b"))
        .with_client_options(options.with_allow_http(true))
        .with_retry(retries)
        .build()?;
    let path = object_store::path::Path::from("o");
    let head = store.head(&path).await?;
    let (store, path, etag) = (&store, &path, &head.e_tag);
    let ranges = (0..head.size)
        .step_by(usize::try_from(chunk).expect("a chunk fits in memory"))
        .map(|start| start..head.size.min(start + chunk));
    let mut parts = stream::iter(ranges)
        .map(|range| async move {
            let options = GetOptions {
                if_match: etag.clone(),
                range: Some(GetRange::Bounded(range)),
                ..GetOptions::default()
            };
            store.get_opts(path, options).await?.bytes().await
        })
        .buffered(concurrency);
    while let Some(part) = parts.try_next().await? {
        take(&part);
    }
    Ok(())
}

async fn opendal(endpoint: &str) -> opendal::Result<Vec<u8>> {
    let operator = Operator::new(services::Http::default().endpoint(endpoint).root("/b"))?
        .layer(
            layers::TimeoutLayer::new()
                .with_timeout(TIMEOUT)
                .with_io_timeout(TIMEOUT),
        )
        .layer(layers::RetryLayer::new().with_max_times(RETRIES));
    let info = operator.stat("o").await?;
    let reader = operator.reader_with("o").concurrent(4).chunk(CHUNK as usize);
    let reader = match info.etag() {
        Some(etag) => reader.if_match(etag).await?,
        None => reader.await?,
    };
    Ok(reader.read(0..info.content_length()).await?.to_vec())
}

/// Runs a program that writes a file named `object`. Drop of the future kills the program.
async fn program(name: &str, arguments: &[&str], target: impl FnOnce(&mut Command, &Path)) -> Ended {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("object");
    let mut command = Command::new(name);
    command.args(arguments);
    target(&mut command, &file);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let status = command.status().await.expect("it is installed");
    if !status.success() {
        return Err(None);
    }
    Ok(std::fs::read(&file).is_ok_and(|bytes| is_right(&bytes)))
}

/// Returns the versions of the programs. The manifests contain those of the libraries.
pub async fn versions(python: &Path) -> String {
    let mut told = Vec::new();
    for (program, arguments) in [
        ("curl", &["--version"][..]),
        ("aria2c", &["--version"]),
        (
            &python.display().to_string(),
            &["-m", "pip", "freeze", "--disable-pip-version-check"],
        ),
    ] {
        let output = Command::new(program).args(arguments).output().await;
        let text = output
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        let lines = text.lines().enumerate();
        told.extend(
            lines
                .filter(|(at, line)| {
                    (*at == 0 && !line.contains("=="))
                        || ["s3transfer", "boto3=", "aistore"]
                            .iter()
                            .any(|name| line.starts_with(name))
                })
                .map(|(_, line)| line.split(" (").next().unwrap_or_default().to_owned()),
        );
    }
    told.join(", ")
}
