//! Sources inside the process: one that serves a [`Pattern`] as it should, and the same one made to fail on purpose, read by read.
//!
//! A [`Staged`] source asks its script before each read how that read is to go (a [`Play`]), and keeps a ledger of what it was asked and what it gave, so that a test can say
//! that a fault was met and how many requests it took. Called by tests; no network, no randomness.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use pget_core::{
    BufMut, ChunkWriter, ErrorKind, ObjectInfo, Published, RangeRequest, RangeSource, Reply, Revision,
    SourceError,
};

use crate::content::Pattern;

/// One revision of an object: its bytes and what is said of it.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its bytes.
    pub pattern: Pattern,
    /// How many of them.
    pub size: u64,
    /// Its identity.
    pub revision: Revision,
    /// What [`Reply::chunk_hint`] says.
    pub chunk_hint: Option<u64>,
    /// What [`Reply::checksum`] says.
    pub checksum: Option<Published>,
}

impl Object {
    /// `size` bytes of the pattern of `seed`, with a strong `ETag` that names both.
    #[must_use]
    pub fn new(seed: u64, size: u64) -> Self {
        Self {
            pattern: Pattern::new(seed),
            size,
            revision: Revision {
                etag: Some(format!("\"{seed}-{size}\"")),
                ..Revision::default()
            },
            chunk_hint: None,
            checksum: None,
        }
    }

    /// The same without anything that identifies its content.
    #[must_use]
    pub fn without_identity(mut self) -> Self {
        self.revision = Revision::default();
        self
    }

    /// The reply with the bytes of `range`, as a server should answer.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> Reply {
        Reply {
            start: range.start,
            length: Some(range.end.saturating_sub(range.start)),
            total: Some(self.size),
            whole: false,
            revision: self.revision.clone(),
            chunk_hint: self.chunk_hint,
            checksum: self.checksum,
        }
    }
}

/// What a reply says of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The range asked for, cut at the object's end.
    Range,
    /// At most this many bytes of it, and says so.
    Clipped(u64),
    /// The range shifted by one byte, as a broken server answers.
    Shifted,
    /// The range, without the object's size.
    RangeWithoutTotal,
    /// The whole object, with its size.
    Whole,
    /// The whole object; only the end of the body tells its size.
    WholeUntilEnd,
}

/// How a body stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// As its framing says.
    End,
    /// By a failure that another attempt may mend.
    Retry(ErrorKind),
    /// By a failure for good.
    Fatal(ErrorKind),
    /// The server asks for fewer requests.
    Throttle(Option<Duration>),
    /// It neither ends nor goes on.
    Stall,
    /// The source panics.
    Panic,
}

/// How one read goes.
#[derive(Clone, Debug)]
pub struct Play {
    /// The revision that is served.
    pub object: Object,
    /// What the reply says.
    pub form: Form,
    /// How many times [`ChunkWriter::begin`] is called: once, or wrongly.
    pub begins: u32,
    /// Before the reply.
    pub delay: Duration,
    /// Bytes put at a time.
    pub piece: usize,
    /// Before each piece.
    pub pace: Duration,
    /// Bytes of the body before it stops as `stop` says; a body that is all put stops before, well.
    pub bytes: u64,
    /// How it stops.
    pub stop: Stop,
    /// Keep the bytes back until the body has ended well.
    pub withhold: bool,
}

impl Play {
    /// `object` as it should be served.
    #[must_use]
    pub const fn right(object: Object) -> Self {
        Self {
            object,
            form: Form::Range,
            begins: 1,
            delay: Duration::ZERO,
            piece: 64 << 10,
            pace: Duration::ZERO,
            bytes: u64::MAX,
            stop: Stop::End,
            withhold: false,
        }
    }

    /// The same, with another reply.
    #[must_use]
    pub const fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// The same, but it stops after `bytes`.
    #[must_use]
    pub const fn stop(mut self, bytes: u64, stop: Stop) -> Self {
        self.bytes = bytes;
        self.stop = stop;
        self
    }

    /// The same in pieces of `piece` bytes with a pause of `pace` before each.
    #[must_use]
    pub const fn paced(mut self, piece: usize, pace: Duration) -> Self {
        self.piece = piece;
        self.pace = pace;
        self
    }

    /// The same with its reply after `delay`.
    #[must_use]
    pub const fn delayed(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// One read, as it was asked for.
#[derive(Clone, Debug)]
pub struct Call {
    /// How many reads came before.
    pub number: usize,
    /// What is asked for.
    pub request: RangeRequest,
}

/// How each read goes.
type Script = dyn Fn(&Call) -> Play + Send + Sync;

/// A source that does what its script says.
pub struct Staged {
    script: Box<Script>,
    head: Mutex<Option<Object>>,
    calls: Mutex<Vec<Call>>,
    heads: AtomicUsize,
    active: AtomicUsize,
    most_active: AtomicUsize,
    served: AtomicU64,
}

impl Staged {
    /// A source whose reads go as `script` says.
    pub fn new(script: impl Fn(&Call) -> Play + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            head: Mutex::new(None),
            calls: Mutex::new(Vec::new()),
            heads: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            most_active: AtomicUsize::new(0),
            served: AtomicU64::new(0),
        })
    }

