//! Whether a source is well or in trouble, and when a download fails. Pure; a part of
//! `Schedule`.
//!
//! Patience is time, not a count. [`Health`] acts in this order:
//! 1. A passing failure (refused, reset, unreachable, no address, 5xx, 408, 429, a deadline) begins
//!    a *run*: the failures since the last accepted byte. Its clock starts when the attempt that
//!    failed had last brought a byte: the time until a silence is noticed counts as silence.
//! 2. If nothing else is in flight that may still succeed, or nothing has succeeded for
//!    [`UNSURE`], the source is *in trouble*. The download then sends one probe at a time, each
//!    after a jittered tenth of the time that the trouble has lasted.
//! 3. An attempt that brings [`PROGRESS`] bytes, or completes its chunk, ends the
//!    trouble.
//! 4. A run that has lasted for `retry_timeout` ends the download.
//!
//! Invariants: any accepted byte resets the clock, and no clock starts before the last one; only an
//! attempt that proves itself ends the trouble, so a server that sends a byte per connection is not
//! asked in a tight loop.

use std::time::Duration;

use super::Backoff;

/// Progress below this many bytes in an attempt proves nothing, unless it completes the chunk: a
/// server that sends a byte per connection must not be asked in a tight loop.
pub(super) const PROGRESS: u64 = 4096;
/// An answer is awaited for at least so long before its attempt is silent.
pub(super) const LEAST_SILENCE: Duration = Duration::from_secs(1);
/// Attempts in flight are waited for this long after a failure before a probe is sent beside them.
pub(super) const UNSURE: Duration = Duration::from_secs(1);
/// The first pause is halved no more often than this.
const MOST_BRIEF: u32 = 5;

/// The failures since the last accepted byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Since when nothing has arrived.
    since: Duration,
    /// When that was noticed.
    noticed: Duration,
    attempts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trouble {
    since: Duration,
    /// The next probe is not sent before this time.
    probe_at: Duration,
    /// The attempt that was sent last.
    probe: Option<u64>,
}

/// The state of one download's source.
#[derive(Clone, Debug)]
pub(super) struct Health {
    retry_timeout: Duration,
    run: Option<Run>,
    /// When the last byte was accepted, as far as is known; and whether one came since.
    progressed_at: Duration,
    moved: bool,
    trouble: Option<Trouble>,
    /// The first failure since an attempt last succeeded, while others are still in flight.
    unsure_since: Option<Duration>,
    /// Troubles in a row that their first probe has ended.
    brief: u32,
}

/// How long a source has been in trouble, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Since when nothing has arrived.
    pub since: Duration,
    /// When the download fails, unless a byte arrives before.
    pub gives_up_at: Duration,
    /// Attempts that have failed since then.
    pub attempts: u32,
}

impl Health {
    pub(super) const fn new(retry_timeout: Duration) -> Self {
        Self {
            retry_timeout,
            run: None,
            progressed_at: Duration::ZERO,
            moved: false,
            trouble: None,
            unsure_since: None,
            brief: 0,
        }
    }

    /// Nothing has failed since the last success.
    pub(super) const fn is_well(&self) -> bool {
        self.run.is_none() && self.trouble.is_none() && self.unsure_since.is_none()
    }

    pub(super) const fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// A passing failure of the attempt `id`, which had brought nothing since `quiet_since`.
    pub(super) fn failed(&mut self, id: u64, quiet_since: Duration, now: Duration, backoff: &mut Backoff) {
        self.run(quiet_since, now).attempts += 1;
        self.unsure_since.get_or_insert(now);
        if let Some(trouble) = &mut self.trouble
            && trouble.probe == Some(id)
        {
            trouble.probe = None;
            trouble.probe_at = now + backoff.probe(now.saturating_sub(trouble.since));
            self.brief = 0;
        }
    }

    /// The run that nothing since `quiet_since` is part of.
    fn run(&mut self, quiet_since: Duration, now: Duration) -> &mut Run {
        self.at(now);
        let since = quiet_since.max(self.progressed_at).min(now);
        let run = self.run.get_or_insert(Run {
            since,
            noticed: now,
            attempts: 0,
        });
        run.since = run.since.min(since);
        run
    }

