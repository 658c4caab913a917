//! Objects in shared memory through the public interface.
//!
//! Every transport, sizes at the edges, readers in other threads, and ends of every kind.

mod rings;

use std::{
    io::{Read, Write},
    os::unix::fs::FileExt,
    time::Duration,
};

use pget::{
    Builder, Cancel, ErrorKind, Placement, SharedBuffer,
    shm::{IntoShared, State},
};
use pget_testkit::{
    aistore::{self, Cluster, ClusterOptions},
    content::Pattern,
    hostile::{Fault, Hostile, Object, Route, When},
};
use sha2::{Digest, Sha256};

const PATTERN: Pattern = Pattern::new(7);
const CHUNK: u64 = 64 << 10;
const DEADLINE: Duration = Duration::from_secs(30);

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("in time")
}

fn fresh_name(what: &str) -> String {
    format!("pget-front-{}-{what}", std::process::id())
}

fn is_there(name: &str) -> bool {
    std::fs::exists(format!("/dev/shm/{name}")).expect("looked")
        || std::fs::exists(format!("/dev/shm/{name}.pget")).expect("looked")
}

/// Reads the segment as it is filled, as another process would.
fn reads(name: String, size: u64) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let shared = SharedBuffer::attach(&name).expect("attached");
        assert_eq!(shared.len() as u64, size);
        let mut seen = 0;
        while seen < shared.len() {
            let there = shared.wait_for(seen + 1).expect("more");
            assert_eq!(PATTERN.check(seen as u64, &there[seen..]), Ok(()));
            seen = there.len();
        }
        shared.wait_for(seen).expect("complete");
    })
}

