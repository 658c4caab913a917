//! `FileSource` on real files: the conformance suite, and everything that is not a plain file.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use pget_core::{Download, Error, ErrorKind, Options, RangeSource, Reader};
use pget_file::FileSource;
use pget_testkit::{
    conformance::{self, Fixture},
    content::Pattern,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

const PATTERN: Pattern = Pattern::new(5);
const DEADLINE: Duration = Duration::from_secs(60);

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory for the test"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, pattern: Pattern, size: usize) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, pattern.bytes(0, size)).expect("the test's file");
        path
    }

    fn fifo(&self) -> PathBuf {
        let path = self.path("fifo");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        path
    }
}

#[async_trait]
impl Fixture for Files {
    async fn put(&self, name: &str, pattern: Pattern, size: u64) -> Arc<dyn RangeSource> {
        let size = usize::try_from(size).expect("a test file fits in memory");
        Arc::new(FileSource::new(self.file(name, pattern, size)))
    }

    async fn missing(&self) -> Arc<dyn RangeSource> {
        Arc::new(FileSource::new(self.path("missing")))
    }
}

fn options(chunk: u64, concurrency: u32, offset: u64) -> Options {
    let mut options = Options::default();
    options.chunk_size = Some(chunk);
    options.concurrency = Some(concurrency);
    options.offset = offset;
    options.retries = Some(1);
    options
}

fn reader(path: &Path, options: Options) -> Reader {
    Download::new(Arc::new(FileSource::new(path)), options)
        .expect("the options are right")
        .reader()
}

async fn read(mut reader: Reader) -> Result<Vec<u8>, Error> {
    let all = async {
        let mut bytes = Vec::new();
        while let Some(lease) = reader.next().await? {
            bytes.extend_from_slice(&lease);
        }
        Ok(bytes)
    };
    tokio::time::timeout(DEADLINE, all).await.expect("in time")
}

async fn error_of(path: &Path) -> Error {
    let error = read(reader(path, options(1000, 4, 0)))
        .await
        .expect_err("it cannot be read");
    assert!(
        error.to_string().contains(&*path.to_string_lossy()),
        "the message names the file: {error}"
    );
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conformance::run(&Files::new()).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_told_by_kind() {
    let files = Files::new();
    assert_eq!(error_of(&files.path("missing")).await.kind(), ErrorKind::NotFound);
    let file = files.file("file", PATTERN, 10);
    assert_eq!(error_of(&file.join("below")).await.kind(), ErrorKind::NotFound);
    let directory = error_of(files.0.path()).await;
    assert_eq!(directory.kind(), ErrorKind::InvalidArgument);
    assert!(directory.to_string().contains("directory"), "{directory}");
    let path = files.path("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let socket = error_of(&path).await;
    assert_eq!(socket.kind(), ErrorKind::InvalidArgument);
    assert!(socket.to_string().contains("socket"), "{socket}");
}

#[tokio::test]
async fn no_permission_is_told() {
    let files = Files::new();
    let path = files.file("secret", PATTERN, 10);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("the test's own file");
    // The superuser can read everything except sysfs files that cannot be read.
    let refused = if File::open(&path).is_err() {
        path
    } else {
        let buses = fs::read_dir("/sys/bus").expect("sysfs");
        let probe = buses
            .filter_map(Result::ok)
            .map(|bus| bus.path().join("drivers_probe"))
            .find(|path| {
                File::open(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
            });
        let Some(probe) = probe else {
            assert!(
                std::env::var_os("CI").is_none(),
                "no file that the superuser may not read"
            );
            eprintln!("skipped: no file that the superuser may not read");
            return;
        };
        probe
    };
    assert_eq!(error_of(&refused).await.kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn files_that_the_kernel_makes_up_are_streams() {
    for (concurrency, offset) in [(1, 0), (4, 0), (4, 5), (1, 5)] {
        let path = Path::new("/proc/self/status");
        let text = read(reader(path, options(64, concurrency, offset)))
            .await
            .expect("it can be read");
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(text.contains("Name:"), offset == 0, "offset {offset}: {text}");
        assert!(text.contains("nonvoluntary_ctxt_switches"), "all of it: {text}");
    }
    let zeros = read({
        let mut options = options(100_000, 4, 7);
        options.length = Some(3_000_000);
        reader(Path::new("/dev/zero"), options)
    });
    assert_eq!(
        zeros.await.expect("a part of an endless device"),
        vec![0; 3_000_000]
    );
    let null = read(reader(Path::new("/dev/null"), options(1000, 4, 0))).await;
    assert!(null.expect("an empty device").is_empty());
    let behind = read(reader(Path::new("/dev/null"), options(1000, 4, 1))).await;
    assert_eq!(behind.expect_err("it has no byte 1").kind(), ErrorKind::Range);
}

#[tokio::test]
async fn a_fifo_is_read_to_its_writers_end() {
    for (concurrency, offset) in [(1, 0), (4, 0), (4, 100_001)] {
        let files = Files::new();
        let path = files.fifo();
        let writer = std::thread::spawn({
            let path = path.clone();
            move || {
                let mut fifo = OpenOptions::new()
                    .write(true)
                    .open(path)
                    .expect("waits for the reader");
                let bytes = PATTERN.bytes(0, 1_000_000);
                fifo.write_all(&bytes[..400_000]).expect("the reader reads");
                fifo.write_all(&bytes[400_000..]).expect("the reader reads");
            }
        });
        let bytes = read(reader(&path, options(70_000, concurrency, offset)))
            .await
            .expect("a stream");
        assert_eq!(bytes.len() as u64, 1_000_000 - offset);
        assert_eq!(PATTERN.check(offset, &bytes), Ok(()));
        writer.join().expect("the writer is done");
    }
}

/// Checks that no blocking thread hangs: the drop of a runtime waits for its blocking threads.
#[test]
fn a_fifo_that_nobody_writes_to_is_let_go_on_drop() {
    let files = Files::new();
    let path = files.fifo();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut reader = reader(&path, options(1000, 4, 0));
            reader.info().await.expect("the stream has begun");
            assert!(futures_pending(&mut reader).await, "there is no byte yet");
            drop(reader);
        });
        drop(runtime);
        done.send(()).expect("the test waits");
    });
    ended.recv_timeout(DEADLINE).expect("the blocking thread ends");
}

/// Returns whether the reader has no bytes yet.
async fn futures_pending(reader: &mut Reader) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(reader.poll_lease(cx).is_pending())).await
}

