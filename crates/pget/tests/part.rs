//! The part of a file whose name is taken, and targets that have no part.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::Mode,
};
use pget::{Builder, Cancel, ErrorKind};
use pget_testkit::hostile::{Hostile, Object, Route};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn a_file_named_as_the_part_is_not_destroyed_by_reading_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("x.pget-part");
    let linked = folder.path().join("other");
    fs::write(&source, b"all there is").expect("written");
    fs::hard_link(&source, &linked).expect("linked");
    for name in [&source, &linked] {
        let address = name.to_str().expect("a path");
        let result = pget::builder(address)
            .blocking()
            .expect("an object")
            .get_file(&folder.path().join("x"));
        assert_eq!(
            result.expect_err("it would have to be emptied").kind(),
            ErrorKind::Destination
        );
        assert_eq!(fs::read(&source).expect("it is there"), b"all there is");
    }
    let copy = folder.path().join("y");
    let stats = pget::builder(source.to_str().expect("a path"))
        .blocking()
        .expect("an object")
        .get_file(&copy);
    assert_eq!(stats.expect("another name is free").delivered, 12);
}

#[test]
fn a_target_that_names_no_file_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::write(&source, b"all there is").expect("written");
    let below = folder.path().join("absent/");
    for target in [Path::new(""), below.as_path()] {
        let result = pget::builder(source.to_str().expect("a path"))
            .blocking()
            .expect("an object")
            .get_file(target);
        let error = result.expect_err("there is no name for the file");
        assert_eq!(error.kind(), ErrorKind::Destination, "{error}");
        assert!(error.to_string().contains("names no file"), "{error}");
        assert!(!Path::new(".pget-part").exists(), "a part without a name");
    }
}

#[test]
fn no_file_gets_a_name_that_a_part_or_journal_may_have() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::write(&source, b"all there is").expect("written");
    for name in ["x.pget-part", "x.pget-journal"] {
        let result = pget::builder(source.to_str().expect("a path"))
            .blocking()
            .expect("an object")
            .get_file(&folder.path().join(name));
        let error = result.expect_err("the read of x would take it for its own");
        assert_eq!(error.kind(), ErrorKind::Destination, "{error}");
        assert!(error.to_string().contains("not complete"), "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

/// A pipe, and an object that is larger than the pipe's capacity.
struct Pipe {
    server: Hostile,
    builder: Builder,
    cancel: Cancel,
    path: PathBuf,
    _folder: TempDir,
}

impl Pipe {
    fn new() -> Self {
        let server = Hostile::start().expect("a server");
        let url = server.route("/o", Route::new(Object::new(7, 4 << 20)));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("a pipe");
        let cancel = Cancel::new();
        Self {
            server,
            builder: pget::builder(&url).chunk_size(16 << 10).cancel(cancel.clone()),
            cancel,
            path,
            _folder: folder,
        }
    }

    /// Runs the download on a thread, so that the test cannot hang.
    fn get(&self) -> mpsc::Receiver<Result<pget::Stats, pget::Error>> {
        let (send, receive) = mpsc::channel();
        let (builder, path) = (self.builder.clone(), self.path.clone());
        std::thread::spawn(move || {
            // Ignore an error: the test may have ended.
            send.send(builder.blocking().expect("an object").get_file(&path))
                .ok();
        });
        receive
    }

    fn until_something_is_served(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let served = self.server.wait_until(|server| server.load().body_bytes > 0);
        runtime
            .block_on(async { tokio::time::timeout(DEADLINE, served).await })
            .expect("it reads");
    }
}

fn open(path: &Path, how: &fs::OpenOptions) -> fs::File {
    let mut how = how.clone();
    how.custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .expect("the pipe")
}

#[test]
fn a_cancel_ends_what_waits_for_a_pipe_with_room() {
    let pipe = Pipe::new();
    let _reader = open(&pipe.path, fs::OpenOptions::new().read(true));
    let ended = pipe.get();
    let writer = open(&pipe.path, fs::OpenOptions::new().write(true));
    let is_full = || {
        use std::os::fd::AsFd as _;
        let room = PollFd::new(writer.as_fd(), PollFlags::POLLOUT);
        poll(&mut [room], PollTimeout::ZERO).expect("a pipe") == 0
    };
    // The test can observe only the pipe.
    let deadline = Instant::now() + DEADLINE;
    while !is_full() {
        assert!(Instant::now() < deadline, "it does not write");
        std::thread::sleep(Duration::from_millis(1));
    }
    pipe.cancel.trigger();
    let ended = ended.recv_timeout(DEADLINE).expect("no end");
    assert_eq!(ended.expect_err("it is cancelled").kind(), ErrorKind::Cancelled);
}

#[test]
fn a_cancel_ends_what_waits_for_a_pipes_reader() {
    let pipe = Pipe::new();
    let ended = pipe.get();
    pipe.until_something_is_served();
    pipe.cancel.trigger();
    let ended = ended.recv_timeout(DEADLINE).expect("no end");
    assert_eq!(ended.expect_err("it is cancelled").kind(), ErrorKind::Cancelled);
}

#[test]
fn a_dropped_future_waits_for_no_reader_of_its_pipe() {
    let pipe = Pipe::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (builder, path) = (pipe.builder.clone(), pipe.path.clone());
    let get = runtime.spawn(async move { builder.object()?.get_file(&path).await });
    pipe.until_something_is_served();
    get.abort();
    let (send, ended) = mpsc::channel();
    // The drop of the runtime waits for the threads that may block.
    std::thread::spawn(move || {
        drop(runtime);
        send.send(())
    });
    ended.recv_timeout(DEADLINE).expect("no end");
}

/// Returns the result of `work` within a deadline. `work` may wait for a writer that never comes.
fn within<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, done) = mpsc::channel();
    std::thread::spawn(move || send.send(work()));
    done.recv_timeout(DEADLINE).expect("no end")
}

#[test]
fn a_pipe_whose_reader_comes_late_or_leaves() {
    let pipe = Pipe::new();
    let ended = pipe.get();
    pipe.until_something_is_served();
    let path = pipe.path.clone();
    let bytes = within(move || fs::read(&path).expect("what came"));
    assert_eq!(Object::new(7, 4 << 20).pattern.check(0, &bytes), Ok(()));
    let stats = ended.recv_timeout(DEADLINE).expect("no end").expect("it is read");
    assert_eq!((stats.delivered, bytes.len()), (4 << 20, 4 << 20));
    let ended = pipe.get();
    let path = pipe.path.clone();
    drop(within(move || fs::File::open(&path).expect("the pipe")));
    let error = ended.recv_timeout(DEADLINE).expect("no end");
    assert_eq!(
        error.expect_err("there is no reader").kind(),
        ErrorKind::Destination
    );
}
