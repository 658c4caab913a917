//! Resumed files: whatever the journal contains, the bytes are right.

use std::{fs, os::unix::fs::FileExt as _, path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pget::{
    Builder, Cancel, ErrorKind, Verify,
    verify::{Algorithm, Hasher},
};
use pget_testkit::hostile::{Fault, Hostile, Object, Route, When};

const CHUNK: u64 = 16 << 10;
const SIZE: u64 = 12 * CHUNK + 3;

fn builder(url: &str) -> Builder {
    pget::builder(url)
        .chunk_size(CHUNK)
        .concurrency(2)
        .retries(0)
        .resume(true)
}

fn good() -> Route {
    Route::new(Object::new(7, SIZE))
}

fn right(path: &Path) -> bool {
    let bytes = fs::read(path).expect("a file");
    bytes.len() as u64 == SIZE && Object::new(7, SIZE).pattern.check(0, &bytes).is_ok()
}

/// Runs the download on a thread, so that the test cannot hang.
fn get(builder: &Builder, path: &Path) -> Result<pget::Stats, pget::Error> {
    let (send, receive) = std::sync::mpsc::channel();
    let (builder, path) = (builder.clone(), path.to_owned());
    std::thread::spawn(move || {
        // Ignore an error: the test may have ended.
        send.send(builder.blocking().and_then(|object| object.get_file(&path)))
            .ok();
    });
    receive.recv_timeout(Duration::from_secs(20)).expect("no end")
}

#[test]
fn whatever_byte_of_a_journal_is_garbled_the_file_is_right() {
    let server = Hostile::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (part, journal, file) = (at("x.pget-part"), at("x.pget-journal"), at("x"));
    let url = server.route("/o", good().fault(When::From(5), Fault::status(503)));
    get(&builder(&url), &file).expect_err("it ends early");
    let bytes = fs::read(&journal).expect("a journal");
    let left = fs::read(&part).expect("a part");
    let right_bytes = Object::new(7, SIZE).pattern.bytes(0, left.len());
    server.route("/o", good());
    // The journal writes its second slot first. The file before it is empty.
    let written = bytes.iter().position(|byte| *byte != 0).expect("a slot");
    let mut went_on = 0;
    for at in (written..bytes.len()).chain([0]) {
        let mut garbled = bytes.clone();
        garbled[at] ^= if at % 2 == 0 { 0x01 } else { 0xff };
        // Recreate the file that the journal describes: the earlier bytes, and garbage in the gaps.
        if file.exists() {
            fs::rename(&file, &part).expect("renamed");
        }
        let is_right = |(is, should): (&u8, &u8)| if is == should { *is } else { 0xaa };
        let content: Vec<u8> = left.iter().zip(&right_bytes).map(is_right).collect();
        let is = fs::OpenOptions::new().write(true).open(&part).expect("a part");
        is.write_all_at(&content, 0).expect("written");
        fs::write(&journal, &garbled).expect("written");
        let stats = get(&builder(&url), &file).expect("it is read");
        assert!(right(&file), "with byte {at} of {} garbled", bytes.len());
        assert!(!journal.exists() && !part.exists());
        went_on += u64::from(stats.delivered < SIZE);
    }
    // Only a change before the slot leaves the journal valid.
    assert_eq!(went_on, 1);
}

#[test]
fn a_cancelled_one_leaves_the_part_free_for_the_next() {
    let server = Hostile::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x");
    let pace = Fault::Pace {
        bytes_per_second: SIZE,
    };
    let url = server.route("/o", good().fault(When::Always, pace));
    for turn in 0..10 {
        let cancel = Cancel::new();
        let some = 3 * CHUNK + turn;
        let trigger = cancel.clone();
        let cancelled = builder(&url)
            .cancel(cancel)
            .journal_interval(Duration::from_millis(10))
            .progress(move |progress| {
                if progress.stats.received >= some {
                    trigger.trigger();
                }
            });
        match get(&cancelled, &file) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
            // The download was faster, or few bytes were missing.
            Ok(_) => assert!(right(&file)),
        }
    }
    server.route("/o", good());
    get(&builder(&url), &file).expect("it is free");
    assert!(right(&file));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
fn the_asynchronous_form_goes_on_too_and_a_dropped_one_frees_the_part() {
    let server = Hostile::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x");
    let url = server.route("/o", good().fault(When::From(5), Fault::status(503)));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let get = |builder: Builder| {
        let file = file.clone();
        async move {
            let object = builder.object().expect("an object");
            tokio::time::timeout(Duration::from_secs(20), object.get_file(&file))
                .await
                .expect("no end")
        }
    };
    let failed = runtime.block_on(get(builder(&url))).expect_err("it ends early");
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    let stall = Fault::Stall { after: CHUNK / 2 };
    server.route("/o", good().fault(When::Always, stall));
    let before = server.load().body_bytes;
    let dropped = runtime.spawn(get(builder(&url)));
    runtime.block_on(async {
        let some = server.wait_until(|server| server.load().body_bytes > before);
        tokio::time::timeout(Duration::from_secs(20), some)
            .await
            .expect("it reads");
        dropped.abort();
        assert!(dropped.await.expect_err("it was dropped").is_cancelled());
        let closed = server.wait_until(|server| server.load().open == 0);
        tokio::time::timeout(Duration::from_secs(20), closed)
            .await
            .expect("it lets go");
    });
    server.route("/o", good());
    // The last owner of the part is a task that ends by itself.
    let stats = runtime.block_on(async {
        for _ in 0..2000 {
            match get(builder(&url)).await {
                Err(error) if error.to_string().contains("another pget") => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                result => return result,
            }
        }
        panic!("it stays locked");
    });
    assert!(stats.expect("it is free").delivered < SIZE, "it went on");
    assert!(right(&file));
    // A pipe is read in order.
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).expect("what came")
    });
    let stats = runtime
        .block_on(async { builder(&url).sync(true).object()?.get_file(&pipe).await })
        .expect("it is read");
    assert_eq!(stats.delivered, SIZE);
    assert_eq!(reader.join().expect("a reader").len() as u64, SIZE);
}

