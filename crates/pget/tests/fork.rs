//! Fork: a child can read while its parent reads, and the parent's objects are refused in the
//! child.

use std::{
    fs,
    io::Read,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use pget::{BlockingReader, Builder, Cancel, Download, ErrorKind, Placement, Reader, SharedDownload};
use pget_http::{Client, ClientOptions};
use pget_testkit::{
    content::Pattern,
    forked::{Child, in_child},
    servers::{Authority, Nginx, NginxOptions, Validity, require},
};
use xxhash_rust::xxh64::xxh64;

const WITHIN: Duration = Duration::from_secs(120);
const SIZE: usize = (4 << 20) + 17;
const SMALL: usize = (1 << 20) + 3;

struct Servers {
    nginx: Nginx,
    client: Client,
    digest: u64,
    small_digest: u64,
}

/// Starts servers of the same object over http and https.
///
/// The client trusts the https server. All tests share the servers.
fn servers() -> Option<Servers> {
    let authority = Authority::new().expect("an authority");
    let leaf = authority
        .leaf(&["localhost"], Validity::Now)
        .expect("a certificate");
    let nginx = require(Nginx::start(&NginxOptions {
        workers: 2,
        tls: Some(leaf),
        ..NginxOptions::default()
    }))?;
    let bytes = Pattern::new(7).bytes(0, SIZE);
    nginx.put("object", &bytes).expect("written");
    nginx.put("small", &bytes[..SMALL]).expect("written");
    let mut options = ClientOptions::default();
    options.tls.platform_roots = false;
    options.tls.extra_roots = vec![authority.der()];
    Some(Servers {
        nginx,
        client: Client::new(&options).expect("sound options"),
        digest: xxh64(&bytes, 0),
        small_digest: xxh64(&bytes[..SMALL], 0),
    })
}

impl Servers {
    fn http(&self, name: &str) -> Builder {
        pget::builder(&self.nginx.url(&format!("/{name}"))).chunk_size(256 << 10)
    }

    fn https(&self, name: &str) -> Builder {
        let url = self.nginx.https_url(&format!("/{name}")).expect("it has TLS");
        pget::builder(&url)
            .client(self.client.clone())
            .chunk_size(256 << 10)
    }

    fn open(&self) -> BlockingReader {
        let object = self.http("object").blocking().expect("an object");
        object.reader().expect("opened")
    }

    fn check_small(&self, builder: &Builder) {
        self.check_object(&builder.blocking().expect("an object"));
    }

    fn check_object(&self, object: &pget::blocking::Object) {
        let mut read = Vec::new();
        let mut reader = object.reader().expect("opened");
        reader.read_to_end(&mut read).expect("read");
        assert_eq!(xxh64(&read, 0), self.small_digest);
        let mut buffer = vec![0; SMALL];
        assert_eq!(object.read_into(&mut buffer).expect("read"), SMALL);
        assert_eq!(xxh64(&buffer, 0), self.small_digest);
    }
}

/// Checks that every use of the reader is refused without a wait.
fn is_refused(mut reader: BlockingReader) {
    let refused = |error: pget::Error| assert_eq!(error.kind(), ErrorKind::Forked, "{}", error.to_line());
    let monitor = reader.monitor();
    monitor.cancel();
    assert_eq!((monitor.total(), monitor.stats()), (None, pget::Stats::default()));
    refused(reader.next_lease().expect_err("the parent's"));
    refused(reader.info().expect_err("the parent's"));
    reader.read(&mut [0; 10]).expect_err("the parent's");
    assert_eq!((reader.total(), reader.stats()), (None, pget::Stats::default()));
}

#[test]
fn case_131_two_hundred_forks_with_eight_downloads_in_flight() {
    let Some(servers) = servers() else { return };
    let (over, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for index in 0..8 {
            let (servers, over, reads) = (&servers, &over, &reads);
            scope.spawn(move || {
                let builder = match index % 2 {
                    0 => servers.http("object"),
                    _ => servers.https("object"),
                };
                let object = builder.blocking().expect("an object");
                while !over.load(Ordering::Relaxed) {
                    let digest = if index % 4 < 2 {
                        let mut buffer = vec![0; SIZE];
                        assert_eq!(object.read_into(&mut buffer).expect("read"), SIZE);
                        xxh64(&buffer, 0)
                    } else {
                        let mut read = Vec::new();
                        let mut reader = object.reader().expect("opened");
                        reader.read_to_end(&mut read).expect("read");
                        xxh64(&read, 0)
                    };
                    assert_eq!(digest, servers.digest, "in the parent");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // The readers end however the loop ends.
        let _over = Over(&over);
        let (http, https) = (servers.http("small"), servers.https("small"));
        for _ in 0..50 {
            let children: Vec<Child> = (0..4)
                .map(|index| {
                    let mut reader = servers.open();
                    let lease = reader.next_lease().expect("read").expect("bytes");
                    Child::start(WITHIN, || {
                        let first = Pattern::new(7).check(lease.offset(), &lease);
                        assert_eq!(first, Ok(()), "a lease stays readable");
                        is_refused(reader);
                        drop(lease);
                        // One reader uses settings from before the fork, the other new ones.
                        let (old, new) = match index % 2 {
                            0 => (&http, servers.https("small")),
                            _ => (&https, servers.http("small")),
                        };
                        servers.check_small(old);
                        servers.check_small(&new);
                    })
                })
                .collect();
            children.into_iter().for_each(Child::succeeds);
        }
    });
    let reads = reads.into_inner();
    assert!(reads >= 8, "the parent read on: {reads}");
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The process and its children read one object, each with its own runtime and connections.
#[test]
fn an_object_from_before_the_fork_reads_in_the_child() {
    let Some(servers) = servers() else { return };
    for builder in [servers.http("small"), servers.https("small")] {
        let object = builder.blocking().expect("an object");
        in_child(WITHIN, || servers.check_object(&object));
        servers.check_object(&object);
        in_child(WITHIN, || {
            servers.check_object(&object);
            in_child(WITHIN, || servers.check_object(&object));
            servers.check_object(&object);
        });
        servers.check_object(&object);
    }
    let source = servers
        .http("small")
        .object()
        .and_then(|object| object.source())
        .expect("a source");
    let own = pget::blocking::Object::from_source(source, pget::Settings::default()).expect("sound");
    servers.check_object(&own);
    in_child(WITHIN, || {
        let error = own.reader().expect_err("the source is the parent's");
        assert_eq!(error.kind(), ErrorKind::Forked, "{}", error.to_line());
        let error = own.stat().expect_err("the source is the parent's");
        assert_eq!(error.kind(), ErrorKind::Forked, "{}", error.to_line());
    });
    servers.check_object(&own);
}

#[test]
fn children_of_children_read_too() {
    let Some(servers) = servers() else { return };
    fn down(servers: &Servers, depth: u32, older: Option<BlockingReader>) {
        if let Some(older) = older {
            is_refused(older);
        }
        servers.check_small(&servers.https("small"));
        let own = servers.open();
        if depth > 0 {
            in_child(WITHIN, || down(servers, depth - 1, Some(own)));
        } else {
            drop(own);
        }
        servers.check_small(&servers.http("small"));
    }
    down(&servers, 5, None);
}

/// Parent and child both have process number 1.
#[test]
fn case_138_a_child_in_a_pid_namespace_of_its_own_is_told_from_its_parent() {
    use nix::{
        sched::{CloneFlags, unshare},
        unistd::getpid,
    };
    let Some(servers) = servers() else { return };
    let enter = || {
        let entered = unshare(CloneFlags::CLONE_NEWPID);
        entered.or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID))
    };
    in_child(WITHIN, || {
        if let Err(error) = enter() {
            eprintln!("skipped: no PID namespace may be made here: {error}");
            return;
        }
        in_child(WITHIN, || {
            assert_eq!(getpid().as_raw(), 1);
            servers.check_small(&servers.http("small"));
            let reader = servers.open();
            enter().expect("as before");
            in_child(WITHIN, || {
                assert_eq!(getpid().as_raw(), 1);
                is_refused(reader);
                servers.check_small(&servers.http("small"));
            });
            servers.check_small(&servers.http("small"));
        });
    });
}

/// Returns the open sockets of this process, by inode.
fn sockets() -> Vec<PathBuf> {
    let descriptors = fs::read_dir("/proc/self/fd").expect("a listing");
    descriptors
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .collect()
}

#[test]
fn the_parents_connections_are_closed_in_the_child_and_the_server_does_not_notice() {
    let Some(servers) = servers() else { return };
    for name in ["first", "first-tls", "child", "child-tls", "again", "again-tls"] {
        let small = Pattern::new(7).bytes(0, SMALL);
        servers.nginx.put(name, small).expect("written");
    }
    // Run in a process of its own, because other tests have connections too.
    in_child(WITHIN, || {
        let before = sockets();
        let connection = |path: &str| {
            let log = servers.nginx.access_log().expect("a log");
            let line = log.into_iter().rev().find(|line| line.contains(path));
            line.and_then(|line| line.split(' ').next().map(str::to_owned))
                .expect("a request")
        };
        let read = |builder: Builder| {
            let mut buffer = vec![0; SMALL];
            assert_eq!(
                builder
                    .concurrency(1)
                    .blocking()
                    .expect("an object")
                    .read_into(&mut buffer)
                    .expect("read"),
                SMALL
            );
        };
        read(servers.http("first"));
        read(servers.https("first-tls"));
        let connections: Vec<_> = sockets()
            .into_iter()
            .filter(|socket| !before.contains(socket))
            .collect();
        assert!(connections.len() >= 2, "{connections:?}");
        in_child(WITHIN, || {
            let kept: Vec<_> = sockets()
                .into_iter()
                .filter(|socket| connections.contains(socket))
                .collect();
            assert_eq!(kept, Vec::<PathBuf>::new(), "closed as the child begins");
            read(servers.http("child"));
            read(servers.https("child-tls"));
        });
        read(servers.http("again"));
        read(servers.https("again-tls"));
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(connection("/first "), connection("/again "));
        assert_eq!(connection("/first-tls "), connection("/again-tls "));
        assert_ne!(connection("/first "), connection("/child "));
    });
}

#[test]
fn whatever_is_from_before_the_fork_is_refused_and_dropped_without_harm() {
    let Some(servers) = servers() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let source = servers
        .http("object")
        .object()
        .and_then(|object| object.source())
        .expect("a source");
    let download = Download::new(source, pget::Options::default()).expect("right");
    let async_reader = runtime
        .block_on(async {
            let builder = servers.http("object").client(servers.client.clone());
            builder.object()?.reader().await
        })
        .expect("opened");
    let enter = runtime.enter();
    let ranges = servers
        .http("object")
        .object()
        .expect("an object")
        .read_ranges(vec![(0..10, vec![0; 10]), (10..SIZE as u64, vec![0; SIZE])])
        .expect("right");
    drop(enter);
    let shared = servers
        .http("object")
        .blocking()
        .expect("an object")
        .get_shared(Placement::Anonymous)
        .expect("begun");
    let async_shared = runtime
        .block_on(async {
            let object = servers.http("object").object()?;
            object.get_shared(Placement::Anonymous).await
        })
        .expect("begun");
    let cancel = Cancel::new();
    let watch = pget::blocking::when_triggered(&cancel, || {}).expect("a runtime");
    in_child(WITHIN, || {
        let forked = |error: pget::Error| assert_eq!(error.kind(), ErrorKind::Forked, "{}", error.to_line());
        let fresh = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (mut reader, mut ranges, mut shared, mut async_shared): (Reader, _, _, SharedDownload) =
            (async_reader, ranges, shared, async_shared);
        fresh.block_on(async {
            forked(reader.next().await.expect_err("the parent's"));
            forked(reader.info().await.expect_err("the parent's"));
            forked(ranges.next().await.expect_err("the parent's"));
            forked(async_shared.ended().await.expect_err("the parent's"));
            forked(download.reader().next().await.expect_err("the parent's"));
            let (result, buffer) = download.read_into(vec![0; 10]).await;
            forked(result.expect_err("the parent's"));
            assert_eq!(buffer, Some(vec![0; 10]));
        });
        forked(shared.ended().expect_err("the parent's"));
        forked(
            download
                .read_into_on(fresh.handle(), &mut [0; 10])
                .expect_err("the parent's"),
        );
        drop((reader, ranges, shared, async_shared, watch, download));
        // A cancel handle is one of the settings.
        let cancelled = servers.http("small").cancel(cancel.clone());
        servers.check_small(&cancelled);
        cancel.trigger();
        let error = cancelled
            .blocking()
            .and_then(|object| object.reader())
            .expect_err("triggered");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    });
    assert!(!cancel.is_triggered(), "the child's copy was");
}

#[test]
fn a_child_that_returns_from_the_function_of_many_ranges_is_refused() {
    let Some(servers) = servers() else { return };
    let parent = std::process::id();
    let child = Arc::new(std::sync::Mutex::new(None));
    let mut buffers = [vec![0; 1000], vec![0; SMALL]];
    let [first, second] = &mut buffers;
    let mut ranges = [(0..1000, &mut first[..]), (0..SMALL as u64, &mut second[..])];
    let read = servers
        .http("small")
        .gap(0)
        .blocking()
        .expect("an object")
        .read_ranges(&mut ranges, |_, _| {
            let mut child = child.lock().expect("not poisoned");
            if child.is_none() {
                #[allow(unsafe_code, reason = "forks")]
                // SAFETY: the child returns from here, its call is refused, and it ends.
                let forked = unsafe { nix::unistd::fork() }.expect("a process");
                *child = Some(forked);
            }
        });
    if std::process::id() != parent {
        let is_right = read.is_err_and(|error| error.kind() == ErrorKind::Forked);
        #[allow(unsafe_code, reason = "ends the child")]
        // SAFETY: `_exit` has no preconditions.
        unsafe {
            nix::libc::_exit(i32::from(!is_right))
        };
    }
    read.expect("read");
    let child = child.lock().expect("not poisoned").take();
    let Some(nix::unistd::ForkResult::Parent { child }) = child else {
        panic!("no child");
    };
    let ended = nix::sys::wait::waitpid(child, None).expect("its end");
    assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 0));
}
