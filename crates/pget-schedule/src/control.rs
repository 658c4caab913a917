//! What the controller is shown of a download. Pure; a part of `Schedule`.
//!
//! The bytes of a body are seen in steps, as sockets gather data before they wake a reader. A step
//! therefore counts with the time since the step before, and time without a step does not count
//! until the next one.

use std::time::Duration;

use super::{Bounds, Choice, Controller, controller::Seen};

/// Time without a step that counts nevertheless: the body stalls.
const STALLED: Duration = Duration::from_millis(300);

/// The controller and what it learns.
#[derive(Clone, Debug)]
pub(super) struct Control {
    pub(super) controller: Controller,
    pub(super) seen: Seen,
    pub(super) looked: Duration,
    /// Connections made so far are not fewer than this.
    most_in_flight: u32,
    /// Since when the window or the memory holds requests back, and for how long since the last
    /// look.
    pub(super) held_since: Option<Duration>,
    pub(super) held: Duration,
    /// The chunk whose size was chosen last.
    pub(super) cut: Option<u64>,
    /// What was reported last.
    pub(super) last_choice: Option<Choice>,
}

/// What the controller knows of an attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    pub(super) asked: Duration,
    /// For so long before that, its request was on its way.
    pub(super) asked_before: Duration,
    /// Its connection was probably in use before.
    reused: bool,
    pub(super) answered: Option<Duration>,
    /// Up to when, and how many bytes.
    pub(super) until: Duration,
    bytes: u64,
}

impl Control {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            controller: Controller::new(bounds),
            seen: Seen::default(),
            looked: Duration::ZERO,
            most_in_flight: 0,
            held_since: None,
            held: Duration::ZERO,
            cut: None,
            last_choice: None,
        }
    }

    /// An attempt is launched; `in_flight` are with it.
    pub(super) const fn launched(&mut self, now: Duration, in_flight: u32) -> Measured {
        let reused = in_flight <= self.most_in_flight;
        if !reused {
            self.most_in_flight = in_flight;
        }
        Measured {
            asked: now,
            asked_before: Duration::ZERO,
            reused,
            answered: None,
            until: now,
            bytes: 0,
        }
    }

    pub(super) fn answered(&mut self, now: Duration, measured: &mut Measured) {
        if measured.answered.is_some() {
            return;
        }
        measured.answered = Some(now);
        measured.until = now;
        let took = now.saturating_sub(measured.asked) + measured.asked_before;
        self.controller.begin(now, took);
        if measured.reused {
            self.seen.answers += 1;
            self.seen.answering += took;
        } else {
            self.seen.first_answers += 1;
            self.seen.first_answering += took;
        }
    }

    pub(super) fn brought(&mut self, now: Duration, measured: &mut Measured, bytes: u64, ended: bool) {
        let more = bytes.saturating_sub(measured.bytes);
        if more > 0 {
            self.answered(now, measured);
        } else if !ended && now.saturating_sub(measured.until) < STALLED || measured.answered.is_none() {
            return;
        }
        self.seen.bytes += more;
        self.seen.flowing += now.saturating_sub(measured.until);
        measured.until = now;
        measured.bytes += more;
        if ended && let Some(answered) = measured.answered {
            self.controller.body(measured.bytes, now.saturating_sub(answered));
        }
    }
}