#[test]
fn two_threads_of_a_process_do_not_mix() {
    let server = Arc::new(Hostile::start().expect("a server"));
    let folder = tempfile::tempdir().expect("a folder");
    let urls = [7, 8].map(|seed| server.route(&format!("/{seed}"), Route::new(Object::new(seed, SIZE))));
    let file = folder.path().join("x");
    let done: usize = std::thread::scope(|scope| {
        let threads = urls.each_ref().map(|url| {
            let file = &file;
            scope.spawn(move || {
                let mut done = 0;
                for _ in 0..50 {
                    match get(&builder(url).resume(false), file) {
                        Ok(_) => done += 1,
                        Err(error) => assert!(error.to_string().contains("another pget"), "{error}"),
                    }
                    let bytes = fs::read(file).unwrap_or_default();
                    let is = |seed| {
                        bytes.len() as u64 == SIZE && Object::new(seed, SIZE).pattern.check(0, &bytes).is_ok()
                    };
                    assert!(bytes.is_empty() || is(7) || is(8), "they are mixed");
                }
                done
            })
        });
        threads
            .into_iter()
            .map(|thread| thread.join().expect("it holds"))
            .sum()
    });
    assert!(done > 0);
}

#[test]
fn what_is_there_must_be_what_the_caller_has_pinned() {
    let server = Hostile::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x");
    let url = server.route("/o", good());
    let pinned = builder(&url)
        .blocking()
        .expect("an object")
        .stat()
        .expect("it is there");
    let mut other = pinned.clone();
    other.revision.etag = Some("\"other\"".into());
    server.route("/o", good().fault(When::From(5), Fault::status(503)));
    get(&builder(&url), &file).expect_err("it ends early");
    server.route("/o", good());
    let before = server.requests("/o").len();
    let names = || fs::read_dir(folder.path()).expect("a folder").count();
    for wrong in [
        other,
        pget::ObjectInfo {
            size: Some(SIZE + 1),
            ..pinned.clone()
        },
    ] {
        let error = get(&builder(&url).pin(wrong), &file).expect_err("it is not that");
        assert_eq!(error.kind(), ErrorKind::ObjectChanged, "{error}");
        assert!(
            error.to_string().contains("without resume to start over"),
            "{error}"
        );
        assert_eq!(
            (names(), server.requests("/o").len()),
            (2, before),
            "nothing was touched"
        );
    }
    let stats = get(&builder(&url).pin(pinned), &file).expect("it is that");
    assert!(stats.delivered < SIZE, "it went on");
    assert!(right(&file));
}

