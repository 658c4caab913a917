//! Rings: one object after another through one piece of shared memory.

use pget::{
    Cancel, ErrorKind,
    shm::{RingReader, RingWriter},
};
use pget_testkit::hostile::{Hostile, Object, Route};

use crate::{CHUNK, DEADLINE, PATTERN, stuck};

#[test]
fn a_ring_carries_one_object_after_another() {
    let server = Hostile::start().expect("a server");
    let mut ring = RingWriter::create(None, 100_000).expect("a ring");
    let mut reader = RingReader::attach(ring.name()).expect("attached");
    let sizes = [5 * CHUNK + 3, 0, CHUNK];
    let fails = server.url("/missing");
    let urls: Vec<_> = sizes
        .iter()
        .map(|size| server.route(&format!("/ring-{size}"), Route::new(Object::new(7, *size))))
        .collect();
    let cancel = Cancel::new();
    let stuck = stuck(&server).cancel(cancel.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for url in &urls {
                // An object that fails before its first byte does not appear in the ring.
                let error = pget::builder(&fails)
                    .blocking()
                    .expect("an object")
                    .put_into_ring(&mut ring)
                    .expect_err("missing");
                assert_eq!(error.kind(), ErrorKind::NotFound);
                let builder = pget::builder(url).chunk_size(CHUNK);
                builder
                    .blocking()
                    .expect("an object")
                    .put_into_ring(&mut ring)
                    .expect("all of it was taken");
            }
            let error = stuck
                .blocking()
                .expect("an object")
                .put_into_ring(&mut ring)
                .expect_err("cancelled");
            assert_eq!(error.kind(), ErrorKind::Cancelled);
            drop(ring);
        });
        for size in sizes {
            let object = reader.next_object().expect("an answer").expect("an object");
            // Many servers refuse a range of an empty object and report only its size.
            assert!(size == 0 || object.revision.starts_with("etag "), "{object:?}");
            assert_eq!(object.size, Some(size));
            let mut done = 0;
            while let Some(bytes) = reader.next_bytes().expect("more") {
                assert_eq!(PATTERN.check(done, bytes), Ok(()));
                done += bytes.len() as u64;
            }
            assert_eq!(done, size);
        }
        reader
            .next_object()
            .expect("an answer")
            .expect("the one that stalls");
        assert!(reader.next_bytes().expect("the beginning").is_some());
        cancel.trigger();
        let error = loop {
            match reader.next_bytes() {
                Ok(bytes) => assert!(bytes.is_some(), "not complete"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        assert_eq!(reader.next_object().expect("no more"), None);
    });
}

#[test]
fn a_progress_function_that_panics_fails_the_object_and_not_the_ring() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, 9 * CHUNK)));
    let mut ring = RingWriter::create(None, 4096).expect("a ring");
    let mut reader = RingReader::attach(ring.name()).expect("attached");
    let cancel = Cancel::new();
    let panics = pget::builder(&url)
        .chunk_size(CHUNK)
        .cancel(cancel.clone())
        .progress(|progress| assert!(progress.stats.delivered <= CHUNK, "the function's defect"));
    std::thread::scope(|scope| {
        let put = scope.spawn(|| {
            let put = std::panic::AssertUnwindSafe(|| {
                panics
                    .blocking()
                    .expect("an object")
                    .put_into_ring(&mut ring)
                    .map(drop)
            });
            std::panic::catch_unwind(put).expect_err("it panics");
            // The cancel of that download affects no other.
            cancel.trigger();
            ring.begin("by hand", Some(5000)).expect("the end was seen");
            ring.put(&[1; 5000]).expect("it is read");
            ring.end(Ok(())).expect("all of it was taken");
        });
        reader.next_object().expect("an answer").expect("an object");
        // The deadline covers a writer that fails without a message.
        let deadline = std::time::Instant::now() + DEADLINE;
        let mut done = 0;
        let error = loop {
            match reader.next_bytes_unless(Some(deadline), &|| false) {
                Ok(bytes) => done += bytes.expect("not complete").len() as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        assert!(done < 9 * CHUNK);
        let next = reader.next_object_unless(Some(deadline), &|| false);
        assert_eq!(next.expect("an answer").expect("an object").revision, "by hand");
        let mut done = 0;
        while let Some(bytes) = reader.next_bytes_unless(Some(deadline), &|| false).expect("more") {
            done += bytes.len();
        }
        assert_eq!(done, 5000);
        put.join().expect("no other panic");
    });
}

#[test]
fn a_cancelled_download_waits_for_no_reader() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/waits", Route::new(Object::new(7, 9 * CHUNK)));
    let mut ring = RingWriter::create(None, 4096).expect("a ring");
    let mut reader = RingReader::attach(ring.name()).expect("attached");
    let cancel = Cancel::new();
    let builder = pget::builder(&url).cancel(cancel.clone());
    std::thread::scope(|scope| {
        let put = scope.spawn(|| {
            builder
                .blocking()
                .expect("an object")
                .put_into_ring(&mut ring)
                .map(drop)
        });
        reader.next_object().expect("an answer").expect("an object");
        assert!(reader.next_bytes().expect("the beginning").is_some());
        // The download waits for room, now or soon.
        cancel.trigger();
        let error = put.join().expect("no panic").expect_err("cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    });
}