const SPARSE: u64 = 64 << 30;

#[tokio::test]
async fn the_end_of_a_large_sparse_file() {
    let files = Files::new();
    let path = files.path("sparse");
    let file = File::create(&path).expect("a file");
    file.set_len(SPARSE).expect("sparse files");
    let tail = SPARSE - 5_000_001;
    file.write_all_at(&PATTERN.bytes(tail, 5_000_001), tail)
        .expect("its end has content");
    drop(file);
    for (offset, length, concurrency) in [
        (tail, None, 4),
        (tail, None, 1),
        (tail + 1_234_567, Some(2_000_000), 16),
        (SPARSE - 1, None, 2),
    ] {
        let mut options = options(300_000, concurrency, offset);
        options.length = length;
        let bytes = read(reader(&path, options)).await.expect("the end can be read");
        assert_eq!(bytes.len() as u64, length.unwrap_or(SPARSE - offset));
        assert_eq!(PATTERN.check(offset, &bytes), Ok(()));
    }
}

/// Reads the first lease of a file, calls `change`, and reads the rest.
///
/// The window is too small for the whole file, so the read is still under way during the change.
async fn changed_while_read(concurrency: u32, change: impl FnOnce(&Path)) -> (Vec<u8>, Result<(), Error>) {
    let files = Files::new();
    let path = files.file("file", PATTERN, 3_000_000);
    let mut options = options(100_000, concurrency, 0);
    options.window = Some(2);
    let mut reader = reader(&path, options);
    let mut bytes = reader
        .next()
        .await
        .expect("the first bytes")
        .expect("not empty")
        .to_vec();
    change(&path);
    let rest = async {
        while let Some(lease) = reader.next().await? {
            bytes.extend_from_slice(&lease);
        }
        Ok(())
    };
    let result = tokio::time::timeout(DEADLINE, rest).await.expect("in time");
    (bytes, result)
}

/// The name of a change, and the function that makes it.
type Change<'a> = (&'a str, &'a dyn Fn(&Path));

#[tokio::test]
async fn a_file_that_changes_under_way_is_told() {
    let write = |path: &Path| {
        let file = OpenOptions::new().write(true).open(path).expect("the file");
        file.write_all_at(b"other", 2_000_000).expect("a write");
    };
    let append = |path: &Path| {
        let mut file = OpenOptions::new().append(true).open(path).expect("the file");
        file.write_all(b"more").expect("an append");
    };
    let truncate = |path: &Path| {
        let file = OpenOptions::new().write(true).open(path).expect("the file");
        file.set_len(1_500_000).expect("a cut");
    };
    let refill = |path: &Path| fs::write(path, Pattern::new(6).bytes(0, 3_000_000)).expect("a new content");
    let touch = |path: &Path| {
        let file = OpenOptions::new().write(true).open(path).expect("the file");
        let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
        file.set_times(times).expect("its own file");
    };
    let changes: [Change<'_>; 5] = [
        ("write", &write),
        ("append", &append),
        ("truncate", &truncate),
        ("refill", &refill),
        ("touch", &touch),
    ];
    for (name, change) in changes {
        for concurrency in [1, 4] {
            let (bytes, result) = changed_while_read(concurrency, change).await;
            let error = result.expect_err(name);
            assert_eq!(error.kind(), ErrorKind::ObjectChanged, "{name}: {error}");
            assert_eq!(
                PATTERN.check(0, &bytes),
                Ok(()),
                "{name}: bytes of the new content came through"
            );
        }
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_is_never_mixed_with_the_new_one() {
    let replace = |path: &Path| {
        let other = path.with_extension("new");
        fs::write(&other, Pattern::new(6).bytes(0, 3_000_000)).expect("another file");
        fs::rename(other, path).expect("a rename");
    };
    for concurrency in [1, 4] {
        // The old file stays open, so it could still be read. The loss of its name changes its
        // inode's time, so the read may also report a change.
        let (bytes, result) = changed_while_read(concurrency, replace).await;
        match result {
            Ok(()) => assert_eq!(bytes.len(), 3_000_000),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ObjectChanged, "{error}"),
        }
        assert_eq!(
            PATTERN.check(0, &bytes),
            Ok(()),
            "bytes of the new file came through"
        );
    }
}
