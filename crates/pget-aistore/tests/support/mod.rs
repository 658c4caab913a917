//! The servers of the tests.
//!
//! - The stand-in.
//! - A real cluster if `AIS_ENDPOINT` is set, with `AIS_AUTHN_TOKEN` if it requires one.
//! - A server that answers as a script says.
//!
//! Tests store objects in a cluster by HTTP PUT, in buckets that are created on demand. Only the
//! stand-in has counters and faults.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod script;
mod upload;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pget_aistore::{AistoreSource, Config, ObjectAddress};
use pget_core::{Download, Error, ErrorKind, Lease, Options, RangeSource, Reader};
use pget_http::{Client, ClientOptions};
use pget_testkit::{
    aistore::{Bucket, Cluster, ClusterOptions, Counts, Exchange, Node, Object},
    content::Pattern,
};

pub(crate) const MIB: u64 = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(60);

/// Bucket of the tests. The names of other buckets begin with it.
pub(crate) const BUCKET: &str = "pget-test";

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work)
        .await
        .expect("done within the deadline")
}

/// A cluster to read from.
pub(crate) struct Place {
    standin: Option<Cluster>,
    endpoint: String,
    client: Client,
}

/// Returns the real cluster if there is one, otherwise the stand-in.
pub(crate) async fn cluster() -> Place {
    match std::env::var("AIS_ENDPOINT") {
        Ok(endpoint) if !endpoint.is_empty() => Place {
            standin: None,
            endpoint,
            client: client(),
        },
        _ => standin(ClusterOptions::default()).await,
    }
}

/// Returns the stand-in, for events that a real cluster does not produce on demand.
pub(crate) async fn standin(options: ClusterOptions) -> Place {
    let cluster = Cluster::start(options).await;
    Place {
        endpoint: cluster.endpoint(),
        standin: Some(cluster),
        client: client(),
    }
}

pub(crate) fn client() -> Client {
    Client::new(&ClientOptions::default()).expect("default options are good")
}

/// Returns a name that no other test and no earlier run uses.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{next}", now.as_nanos())
}

pub(crate) fn config(endpoint: &str, properties: &[(&str, &str)]) -> Config {
    let mut map: BTreeMap<String, String> = properties
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    map.insert("ais.endpoint".into(), endpoint.into());
    Config::new(|_| None, &map).expect("usable settings")
}

impl Place {
    /// Returns the stand-in, unless the cluster is real.
    pub(crate) const fn standin(&self) -> Option<&Cluster> {
        self.standin.as_ref()
    }

    /// Returns the stand-in, for tests that need it.
    pub(crate) fn fake(&self) -> &Cluster {
        self.standin().expect("the test asked for the stand-in")
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) async fn put(&self, name: &str, bytes: &[u8]) {
        upload::create(&self.endpoint, BUCKET, None).await;
        upload::put(&self.endpoint, BUCKET, name, bytes).await;
    }

    pub(crate) async fn put_in(&self, bucket: &str, checksum: Option<&str>, name: &str, bytes: &[u8]) {
        upload::create(&self.endpoint, bucket, checksum).await;
        upload::put(&self.endpoint, bucket, name, bytes).await;
    }

    pub(crate) async fn delete(&self, bucket: &str, name: &str) {
        upload::delete(&self.endpoint, bucket, name).await;
    }

    /// Returns the object of this name in the tests' bucket.
    pub(crate) fn object(&self, name: &str) -> Arc<dyn RangeSource> {
        self.open(&format!("ais://{BUCKET}/{name}"), &[])
    }

    pub(crate) fn open(&self, address: &str, properties: &[(&str, &str)]) -> Arc<dyn RangeSource> {
        let token = std::env::var("AIS_AUTHN_TOKEN")
            .ok()
            .filter(|_| self.standin.is_none());
        let token = token.iter().map(|token| ("ais.token", token.as_str()));
        let properties: Vec<_> = properties.iter().copied().chain(token).collect();
        open_at(&self.client, &self.endpoint, address, &properties)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.fake().counts()
    }

    /// Returns the exchanges of the proxy and those of the targets.
    pub(crate) fn exchanges(&self) -> (Vec<Exchange>, Vec<Exchange>) {
        self.fake()
            .exchanges()
            .into_iter()
            .partition(|exchange| exchange.node == Node::Proxy)
    }
}

pub(crate) fn open_at(
    client: &Client,
    endpoint: &str,
    address: &str,
    properties: &[(&str, &str)],
) -> Arc<dyn RangeSource> {
    let config = config(endpoint, properties);
    let address = ObjectAddress::parse(address, config.provider.as_deref()).expect("an address");
    Arc::new(AistoreSource::new(client.clone(), config, address).expect("it can be asked for"))
}

pub(crate) fn options(chunk_size: u64, concurrency: u32) -> Options {
    let mut options = Options::default();
    options.chunk_size = Some(chunk_size);
    options.concurrency = Some(concurrency);
    options
}

pub(crate) fn reader(source: &Arc<dyn RangeSource>, options: Options) -> Reader {
    Download::new(Arc::clone(source), options)
        .expect("good options")
        .reader()
}

/// Reads the whole object with a deadline.
pub(crate) async fn read(source: &Arc<dyn RangeSource>, options: Options) -> Result<Vec<u8>, Error> {
    within(rest_of(&mut reader(source, options))).await
}

pub(crate) async fn rest_of(reader: &mut Reader) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(lease) = reader.next().await? {
        all.extend_from_slice(&lease);
    }
    Ok(all)
}

/// Returns the first bytes. They count against the window until the lease is dropped.
pub(crate) async fn first_of(reader: &mut Reader) -> Lease {
    within(reader.next())
        .await
        .expect("it begins well")
        .expect("there are bytes")
}

/// Reads the object in chunks of 100,000 bytes, four at a time, and compares the content.
pub(crate) async fn expect_content(source: &Arc<dyn RangeSource>, pattern: Pattern, size: u64) {
    let bytes = read(source, options(100_000, 4)).await.expect("it can be read");
    assert_eq!(bytes.len() as u64, size);
    assert_eq!(pattern.check(0, &bytes), Ok(()));
}

pub(crate) async fn expect_error(source: &Arc<dyn RangeSource>, kind: ErrorKind) -> Error {
    let mut options = options(100_000, 4);
    // The library would wait two minutes for a temporary fault. The tests must not.
    options.retries = Some(5);
    let error = read(source, options).await.expect_err("it must not be readable");
    assert_eq!(error.kind(), kind, "{error}");
    error
}

pub(crate) fn pattern(seed: u64, size: u64) -> Object {
    Object::pattern(seed, size)
}

pub(crate) fn bytes(seed: u64, size: u64) -> Vec<u8> {
    Pattern::new(seed).bytes(0, usize::try_from(size).expect("small"))
}

pub(crate) fn aws(name: &str) -> Bucket {
    Bucket::new("aws", "", name)
}