    /// Bytes have been accepted, the last of them at `at`.
    pub(super) fn progressed(&mut self, at: Duration) {
        self.run = None;
        self.progressed_at = self.progressed_at.max(at);
    }

    /// Bytes have been accepted, a short time before the next call that has a time.
    pub(super) const fn moved(&mut self) {
        self.run = None;
        self.moved = true;
    }

    /// It is `now`.
    pub(super) fn at(&mut self, now: Duration) {
        if std::mem::take(&mut self.moved) {
            self.progressed_at = self.progressed_at.max(now);
        }
    }

    /// Attempts that were in flight at the last failure bring bytes.
    pub(super) const fn flows(&mut self) {
        self.unsure_since = None;
    }

    /// An attempt has proved that the source serves. Returns since when the source was in trouble,
    /// if that is over.
    pub(super) fn succeeded(&mut self) -> Option<Duration> {
        self.run = None;
        self.unsure_since = None;
        let trouble = self.trouble.take()?;
        self.brief = (self.brief + 1).min(MOST_BRIEF);
        Some(trouble.since)
    }

    /// Whether failures since the last success mean trouble by `now`, given the attempts in flight.
    pub(super) fn sinks(&self, now: Duration, in_flight: u32) -> bool {
        self.trouble.is_none()
            && self
                .unsure_since
                .is_some_and(|since| in_flight == 0 || since + UNSURE <= now)
    }

    /// The trouble begins, with the first failure in a row, or with the silence since `since` if
    /// there was none.
    pub(super) fn sink(&mut self, now: Duration, since: Duration, backoff: &mut Backoff) {
        if since < now {
            self.run(since, now);
        }
        let since = self.run.map_or(since, |run| run.noticed.min(since));
        self.trouble = Some(Trouble {
            since,
            probe_at: now + backoff.probe(now.saturating_sub(since)) / (1 << self.brief),
            probe: None,
        });
    }

    /// When nothing else is started until then, as attempts in flight may still succeed.
    pub(super) fn unsure_until(&self) -> Option<Duration> {
        if self.trouble.is_some() {
            return None;
        }
        Some(self.unsure_since? + UNSURE)
    }

    /// When the next probe may be sent.
    pub(super) fn probe_at(&self) -> Option<Duration> {
        self.trouble.map(|trouble| trouble.probe_at)
    }

    /// The probe `id` is sent.
    pub(super) fn probes(&mut self, id: u64, now: Duration, backoff: &mut Backoff) {
        if let Some(trouble) = &mut self.trouble {
            trouble.probe = Some(id);
            let pause = backoff.probe(now.saturating_sub(trouble.since));
            trouble.probe_at = now + pause.max(LEAST_SILENCE);
        }
    }

    /// The next probe is due: one that had no answer made room, or one was answered and must be
    /// repeated.
    pub(super) const fn probe_now(&mut self, now: Duration) {
        if let Some(trouble) = &mut self.trouble {
            trouble.probe_at = now;
            trouble.probe = None;
        }
    }

    /// When the download fails; never, if that cannot be counted.
    pub(super) fn gives_up_at(&self) -> Option<Duration> {
        self.run?.since.checked_add(self.retry_timeout)
    }

    /// A pause that the server asks for, cut to the time that is left for another attempt.
    pub(super) fn honoured(&self, now: Duration, after: Duration) -> Duration {
        let left = self
            .gives_up_at()
            .map_or(self.retry_timeout, |end| end.saturating_sub(now));
        after.min(left - left / 20)
    }

    /// For how long failures have come in a row.
    pub(super) fn lasted(&self, now: Duration) -> Duration {
        self.run
            .map_or(Duration::ZERO, |run| now.saturating_sub(run.noticed))
    }

    /// The failures in a row, for reports.
    pub(super) fn trial(&self) -> Option<Trial> {
        let run = self.run?;
        Some(Trial {
            since: run.since,
            gives_up_at: run.since.saturating_add(self.retry_timeout),
            attempts: run.attempts,
        })
    }
}