    /// A source that always serves `object`, as it should.
    pub fn right(object: Object) -> Arc<Self> {
        let source = Self::new({
            let object = object.clone();
            move |_| Play::right(object.clone())
        });
        source.set_head(object);
        source
    }

    /// What [`RangeSource::head`] tells; until then it fails.
    pub fn set_head(&self, object: Object) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(object);
    }

    /// Every read so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often [`RangeSource::head`] was asked.
    pub fn heads(&self) -> usize {
        self.heads.load(Ordering::SeqCst)
    }

    /// Reads that are neither ended nor dropped.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// The most of them at any time.
    pub fn most_active(&self) -> usize {
        self.most_active.load(Ordering::SeqCst)
    }

    /// Bytes put so far, skipped ones included.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged")
            .field("calls", &self.calls().len())
            .field("served", &self.served())
            .finish_non_exhaustive()
    }
}

/// Counts a read for as long as it lives.
struct Active<'a>(&'a Staged);

impl<'a> Active<'a> {
    fn new(source: &'a Staged) -> Self {
        let now = source.active.fetch_add(1, Ordering::SeqCst) + 1;
        source.most_active.fetch_max(now, Ordering::SeqCst);
        Self(source)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl RangeSource for Staged {
    async fn head(&self) -> Result<ObjectInfo, SourceError> {
        self.heads.fetch_add(1, Ordering::SeqCst);
        let object = self.head.lock().unwrap_or_else(PoisonError::into_inner).clone();
        object.map_or_else(
            || {
                Err(SourceError::fatal(
                    ErrorKind::Unsupported,
                    "this source tells nothing",
                ))
            },
            |object| {
                Ok(ObjectInfo {
                    size: Some(object.size),
                    revision: object.revision,
                    chunk_hint: object.chunk_hint,
                    ranges: Some(true),
                    checksum: object.checksum,
                })
            },
        )
    }

    async fn read(&self, request: &RangeRequest, mut chunk: ChunkWriter) -> Result<(), SourceError> {
        let _active = Active::new(self);
        let call = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let call = Call {
                number: calls.len(),
                request: request.clone(),
            };
            calls.push(call.clone());
            call
        };
        let play = (self.script)(&call);
        if !play.delay.is_zero() {
            tokio::time::sleep(play.delay).await;
        }
        let size = play.object.size;
        let is_part = !matches!(play.form, Form::Whole | Form::WholeUntilEnd);
        if is_part && request.start >= size && play.begins > 0 {
            return Err(SourceError::fatal(
                ErrorKind::Range,
                "the range starts behind the end",
            ));
        }
        let (reply, end) = reply(&play, request);
        let mut at = reply.start;
        for _ in 0..play.begins {
            chunk.begin(reply.clone())?;
        }
        if play.withhold {
            chunk.withhold()?;
        }
        let mut left = play.bytes;
        loop {
            let body = (end - at).min(left);
            if body == 0 {
                break;
            }
            if !chunk.ready().await? {
                break;
            }
            if !play.pace.is_zero() {
                tokio::time::sleep(play.pace).await;
            }
            let room = chunk.remaining_mut().min(play.piece);
            let piece = usize::try_from(body).map_or(room, |body| body.min(room));
            chunk.put_slice(&play.object.pattern.bytes(at, piece));
            self.served.fetch_add(piece as u64, Ordering::SeqCst);
            at += piece as u64;
            left -= piece as u64;
        }
        if left == 0 {
            stop(play.stop).await?;
        }
        chunk.release();
        Ok(())
    }

    fn name(&self) -> String {
        "staged object".into()
    }
}

/// The reply, and behind which byte its body ends.
fn reply(play: &Play, request: &RangeRequest) -> (Reply, u64) {
    let size = play.object.size;
    let wanted = request.end.unwrap_or(u64::MAX).min(size);
    let (start, end, total) = match play.form {
        Form::Range => (request.start, wanted, Some(size)),
        Form::Clipped(most) => (
            request.start,
            wanted.min(request.start.saturating_add(most)),
            Some(size),
        ),
        Form::Shifted => (request.start + 1, (wanted + 1).min(size), Some(size)),
        Form::RangeWithoutTotal => (request.start, wanted, None),
        Form::Whole => (0, size, Some(size)),
        Form::WholeUntilEnd => (0, size, None),
    };
    let mut reply = play.object.part(start..end);
    reply.total = total;
    reply.whole = matches!(play.form, Form::Whole | Form::WholeUntilEnd);
    if play.form == Form::WholeUntilEnd {
        reply.length = None;
    }
    (reply, end)
}

async fn stop(how: Stop) -> Result<(), SourceError> {
    match how {
        Stop::End => Ok(()),
        Stop::Retry(kind) => Err(SourceError::retryable(kind, "staged failure")),
        Stop::Fatal(kind) => Err(SourceError::fatal(kind, "staged failure for good")),
        Stop::Throttle(after) => Err(SourceError::throttled("staged throttling", after)),
        Stop::Stall => std::future::pending().await,
        Stop::Panic => panic!("staged panic"),
    }
}