#[test]
fn the_same_name_in_another_cluster_or_store_is_another_object() {
    use pget_testkit::aistore::{self, Cluster, ClusterOptions, Rule};
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    // Bytes, checksum and version are the same in both clusters, so no reply distinguishes them.
    let clusters = [(); 2].map(|()| runtime.block_on(Cluster::start(ClusterOptions::default())));
    let ais = |cluster: &Cluster| builder("ais://bucket/o").property("ais.endpoint", cluster.endpoint());
    for cluster in &clusters {
        cluster.put("bucket", "o", aistore::Object::pattern(7, SIZE));
    }
    let [one, two] = clusters.each_ref();
    let busy = Rule::new(aistore::Fault::Status(503))
        .object("o")
        .at_targets()
        .skip(4)
        // If a target refuses, the client first asks the proxy.
        .times(u64::MAX);
    one.inject(busy);
    get(&ais(one), &at("x")).expect_err("it ends early");
    one.clear_rules();
    let error = get(&ais(two), &at("x")).expect_err("it is another cluster");
    assert_eq!(error.kind(), ErrorKind::Destination, "{error}");
    assert!(
        error.to_string().contains("another address or endpoint"),
        "{error}"
    );
    let trailing = builder("ais://bucket/o").property("ais.endpoint", format!("{}/", one.endpoint()));
    let stats = get(&trailing, &at("x")).expect("the same cluster, written otherwise");
    assert!(stats.delivered < SIZE, "it went on");
    assert!(right(&at("x")));

    let stores = [(); 2].map(|()| Hostile::start().expect("a server"));
    let s3 = |store: &Hostile, key: &str| {
        builder("s3://bucket/o")
            .property("aws.endpoint", store.url("").trim_end_matches('/'))
            .property("aws.access_key_id", key)
            .property("aws.secret_access_key", "secret")
    };
    let busy = good().fault(When::From(5), Fault::status(503));
    let [one, two] = stores.each_ref();
    one.route("/bucket/o", busy);
    two.route("/bucket/o", good());
    get(&s3(one, "key"), &at("y")).expect_err("it ends early");
    one.route("/bucket/o", good());
    let error = get(&s3(two, "key"), &at("y")).expect_err("it is another store");
    assert!(
        error.to_string().contains("another address or endpoint"),
        "{error}"
    );
    // The key that reads the object does not matter.
    let stats = get(&s3(one, "another"), &at("y")).expect("the same store");
    assert!(stats.delivered < SIZE, "it went on");
    assert!(right(&at("y")));
}

#[test]
fn what_cannot_be_verified_leaves_what_is_there() {
    let server = Hostile::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x");
    let names = || fs::read_dir(folder.path()).expect("a folder").count();
    let url = server.route("/o", good().fault(When::From(5), Fault::status(503)));
    get(&builder(&url), &file).expect_err("it ends early");
    assert_eq!(names(), 2);
    // Its server publishes no checksum.
    server.route("/o", good());
    let error = get(&builder(&url).verify(Verify::Require), &file).expect_err("it cannot be verified");
    assert_eq!(error.kind(), ErrorKind::Unverifiable, "{error}");
    assert_eq!(names(), 2, "nothing was wrong with what is there");
    let stats = get(&builder(&url), &file).expect("it goes on");
    assert!(stats.delivered < SIZE);
    assert!(right(&file));
}

