//! The suite, for the version of object_store that `super::pget` wraps.

use pget_testkit::servers::{Versitygw, VersitygwOptions};

use super::pget::{
    PgetStore,
    object_store::{
        ObjectStore,
        aws::{AmazonS3, AmazonS3Builder},
    },
};

mod aistore;
mod aistore_integration;
mod aistore_writes;
mod changes;
mod errors;
mod faults;
mod integration;
mod made;
mod memory;
mod object;
mod ranges;
mod runtimes;
mod streams;
mod webdav;

/// Splits whatever can be split, into chunks of seven bytes.
pub(super) fn wrapped<T: ObjectStore>(store: T) -> PgetStore<T> {
    in_chunks(store, 7)
}

/// Splits objects of many megabytes, into chunks of an odd size.
pub(super) fn in_large_chunks<T: ObjectStore>(store: T) -> PgetStore<T> {
    in_chunks(store, 200_003)
}

fn in_chunks<T: ObjectStore>(store: T, size: u64) -> PgetStore<T> {
    let store = PgetStore::new(store).with_threshold(0);
    let options = pget_testkit::options(size, 4);
    store.with_options(options).expect("usable")
}

pub(super) fn s3_server() -> Versitygw {
    Versitygw::start(VersitygwOptions::default()).expect("versitygw starts")
}

/// Lets clients be made that could speak TLS, although no test does.
fn set_cryptography() {
    // It is set already when an earlier test was here.
    rustls::crypto::ring::default_provider().install_default().ok();
}

pub(super) fn s3(server: &Versitygw) -> AmazonS3 {
    s3_with(server, |builder| builder)
}

/// The bucket of `server`, with more settings.
pub(super) fn s3_with(server: &Versitygw, set: impl Fn(AmazonS3Builder) -> AmazonS3Builder) -> AmazonS3 {
    set_cryptography();
    let endpoint = server.endpoint();
    let builder = AmazonS3Builder::new()
        .with_allow_http(true)
        .with_endpoint(endpoint.url())
        .with_access_key_id(endpoint.access_key())
        .with_secret_access_key(endpoint.secret_key())
        .with_region(endpoint.region())
        .with_bucket_name(endpoint.bucket());
    set(builder).build().expect("usable")
}
