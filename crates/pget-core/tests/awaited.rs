//! A writer's notifications about its consumer, and the consumer's about bytes.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use pget_core::{
    BufMut as _, ChunkWriter, Download, ErrorKind, ObjectInfo, Options, RangeRequest, RangeSource, Reply,
    Revision, SourceError,
};
use tokio::{sync::Notify, time::timeout};

const CHUNK: u64 = 1000;
const SIZE: u64 = 3 * CHUNK;
const DEADLINE: Duration = Duration::from_secs(20);

fn reply(request: &RangeRequest) -> Reply {
    Reply {
        start: request.start,
        length: Some(request.end.unwrap_or(SIZE) - request.start),
        total: Some(SIZE),
        revision: Revision {
            etag: Some("\"a\"".into()),
            ..Revision::default()
        },
        ..Reply::default()
    }
}

fn download(source: impl RangeSource + 'static) -> Download {
    let mut options = Options::default();
    options.chunk_size = Some(CHUNK);
    options.concurrency = Some(3);
    options.window = Some(3);
    Download::new(Arc::new(source), options).expect("sound options")
}

fn no_head() -> SourceError {
    SourceError::fatal(ErrorKind::Unsupported, "no head")
}

/// A source that puts one byte, and the rest of the chunk when the consumer has arrived.
#[derive(Clone, Debug, Default)]
struct Awaiting(Arc<Found>);

#[derive(Debug, Default)]
struct Found {
    far: AtomicUsize,
    may_end: Notify,
}

#[async_trait]
impl RangeSource for Awaiting {
    fn name(&self) -> String {
        "awaiting".into()
    }

    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Err(no_head())
    }

    async fn read(&self, request: &RangeRequest, mut writer: ChunkWriter) -> Result<(), SourceError> {
        writer.begin(reply(request))?;
        writer.put_u8(1);
        if request.start == 0 {
            // The other reads find that the consumer is far away.
            while self.0.far.load(Ordering::SeqCst) < 2 {
                self.0.may_end.notified().await;
            }
        } else {
            poll_fn(|cx| {
                let awaited = writer.poll_awaited(cx);
                if awaited.is_pending() {
                    self.0.far.fetch_add(1, Ordering::SeqCst);
                    self.0.may_end.notify_one();
                }
                awaited
            })
            .await;
        }
        let rest = writer.remaining_mut();
        writer.put_bytes(1, rest);
        Ok(())
    }
}

#[tokio::test]
async fn a_writer_hears_that_the_consumer_has_come_to_its_chunk() {
    let source = Awaiting::default();
    let mut reader = download(source.clone()).reader();
    let all = async {
        let mut bytes = 0;
        while let Some(lease) = reader.next().await.expect("it reads") {
            bytes += lease.len() as u64;
        }
        bytes
    };
    assert_eq!(timeout(DEADLINE, all).await, Ok(SIZE), "a writer was not woken");
    assert_eq!(source.0.far.load(Ordering::SeqCst), 2);
}

/// A source that puts a byte and waits until it was taken, for each byte.
///
/// It waits in its own poll, in a blocking thread, in another task, or in one poll that blocks.
/// There is some time between two bytes.
#[derive(Debug)]
struct Trickling {
    how: How,
    taken: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Polled,
    Blocking,
    Task,
    BlockingPoll,
}

#[async_trait]
impl RangeSource for Trickling {
    fn name(&self) -> String {
        "trickling".into()
    }

    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        Err(no_head())
    }

    async fn read(&self, request: &RangeRequest, mut writer: ChunkWriter) -> Result<(), SourceError> {
        writer.begin(reply(request))?;
        let taken = Arc::clone(&self.taken);
        // The end of its read puts the last byte of each chunk.
        let last = move |mut writer: ChunkWriter| {
            let rest = writer.remaining_mut();
            writer.put_bytes(1, rest);
        };
        if request.start > 0 {
            last(writer);
            return Ok(());
        }
        let blocks = self.how == How::BlockingPoll;
        let trickle = async move {
            // The wait is far less than the time by which an attempt is judged, even on a busy
            // machine.
            for _ in 0..6 {
                // Give the consumer time to find nothing, and to wait.
                if blocks {
                    std::thread::sleep(Duration::from_millis(2));
                } else {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                writer.put_u8(1);
                taken.notified().await;
            }
            last(writer);
        };
        match self.how {
            How::Polled => trickle.await,
            How::Task => drop(tokio::spawn(trickle).await),
            How::Blocking => {
                let runtime = tokio::runtime::Handle::current();
                drop(tokio::task::spawn_blocking(move || runtime.block_on(trickle)).await);
            }
            How::BlockingPoll => {
                let runtime = tokio::runtime::Handle::current();
                tokio::task::block_in_place(move || runtime.block_on(trickle));
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn each_byte_that_trickles_in_is_handed_out_before_the_next_one_comes() {
    for how in [How::Polled, How::Blocking, How::Task, How::BlockingPoll] {
        let taken = Arc::<Notify>::default();
        let source = Trickling {
            how,
            taken: Arc::clone(&taken),
        };
        let mut reader = download(source).reader();
        let all = async {
            let mut bytes = 0;
            while let Some(lease) = reader.next().await.expect("it reads") {
                bytes += lease.len() as u64;
                taken.notify_one();
            }
            bytes
        };
        assert_eq!(
            timeout(DEADLINE, all).await,
            Ok(SIZE),
            "{how:?}: a wake-up was lost"
        );
        // A chunk whose byte is not taken would be abandoned as a straggler.
        let stats = reader.stats();
        assert_eq!(
            (stats.requests, stats.fences),
            (3, 0),
            "{how:?}: a wake-up came late"
        );
    }
}
