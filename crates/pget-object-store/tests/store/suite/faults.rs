//! `HttpStore` in front of a server that misbehaves.

use std::{net::SocketAddr, time::Duration};

use futures_util::StreamExt as _;
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When, lies},
};

use super::super::pget::{
    PgetStore,
    object_store::{
        ClientOptions, ObjectStoreExt as _, Result, RetryConfig,
        http::{HttpBuilder, HttpStore},
        path::Path,
    },
};

const SIZE: u64 = 1 << 20;
const CHUNK: u64 = 64 << 10;

/// `HttpStore` that asks again so many times.
pub(super) fn bare(address: SocketAddr, max_retries: usize) -> HttpStore {
    super::set_cryptography();
    let retry = RetryConfig {
        max_retries,
        ..RetryConfig::default()
    };
    HttpBuilder::new()
        .with_url(format!("http://{address}"))
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(retry)
        .build()
        .expect("usable")
}

fn http(server: &Hostile) -> PgetStore<HttpStore> {
    let store = bare(server.address(), 0);
    let mut options = pget_testkit::options(CHUNK, 4);
    options.deadlines.first_byte = Duration::from_secs(2);
    options.deadlines.stall = Duration::from_secs(2);
    options.retry_timeout = Duration::from_secs(20);
    let store = PgetStore::new(store).with_threshold(0);
    store.with_options(options).expect("usable")
}

/// Reads the object; every byte that comes must be right.
async fn read(server: &Hostile, path: &str) -> Result<u64> {
    let store = http(server);
    let mut stream = store.get(&Path::from(path)).await?.into_stream();
    let mut bytes = 0;
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        assert_eq!(
            Pattern::new(7).check(bytes, &piece),
            Ok(()),
            "wrong bytes from {bytes}"
        );
        bytes += piece.len() as u64;
    }
    Ok(bytes)
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), work)
        .await
        .expect("no hang")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lie_is_believed() {
    let server = Hostile::start().expect("a server");
    for (index, lie) in lies(7, SIZE, CHUNK / 4).into_iter().enumerate() {
        let path = format!("/{index}");
        server.route(&path, lie.route);
        match within(read(&server, &path)).await {
            Ok(bytes) => assert_eq!(bytes, SIZE, "{}", lie.name),
            Err(error) => println!("{}: {error}", lie.name),
        }
        // Nothing asks by HEAD.
        let is_met = server.served(&path) > 0 || lie.name.starts_with("HEAD");
        assert!(is_met, "{} was met", lie.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_days_are_outlasted() {
    let server = Hostile::start().expect("a server");
    let days = [
        ("resets", Fault::Reset { after: 1000 }),
        ("stalls", Fault::Stall { after: 1000 }),
        ("no answer", Fault::StallBeforeHead),
        ("short bodies", Fault::ShortLength { by: 10 }),
        ("503", Fault::status(503)),
        ("429", Fault::throttle(429, "1")),
        ("cut", Fault::Fin { after: 5000 }),
    ];
    for (name, fault) in days {
        let path = format!("/{}", name.replace(' ', "-"));
        let route = Route::new(Object::new(7, SIZE)).fault_times(When::Later, 3, fault);
        server.route(&path, route);
        let bytes = within(read(&server, &path)).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(bytes, SIZE, "{name}");
        assert!(server.served(&path) > 0, "{name} was met");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_object_is_an_error() {
    let server = Hostile::start().expect("a server");
    for (name, ignores) in [("checked", false), ("ignored", true)] {
        let path = format!("/{name}");
        let mut route = Route::new(Object::new(7, SIZE));
        if ignores {
            route = route.ignoring_conditions();
        }
        server.route(
            &path,
            route.fault(When::From(4), Fault::Revision(Object::new(8, SIZE))),
        );
        within(read(&server, &path)).await.expect_err("it is replaced");
    }
}