/// Returns the server's object as one of a bucket. The server accepts any signature.
fn on_s3(server: &Hostile, key: &str, object: Object) -> Builder {
    server.route(&format!("/bucket/{key}"), Route::new(object));
    pget::builder(&format!("s3://bucket/{key}"))
        .property("aws.endpoint", server.url(""))
        .property("aws.allow_http", "true")
        .property("aws.region", "us-east-1")
        .property("aws.access_key_id", "id")
        .property("aws.secret_access_key", "secret")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_size_on_every_transport() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let server = Hostile::start().expect("a server");
    for (number, size) in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3]
        .into_iter()
        .enumerate()
    {
        let content = PATTERN.bytes(0, usize::try_from(size).expect("small"));
        let path = folder.path().join(format!("o{number}"));
        std::fs::write(&path, &content).expect("a file");
        let object = format!("o{number}");
        cluster.put("bucket", &object, aistore::Object::bytes(content.clone()));
        let url = server.route(&format!("/{object}"), Route::new(Object::new(7, size)));
        for (what, builder) in [
            ("file", pget::builder(path.to_str().expect("text"))),
            ("http", pget::builder(&url)),
            (
                "aistore",
                pget::builder(&format!("ais://bucket/{object}")).property("ais.endpoint", cluster.endpoint()),
            ),
            ("s3", on_s3(&server, &object, Object::new(7, size))),
        ] {
            let builder = builder.chunk_size(CHUNK);
            let name = fresh_name(&format!("{what}-{number}"));
            let mut download = in_time(
                builder
                    .object()
                    .expect("an object")
                    .get_shared(Placement::Named(name.clone())),
            )
            .await
            .expect(what);
            let reader = reads(name.clone(), size);
            let stats = in_time(download.ended()).await.expect(what);
            assert_eq!(stats.delivered, size, "{what}");
            let buffer = download.into_buffer();
            assert_eq!((buffer.as_slice(), buffer.state()), (&*content, State::Complete));
            // Many servers refuse a range of an empty object and report only its size.
            assert!(size == 0 || buffer.revision() != "unknown", "{what} {size}");
            tokio::task::spawn_blocking(|| reader.join().expect("all of it"))
                .await
                .expect("joined");
            let again = builder.clone();
            // Run on a thread that may block, and reuse the memory of the first object.
            let buffer = tokio::task::spawn_blocking(move || {
                let mut download = again
                    .blocking()
                    .expect("an object")
                    .get_shared(Placement::Reuse(buffer))
                    .expect("a download");
                download.ended().expect("all of it");
                download.ended().expect("the same again");
                download.into_buffer()
            });
            let buffer = in_time(buffer).await.expect("no panic");
            assert_eq!((buffer.as_slice(), buffer.name()), (&*content, &*name));
            drop(buffer);
            assert!(!is_there(&name));
            let whole = in_time(tokio::task::spawn_blocking(move || {
                let mut download = builder.blocking()?.get_shared(Placement::Anonymous)?;
                download.ended()?;
                Ok::<_, pget::Error>(download.into_buffer())
            }));
            assert_eq!(whole.await.expect("no panic").expect(what).as_slice(), content);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_object_may_be_shorter_or_longer_and_is_read_as_it_arrives() {
    let server = Hostile::start().expect("a server");
    for named in [false, true] {
        let mut placement = match named {
            true => Placement::Named(fresh_name("next")),
            false => Placement::Anonymous,
        };
        for (number, size) in [9 * CHUNK, 9 * CHUNK, 5 * CHUNK + 3, 1, 8 * CHUNK + 1, 12 * CHUNK]
            .into_iter()
            .enumerate()
        {
            let url = server.route(
                &format!("/next-{named}-{number}"),
                Route::new(Object::new(7, size)),
            );
            let builder = pget::builder(&url).chunk_size(CHUNK).concurrency(3);
            let mut download = in_time(builder.object().expect("an object").get_shared(placement))
                .await
                .expect("a download");
            let reader = reads(download.buffer().name().to_owned(), size);
            let stats = in_time(download.ended()).await.expect("all of it");
            assert_eq!(stats.delivered, size);
            tokio::task::spawn_blocking(|| reader.join().expect("all of it"))
                .await
                .expect("joined");
            let buffer = download.into_buffer();
            assert_eq!(buffer.len() as u64, size);
            assert_eq!(PATTERN.check(0, buffer.as_slice()), Ok(()));
            placement = Placement::Reuse(buffer);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_download_writes_no_more_into_a_reused_segment() {
    let server = Hostile::start().expect("a server");
    let name = fresh_name("no-more");
    let url = server.route("/first", Route::new(Object::new(8, 100 * CHUNK)));
    let mut first = in_time(
        pget::builder(&url)
            .object()
            .expect("an object")
            .get_shared(Placement::Named(name.clone())),
    )
    .await
    .expect("a download");
    in_time(first.ended()).await.expect("all of it");

    let cancel = Cancel::new();
    let builder = stuck(&server).cancel(cancel.clone());
    let mut download = in_time(
        builder
            .object()
            .expect("an object")
            .get_shared(Placement::Reuse(first.into_buffer())),
    )
    .await
    .expect("a download");
    while download.buffer().as_slice().is_empty() {
        // `wait_for` would wake a reader, but it blocks, and this is the writer's own handle.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel.trigger();
    let error = in_time(download.ended()).await.expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let path = format!("/dev/shm/{name}");
    let after = std::fs::read(&path).expect("the segment");
    let there = download.buffer().as_slice().len();
    assert!(there > 0 && there < after.len());
    assert_eq!(PATTERN.check(0, &after[..there]), Ok(()));
    // The memory is that of the first object: the last chunk was never requested again.
    let last = usize::try_from(99 * CHUNK).expect("small");
    assert_eq!(Pattern::new(8).check(99 * CHUNK, &after[last..]), Ok(()));
    // Without the server, no further bytes can arrive.
    drop(server);
    assert!(std::fs::read(&path).expect("the segment") == after);
    drop(download);
    assert!(!is_there(&name));
}

/// Runs `examples/shared.rs`. Cargo builds it, unless only this test is built.
#[test]
fn the_example_digests_in_four_processes() {
    const SIZE: u64 = (3 << 20) + 7;
    let folder = std::env::current_exe().expect("this program");
    let folder = folder.parent().and_then(|deps| deps.parent()).expect("target");
    let program = folder.join("examples/shared");
    if !program.exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{} is missing",
            program.display()
        );
        eprintln!("skipped: the example is not built (cargo build -p libpget --example shared)");
        return;
    }
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, SIZE)));
    let ended = std::process::Command::new(program)
        .arg(url)
        .output()
        .expect("it starts");
    let said = String::from_utf8(ended.stdout).expect("text");
    assert!(ended.status.success(), "{said}");
    let digest = Sha256::digest(PATTERN.bytes(0, usize::try_from(SIZE).expect("small")));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    for line in lines {
        assert!(line.starts_with(&format!("{SIZE} bytes, etag ")), "{line}");
        assert!(line.ends_with(&format!("sha256 {digest}")), "{line}");
    }
}

#[tokio::test]
async fn a_part_of_it_begins_at_its_own_start() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, 10 * CHUNK)));
    let builder = pget::builder(&url).chunk_size(CHUNK).offset(CHUNK + 7);
    let mut download = in_time(
        builder
            .clone()
            .length(2 * CHUNK)
            .object()
            .expect("an object")
            .get_shared(Placement::Anonymous),
    )
    .await
    .expect("a download");
    in_time(download.ended()).await.expect("all of it");
    let buffer = download.into_buffer();
    assert_eq!(PATTERN.check(CHUNK + 7, buffer.as_slice()), Ok(()));
    assert_eq!(buffer.len() as u64, 2 * CHUNK);
    let mut nothing = in_time(
        builder
            .length(0)
            .object()
            .expect("an object")
            .get_shared(Placement::Anonymous),
    )
    .await
    .expect("a download");
    assert_eq!(in_time(nothing.ended()).await.expect("nothing").delivered, 0);
    assert!(nothing.buffer().is_empty());
    assert_eq!(nothing.buffer().state(), State::Complete);
}

