//! What a schedule asks of its driver, and what the driver reports to it.

use std::time::Duration;

/// An attempt to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Distinguishes this attempt's events from another's.
    pub id: u64,
    /// The chunk it fills, or fills first.
    pub chunk: u64,
    /// Where the chunk begins; the attempt resumes at the chunk's watermark.
    pub chunk_start: u64,
    /// The end of the chunk, as far as is known.
    pub chunk_end: u64,
    /// Offset of the first byte to ask for.
    pub start: u64,
    /// The end of what to ask for; `None`: to the object's end.
    pub end: Option<u64>,
    /// Attempts in a row that made no progress before this one.
    pub fruitless: u32,
    /// The chunk is at the cursor: it goes before the budget.
    pub at_cursor: bool,
    /// The chunk has no slot yet: it takes the memory that was
    /// [reserved](super::Schedule::reserved).
    pub opens: bool,
    /// The attempt before was [fenced](super::Schedule::fenced): this one is to go over a fresh
    /// connection.
    pub fresh: bool,
}

/// What the driver is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start this attempt.
    Request(Attempt),
    /// Get memory for the next chunk, then call [`Schedule::reserved`](super::Schedule::reserved).
    Reserve {
        /// Bytes of the chunk.
        bytes: u64,
        /// The chunk is at the cursor: it must not wait.
        at_cursor: bool,
        /// When a retry comes due before that.
        retry_at: Option<Duration>,
    },
    /// Nothing until the next event, or until this time if there is one.
    Wait(Option<Duration>),
    /// The download has made no progress for too long and is over.
    GiveUp(Limit),
    /// All is received (or failed, or cancelled); no attempt is in flight.
    Finished,
}

/// What became of the reply's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyOutcome {
    /// The attempt goes on and fills its chunk, or what the server sends of it, up to this offset.
    Chunk {
        /// The end of what the attempt delivers.
        end: u64,
    },
    /// The attempt goes on as the stream of all chunks, up to this offset if it is known.
    Stream {
        /// The end of what is wanted.
        end: Option<u64>,
    },
    /// End the attempt: the object has no identity that would hold several replies together, so it
    /// is read from its beginning as one stream.
    Restream,
}

/// What an attempt in flight has brought, as its driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its request has gone to the source; until then it waits for leave.
    pub asked: bool,
    /// Bytes of its body so far, also those that are not published yet.
    pub bytes: u64,
    /// Its slot's watermark, as an offset in the object.
    pub position: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The body ended as it should, perhaps before the chunk's end.
    Complete,
    /// It failed, and another attempt may help.
    Retry,
    /// It failed, and the server asks for fewer requests, after this long.
    Throttled(Option<Duration>),
    /// The server refused it by a status that is final, unless it was meant for one request too
    /// many. It is believed when nothing else was in flight; once the object was served, only after
    /// three more lone refusals within a few seconds.
    Refused,
    /// The reply did not answer the request, and another server or moment may answer it rightly. If
    /// nothing else comes for a while, it is believed.
    Wrong,
    /// The bytes were wrong by their checksum. A few times in a row are believed.
    Damaged,
    /// It failed for good.
    Fatal,
}

/// Which limit ended a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// None: the failure itself is final.
    Final,
    /// A range had as many fruitless attempts in a row as `retries` allows.
    Retries {
        /// The attempts.
        attempts: u32,
    },
    /// A range had so many wrong replies in a row that they are taken for the answer.
    Wrong {
        /// The attempts.
        attempts: u32,
    },
    /// A range of an object that was served before was refused so many times in a row.
    Refused {
        /// The attempts.
        attempts: u32,
    },
    /// Nothing was received for `retry_timeout`, by the download or by one of its ranges.
    RetryTimeout {
        /// The time without progress.
        waited: Duration,
        /// Attempts that failed in this time, or were given up at its end.
        attempts: u32,
        /// Where that range begins, if the others made progress.
        position: Option<u64>,
    },
}

/// What the end of an attempt means for the download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterAttempt {
    /// It goes on.
    GoesOn,
    /// It has failed, by this attempt.
    Failed(Limit),
}
