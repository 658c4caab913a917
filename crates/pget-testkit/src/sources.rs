//! Sources inside the process: one that serves a [`Pattern`] correctly, and one that fails on
//! purpose.
//!
//! A [`Staged`] source asks its script before each read. The script returns a [`Play`], which
//! describes how the read goes. The source records every request and the bytes that it served. A
//! test can thus prove that a fault occurred, and count the requests. The source uses neither a
//! network nor random numbers.

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

/// One revision of an object: its bytes, and its description in replies.
#[derive(Clone, Debug)]
pub struct Object {
    /// The object's bytes.
    pub pattern: Pattern,
    /// The object's size in bytes.
    pub size: u64,
    /// The object's identity.
    pub revision: Revision,
    /// The [`Reply::chunk_hint`] of replies.
    pub chunk_hint: Option<u64>,
    /// The [`Reply::checksum`] of replies.
    pub checksum: Option<Published>,
}

impl Object {
    /// Returns `size` bytes of the pattern of `seed`, with a strong `ETag` that names both.
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

    /// Removes everything that identifies the content.
    #[must_use]
    pub fn without_identity(mut self) -> Self {
        self.revision = Revision::default();
        self
    }

    /// Returns a correct server's reply with the bytes of `range`.
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

/// The reply's description of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The requested range, cut at the object's end.
    Range,
    /// At most this many bytes of the range, labelled correctly.
    Clipped(u64),
    /// The range shifted by one byte, as a broken server answers.
    Shifted,
    /// The range, without the object's size.
    RangeWithoutTotal,
    /// The whole object, with its size.
    Whole,
    /// The whole object, without its size. Only the end of the body shows the size.
    WholeUntilEnd,
}

/// How a body stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// As its framing announces.
    End,
    /// By a failure after which a retry may succeed.
    Retry(ErrorKind),
    /// By a permanent failure.
    Fatal(ErrorKind),
    /// The server asks for fewer requests.
    Throttle(Option<Duration>),
    /// The body neither ends nor continues.
    Stall,
    /// The source panics.
    Panic,
}

/// How one read goes.
#[derive(Clone, Debug)]
pub struct Play {
    /// The revision that the read serves.
    pub object: Object,
    /// The form of the reply.
    pub form: Form,
    /// Number of calls of [`ChunkWriter::begin`]. Any number except 1 breaks the contract.
    pub begins: u32,
    /// Pause before the reply.
    pub delay: Duration,
    /// Bytes written at a time.
    pub piece: usize,
    /// Pause before each piece.
    pub pace: Duration,
    /// Bytes of the body after which `stop` happens. A body of at most this length ends
    /// normally instead.
    pub bytes: u64,
    /// How the body stops.
    pub stop: Stop,
    /// Whether the bytes are held back until the body has ended normally.
    pub withhold: bool,
}

impl Play {
    /// Returns a play that serves `object` correctly.
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

    /// Changes the form of the reply.
    #[must_use]
    pub const fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Makes the body stop after `bytes` bytes, in the way of `stop`.
    #[must_use]
    pub const fn stop(mut self, bytes: u64, stop: Stop) -> Self {
        self.bytes = bytes;
        self.stop = stop;
        self
    }

    /// Divides the body into pieces of `piece` bytes with a pause of `pace` before each.
    #[must_use]
    pub const fn paced(mut self, piece: usize, pace: Duration) -> Self {
        self.piece = piece;
        self.pace = pace;
        self
    }

    /// Delays the reply by `delay`.
    #[must_use]
    pub const fn delayed(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// One recorded read.
#[derive(Clone, Debug)]
pub struct Call {
    /// Number of earlier reads.
    pub number: usize,
    /// The request.
    pub request: RangeRequest,
}

/// Decides how each read goes.
type Script = dyn Fn(&Call) -> Play + Send + Sync;

/// A source that follows its script.
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
    /// Returns a source whose reads follow `script`.
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

    /// Returns a source that always serves `object` correctly.
    pub fn right(object: Object) -> Arc<Self> {
        let source = Self::new({
            let object = object.clone();
            move |_| Play::right(object.clone())
        });
        source.set_head(object);
        source
    }

    /// Sets the result of [`RangeSource::head`]. Until then, `head` fails.
    pub fn set_head(&self, object: Object) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(object);
    }

    /// Returns all reads so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the number of calls of [`RangeSource::head`].
    pub fn heads(&self) -> usize {
        self.heads.load(Ordering::SeqCst)
    }

    /// Returns the number of reads that are neither finished nor dropped.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    /// Returns the largest number of reads that were active at the same time.
    pub fn most_active(&self) -> usize {
        self.most_active.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes written so far, including skipped ones.
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

/// Counts a read as active as long as this value lives.
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
                    "this source has no metadata",
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
                "the range starts past the end",
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

/// Returns the reply, and the offset at which its body ends.
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
        Stop::Fatal(kind) => Err(SourceError::fatal(kind, "permanent staged failure")),
        Stop::Throttle(after) => Err(SourceError::throttled("staged throttling", after)),
        Stop::Stall => std::future::pending().await,
        Stop::Panic => panic!("staged panic"),
    }
}