#[tokio::test]
async fn extents_without_a_gap_go_there_and_others_are_refused_before_anything_is_asked_for() {
    let server = Hostile::start().expect("a server");
    let url = server.route("/o", Route::new(Object::new(7, 10 * CHUNK)));
    let builder = pget::builder(&url).chunk_size(CHUNK);
    let into = || {
        let (made, is_made) = std::sync::mpsc::channel();
        let into = IntoShared::new(Placement::Anonymous, move |buffer| {
            made.send(buffer).expect("it is waited for");
        });
        (std::sync::Arc::new(into), is_made)
    };
    let (gaps, is_made) = into();
    let extents = [5 * CHUNK..6 * CHUNK, 0..CHUNK];
    let result = in_time(
        builder
            .object()
            .expect("an object")
            .read_extents_to(&extents, std::sync::Arc::clone(&gaps) as _),
    )
    .await;
    let error = result.expect_err("a gap");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("from 65536 to 327680"), "{error}");
    gaps.finish(Err(&error)).expect_err("the error is returned");
    assert!(is_made.try_recv().is_err());
    assert_eq!(server.served("/o"), 0);

    let (whole, is_made) = into();
    let extents = [
        3 * CHUNK..6 * CHUNK,
        CHUNK + 7..2 * CHUNK,
        9..9,
        2 * CHUNK..4 * CHUNK,
    ];
    let result = in_time(
        builder
            .object()
            .expect("an object")
            .read_extents_to(&extents, std::sync::Arc::clone(&whole) as _),
    )
    .await;
    whole.finish(result.as_ref().map(drop)).expect("all of it");
    let buffer = is_made.try_recv().expect("a segment");
    assert_eq!(buffer.len() as u64, 5 * CHUNK - 7);
    assert_eq!(buffer.state(), State::Complete);
    assert_eq!(PATTERN.check(CHUNK + 7, buffer.as_slice()), Ok(()));
}

/// Reads the end of an object of 8 TiB. No more than that end is kept in memory.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_near_the_end_of_a_huge_object() {
    const SIZE: u64 = (8 << 40) + 12_345;
    const WANTED: u64 = 5 * CHUNK + 3;
    // The start is neither at the edge of a page nor at that of a chunk.
    const START: u64 = SIZE - WANTED - 4_099;
    let server = Hostile::start().expect("a server");
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let whole = aistore::Object::pattern(7, SIZE).with_stated_checksum("xxhash2", "0123456789abcdef");
    cluster.put("bucket", "huge", whole);
    let url = server.route("/huge", Route::new(Object::new(7, SIZE)));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("huge");
    let file = std::fs::File::create_new(&path).expect("a file");
    file.set_len(SIZE).expect("a sparse file of 8 TiB");
    let tail = usize::try_from(SIZE - START).expect("small");
    file.write_all_at(&PATTERN.bytes(START, tail), START)
        .expect("room");
    for (what, builder) in [
        ("file", pget::builder(path.to_str().expect("text"))),
        ("http", pget::builder(&url)),
        (
            "aistore",
            pget::builder("ais://bucket/huge").property("ais.endpoint", cluster.endpoint()),
        ),
        ("s3", on_s3(&server, "huge", Object::new(7, SIZE))),
    ] {
        let mut placement = Placement::Anonymous;
        // The reads use new memory, the same memory again, and the memory up to the object's end.
        for (offset, length) in [(START, WANTED), (START + 1, WANTED - 7), (SIZE - 4_098, u64::MAX)] {
            let builder = builder.clone().chunk_size(CHUNK).offset(offset);
            let builder = match length {
                u64::MAX => builder,
                length => builder.length(length),
            };
            let mut download = in_time(builder.object().expect("an object").get_shared(placement))
                .await
                .expect(what);
            in_time(download.ended()).await.expect(what);
            let buffer = download.into_buffer();
            assert_eq!(buffer.len() as u64, length.min(SIZE - offset), "{what}");
            assert_eq!(PATTERN.check(offset, buffer.as_slice()), Ok(()), "{what}");
            placement = Placement::Reuse(buffer);
        }
        let whole = in_time(
            builder
                .object()
                .expect("an object")
                .get_shared(Placement::Anonymous),
        )
        .await;
        let error = whole.expect_err("no machine has so much memory");
        assert_eq!(error.kind(), ErrorKind::Destination, "{what}: {error}");
    }
}