#[test]
fn options_that_cannot_be_used_touch_nothing() {
    let server = Hostile::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x");
    let names = || fs::read_dir(folder.path()).expect("a folder").count();
    let url = server.route("/o", good().fault(When::From(5), Fault::status(503)));
    let range = builder(&url).offset(10);
    for left in [0, 2] {
        let error = get(&range.clone().verify(Verify::Require), &file).expect_err("a range has no checksum");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert_eq!(names(), left, "whether there is a journal or not");
        get(&range, &file).expect_err("it ends early");
    }
    server.route("/o", good());
    let stats = get(&range, &file).expect("it goes on");
    assert!(stats.delivered < SIZE - 10);
}

/// Returns the object, with its crc32c in each answer.
fn published() -> Object {
    let mut hasher = Hasher::new(Algorithm::Crc32c);
    hasher.update(
        &Object::new(7, SIZE)
            .pattern
            .bytes(0, usize::try_from(SIZE).expect("small")),
    );
    let text = BASE64_STANDARD.encode(hasher.finish().bytes());
    let mut object = Object::new(7, SIZE);
    object
        .headers
        .push(("x-goog-hash".into(), format!("crc32c={text}")));
    object
}

fn got(server: &Hostile, path: &str) -> usize {
    let requests = server.requests(path);
    requests.iter().filter(|seen| seen.method == "GET").count()
}

#[test]
fn a_complete_file_is_recognised_by_its_checksum_and_nothing_else() {
    let server = Hostile::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x");
    let url = server.route("/o", Route::new(published()));
    let unpublished = server.route("/unpublished", good());
    get(&builder(&url), &file).expect("it is read");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for is_blocking in [true, false] {
        let before = got(&server, "/o");
        let builder = builder(&url).sync(true);
        let stats = if is_blocking {
            get(&builder, &file)
        } else {
            runtime.block_on(async { builder.object()?.get_file(&file).await })
        };
        let stats = stats.expect("it is there");
        assert_eq!(
            (stats.delivered, stats.received),
            (0, 0),
            "nothing was read again"
        );
        assert_eq!(stats.verification.verified(), Some(Algorithm::Crc32c));
        assert_eq!(got(&server, "/o"), before, "no range was asked for");
    }
    // Whatever raises a doubt about the file, the object is read again.
    let flipped = || {
        let whole = fs::OpenOptions::new().write(true).open(&file).expect("a file");
        whole.write_all_at(&[0xaa], SIZE / 2).expect("written");
    };
    let longer = || {
        let whole = fs::OpenOptions::new().write(true).open(&file).expect("a file");
        whole.write_all_at(&[0xaa], SIZE).expect("written");
    };
    let linked = || {
        fs::rename(&file, folder.path().join("elsewhere")).expect("renamed");
        std::os::unix::fs::symlink("elsewhere", &file).expect("linked");
    };
    let nothing = || {};
    let doubts: [(&str, &dyn Fn(), Builder); 6] = [
        ("another byte", &flipped, builder(&url)),
        ("another length", &longer, builder(&url)),
        ("a symbolic link", &linked, builder(&url)),
        ("no resume", &nothing, builder(&url).resume(false)),
        ("no verification", &nothing, builder(&url).verify(Verify::Off)),
        ("no checksum", &nothing, builder(&unpublished)),
    ];
    for (doubt, make, builder) in doubts {
        make();
        let stats = get(&builder, &file).unwrap_or_else(|error| panic!("{doubt}: {error}"));
        assert_eq!(stats.received, SIZE, "{doubt}");
        assert!(right(&file), "{doubt}");
    }
}
