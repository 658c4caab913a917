//! The catalogue's lies for downloads into a file and into shared memory.
//!
//! The downloads use the public interface with 1, 4 and 16 requests at the same time. `pget-http`
//! tests reads in order and into memory.
#![cfg(feature = "http")]

use std::{fs, time::Duration};

use futures_util::{StreamExt as _, stream};
use pget::{Builder, Error, ErrorKind, Placement, shm::State};
use pget_testkit::{
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When, lies},
};

const SEED: u64 = 23;
const PATTERN: Pattern = Pattern::new(SEED);
const CHUNK: u64 = 100_000;
const SIZE: u64 = 1_000_003;
const DEADLINE: Duration = Duration::from_secs(60);
const CONCURRENCIES: [u32; 3] = [1, 4, 16];

fn builder(url: &str, concurrency: u32, length: u64) -> Builder {
    pget::builder(url)
        .chunk_size(CHUNK)
        .concurrency(concurrency)
        .length(length)
        .retries(3)
        .first_byte_timeout(Duration::from_millis(800))
        .stall_timeout(Duration::from_millis(800))
}

/// Reads into a file. The file must be complete under its name, or the name must not exist.
///
/// `get_file`'s own tests check a part that stays.
async fn into_a_file(builder: Builder, length: u64) -> Result<(), Error> {
    let read = tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("object");
        let outcome = builder.blocking().expect("an object").get_file(&file);
        if outcome.is_err() {
            assert!(!file.exists(), "a name for what is not complete");
        } else {
            let bytes = fs::read(&file).expect("it is there");
            assert_eq!(bytes.len() as u64, length);
            assert_eq!(PATTERN.check(0, &bytes), Ok(()), "into a file");
        }
        outcome.map(drop)
    });
    read.await.expect("it does not panic")
}

/// Reads into shared memory. The bytes must be a right beginning, and the segment must report the
/// end.
async fn into_shared_memory(builder: Builder, length: u64) -> Result<(), Error> {
    let mut shared = builder.object()?.get_shared(Placement::Anonymous).await?;
    let outcome = shared.ended().await;
    let bytes = shared.buffer().as_slice();
    assert_eq!(PATTERN.check(0, bytes), Ok(()), "into shared memory");
    assert!(bytes.len() as u64 <= length);
    let state = shared.buffer().state();
    if outcome.is_ok() {
        assert_eq!((bytes.len() as u64, state), (length, State::Complete));
    } else {
        assert_eq!(state, State::Failed);
    }
    outcome.map(drop)
}

/// Checks the end of a read of `route` in both modes at each concurrency.
///
/// A single stream reads a part of the object. If the fault affects later answers, the first answer
/// is cut, so that there is a later one.
async fn ends(route: &Route, due: impl Fn(Option<ErrorKind>) -> bool, what: &str) {
    let server = Hostile::start().expect("a server");
    for concurrency in CONCURRENCIES {
        for shared in [false, true] {
            let (mut length, mut route, mut rules) = (SIZE, route.clone(), 0);
            if concurrency == 1 {
                length -= SIZE / 4;
            }
            let path = format!("/{shared}-{concurrency}");
            loop {
                let url = server.route(&path, route.clone());
                let builder = builder(&url, concurrency, length);
                let work = async {
                    match shared {
                        true => into_shared_memory(builder, length).await,
                        false => into_a_file(builder, length).await,
                    }
                };
                let outcome = tokio::time::timeout(DEADLINE, work).await.expect("it ends");
                let met: u64 = server.served_by_rule(&path)[rules..].iter().sum();
                if met == 0 && concurrency == 1 && rules == 0 {
                    assert!(outcome.is_ok(), "{what}: {outcome:?}");
                    (route, rules) = (route.cut_first(CHUNK / 2), 1);
                    continue;
                }
                let what = format!("{what}, shared memory {shared}, at {concurrency}");
                assert!(met > 0, "{what}: not met");
                let kind = outcome.as_ref().err().map(Error::kind);
                assert!(due(kind), "{what}: {outcome:?}");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_nine_lies_get_no_wrong_byte_into_a_file_or_shared_memory() {
    // A read sends no HEAD, so a lie about HEAD has no effect.
    let told = lies(SEED, SIZE, CHUNK / 4)
        .into_iter()
        .filter(|lie| lie.case != 50);
    stream::iter(told)
        .for_each_concurrent(4, async |lie| {
            let what = format!("case {}, {}", lie.case, lie.name);
            ends(&lie.route, |kind| kind.is_none() == lie.survivable, &what).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_that_pass_and_faults_that_do_not_end_alike_in_a_file_and_in_shared_memory() {
    let object = || Route::new(Object::new(SEED, SIZE));
    for fault in [
        Fault::Reset { after: 50_000 },
        Fault::Stall { after: 50_000 },
        Fault::StallBeforeHead,
        Fault::status(500),
        Fault::throttle(429, "0"),
        Fault::ShortLength { by: 5 },
        Fault::Empty,
    ] {
        let what = format!("{fault:?}");
        ends(
            &object().fault_times(When::First, 1, fault),
            |kind| kind.is_none(),
            &what,
        )
        .await;
    }
    for (when, fault, due) in [
        (When::Always, Fault::status(500), ErrorKind::Unavailable),
        (When::Always, Fault::status(403), ErrorKind::PermissionDenied),
        (When::Always, Fault::status(404), ErrorKind::NotFound),
        (When::Always, Fault::StallBeforeHead, ErrorKind::Timeout),
        (When::Later, Fault::status(404), ErrorKind::ObjectChanged),
        (When::Later, Fault::status(412), ErrorKind::ObjectChanged),
        (When::Later, Fault::status(403), ErrorKind::PermissionDenied),
        (When::Always, Fault::many_headers(10_000, 1), ErrorKind::Protocol),
    ] {
        let what = format!("{fault:?}, {when:?}");
        ends(&object().fault(when, fault), |kind| kind == Some(due), &what).await;
    }
}