fn stuck(server: &Hostile) -> Builder {
    let route = Route::new(Object::new(7, 100 * CHUNK)).fault(When::Later, Fault::Stall { after: 2_000 });
    pget::builder(&server.route("/stuck", route)).chunk_size(CHUNK)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_or_cancelled_or_dropped_download_fails_its_readers() {
    let server = Hostile::start().expect("a server");
    let waits = |name: String| {
        tokio::task::spawn_blocking(move || {
            let shared = SharedBuffer::attach(&name).expect("attached");
            let there = shared.wait_for(20_000).expect("the beginning").len();
            assert_eq!(PATTERN.check(0, &shared.as_slice()[..there]), Ok(()));
            shared.wait_for(shared.len()).expect_err("not all").kind()
        })
    };
    let name = fresh_name("ends");
    let begin = |builder: Builder| {
        let name = name.clone();
        async move {
            in_time(
                builder
                    .object()
                    .expect("an object")
                    .get_shared(Placement::Named(name)),
            )
            .await
            .expect("a download")
        }
    };

    let mut download = begin(
        stuck(&server)
            .stall_timeout(Duration::from_millis(300))
            .retries(0),
    )
    .await;
    let reader = waits(name.clone());
    let error = in_time(download.ended()).await.expect_err("it stalls");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(in_time(reader).await.expect("no panic"), ErrorKind::Timeout);
    drop(download);
    assert!(!is_there(&name));

    let cancel = Cancel::new();
    let mut download = begin(stuck(&server).cancel(cancel.clone())).await;
    let reader = waits(name.clone());
    while download.buffer().as_slice().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel.trigger();
    let error = in_time(download.ended()).await.expect_err("cancelled");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(in_time(reader).await.expect("no panic"), ErrorKind::Cancelled);
    drop(download);

    let download = begin(stuck(&server)).await;
    let attached = SharedBuffer::attach(&name).expect("attached");
    drop(download);
    let error = attached.wait_for(attached.len()).expect_err("dropped");
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(!is_there(&name));
}

#[tokio::test]
async fn what_cannot_begin_says_why_and_leaves_nothing() {
    let server = Hostile::start().expect("a server");
    let name = fresh_name("none");
    let refused = async |builder: Builder, name: &str| {
        in_time(
            builder
                .retries(0)
                .object()
                .expect("an object")
                .get_shared(Placement::Named(name.to_owned())),
        )
        .await
        .expect_err("refused")
        .kind()
    };
    let good = pget::builder(&server.route("/o", Route::new(Object::new(7, CHUNK))));
    let missing = pget::builder(&server.url("/missing"));
    assert_eq!(refused(missing, &name).await, ErrorKind::NotFound);
    assert_eq!(refused(good.clone(), "a/b").await, ErrorKind::InvalidArgument);
    let (unfinished, filler) = SharedBuffer::create(Placement::Anonymous, 10, "").expect("a segment");
    let reused = in_time(
        good.object()
            .expect("an object")
            .get_shared(Placement::Reuse(unfinished)),
    )
    .await;
    let error = reused.expect_err("not complete");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    drop(filler);
    assert_eq!(server.served("/o"), 0, "asked for nothing");
    std::fs::write(format!("/dev/shm/{name}"), "another's").expect("a file");
    assert_eq!(refused(good, &name).await, ErrorKind::Destination);
    std::fs::remove_file(format!("/dev/shm/{name}")).expect("removed");
    assert!(!is_there(&name));
    // The length is unknown: this server is of the oldest kind, and its body ends with the
    // connection.
    let old = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endless = pget::builder(&format!("http://{}/", old.local_addr().expect("an address")));
    let serves = std::thread::spawn(move || {
        let (mut client, _) = old.accept().expect("a client");
        // The client may close before the whole body is written.
        client
            .write_all(b"HTTP/1.0 200 OK\r\n\r\nas long as it lasts")
            .ok();
        client.read_exact(&mut [0; 16]).expect("a request");
    });
    assert_eq!(refused(endless, &name).await, ErrorKind::Unsupported);
    serves.join().expect("served");
    assert!(!is_there(&name));
}
