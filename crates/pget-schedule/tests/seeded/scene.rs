//! What one seed decides beforehand: options, server, consumer, and how often what goes wrong.

use std::{ops::Range, time::Duration};

use fastrand::Rng;
use pget_schedule::{AttemptEnd, Settings, Wanted};

macro_rules! counts {
    ($($(#[$about:meta])* $name:ident,)*) => {
        /// How often each kind of event was met.
        #[derive(Debug, Default)]
        pub(crate) struct Counts { $($(#[$about])* pub(crate) $name: u64,)* }

        impl Counts {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counts! {
    empty_objects,
    offsets_at_the_end,
    offsets_behind_the_end,
    unknown_sizes,
    ranges_ignored_at_first,
    ranges_ignored_later,
    no_identity,
    restreams,
    hints,
    retryable_before_the_reply,
    retryable_in_the_body,
    throttled_before_the_reply,
    throttled_in_the_body,
    refused_before_the_reply,
    lone_refusals_asked_again,
    lone_refusals_believed,
    wrong_replies,
    damaged_bodies,
    believed_wrong,
    fatal_before_the_reply,
    fatal_in_the_body,
    clipped_bodies,
    short_bodies,
    slow_chunks,
    slow_connections,
    stalled_connections,
    fences,
    silent_probes,
    fences_of_a_held_writer,
    fences_that_came_too_late,
    slow_consumers,
    refused_memory,
    streams_waiting_for_the_window,
    chunks_consumed_before_their_attempt_ended,
    extents_with_gaps,
    streams_over_gaps,
    cancels,
    gave_up,
    gave_up_on_a_range,
    completed,
    failed,
}

/// One download's world.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) rng: Rng,
    pub(crate) settings: Settings,
    /// What is wanted, if it is not all of the settings' range: ascending, with gaps between.
    pub(crate) extents: Vec<Range<u64>>,
    /// The object's size.
    pub(crate) size: u64,
    /// The server tells it before the end.
    pub(crate) tells_size: bool,
    /// The server serves ranges.
    pub(crate) ranges: bool,
    pub(crate) identity: bool,
    pub(crate) hint: Option<u64>,
    /// The most bytes in an answer.
    pub(crate) clip: Option<u64>,
    /// Of 1,000 attempts, how many go wrong.
    pub(crate) faults: u32,
    pub(crate) slow_consumer: bool,
    /// Of 1,000 connections, how many are slow, and as many stall.
    pub(crate) stragglers: u32,
    /// A fenced attempt goes on for a while, as a blocking read does.
    pub(crate) held: bool,
    /// Of 1,000 requests for memory that may wait, how many must.
    pub(crate) tight: u32,
    /// Each attempt at this chunk fails.
    pub(crate) cursed: Option<u64>,
    /// How those fail.
    pub(crate) fails_by: AttemptEnd,
    /// Each attempt from this number on fails.
    pub(crate) dead_from: Option<u64>,
    /// At this event the consumer goes away.
    pub(crate) cancel_at: Option<u64>,
}

impl Scene {
    pub(crate) fn new(seed: u64, counts: &mut Counts) -> Self {
        let mut rng = Rng::with_seed(seed);
        let chunk_size = match rng.u32(0..10) {
            0 => rng.u64(1..10),
            1 => 4096,
            _ => rng.u64(1..200_000),
        };
        let size = match rng.u32(0..14) {
            0 => 0,
            1 => 1,
            2 => chunk_size - 1,
            3 => chunk_size,
            4 => chunk_size + 1,
            5 => chunk_size * rng.u64(1..8),
            6 => chunk_size * rng.u64(1..8) + 1,
            7 => rng.u64(0..=chunk_size * 60),
            _ => rng.u64(0..=chunk_size * 9),
        };
        let start = match rng.u32(0..10) {
            0 => size,
            1 => size + rng.u64(1..1000),
            2..5 => rng.u64(0..=size),
            _ => 0,
        };
        let end = rng.bool().then(|| match rng.u32(0..4) {
            0 => start,
            1 => start.max(size) + rng.u64(0..1000),
            _ => start + rng.u64(0..=size.saturating_sub(start)),
        });
        let ranges = rng.u32(0..8) > 0;
        let settings = Settings {
            wanted: end.map_or_else(|| Wanted::from(start..), |end| Wanted::from(start..end)),
            chunk_size,
            follow_hint: rng.bool(),
            concurrency: if rng.u32(0..5) == 0 { 1 } else { 1 << rng.u32(0..8) },
            window_follows: false,
            control: None,
            window: match rng.u32(0..4) {
                0 => 1,
                1 => 2,
                _ => rng.u32(1..=64),
            },
            retries: (rng.u32(0..3) > 0).then(|| rng.u32(0..6)),
            retry_timeout: Duration::from_millis(match rng.u32(0..3) {
                0 => rng.u64(500..5_000),
                1 => rng.u64(2_000..60_000),
                _ => rng.u64(500..200_000),
            }),
            seed: rng.u64(..),
        };
        let tells_size = ranges || rng.bool();
        let mut settings = settings;
        let mut extents = Vec::new();
        if rng.u32(0..5) == 0 && start < size {
            let mut at = start;
            for _ in 0..rng.u32(2..8) {
                let end = at + rng.u64(1..=chunk_size * 2);
                // An object that does not tell its size could end in a gap: what that means is the reader's to say.
                if end > size && !tells_size {
                    break;
                }
                extents.push(at..end);
                at = end + rng.u64(1..=chunk_size * 2);
            }
        }
        if extents.len() > 1 {
            settings.wanted = Wanted::of(extents.clone());
        } else {
            extents.clear();
        }
        // Few seeds would wear out patience by themselves.
        let fails_for_good = rng.u32(0..24);
        if fails_for_good < 2 {
            settings.retries = None;
            let most = [3_000, 3_000, 30_000][rng.usize(0..3)];
            settings.retry_timeout = Duration::from_millis(rng.u64(300..most));
        }
        let mut scene = Self {
            size,
            cursed: (fails_for_good == 0).then(|| rng.u64(1..9)),
            fails_by: [AttemptEnd::Retry, AttemptEnd::Wrong, AttemptEnd::Damaged][rng.usize(0..3)],
            dead_from: (fails_for_good == 1).then(|| rng.u64(0..20)),
            extents,
            tells_size,
            ranges,
            identity: rng.u32(0..6) > 0,
            // Not so small that the chunks become too many to play.
            hint: (rng.u32(0..4) == 0).then(|| match rng.u64(0..300_000) {
                hint if hint < size / 5000 => 0,
                hint => hint,
            }),
            clip: (rng.u32(0..8) == 0).then(|| rng.u64(chunk_size.div_ceil(50)..=chunk_size)),
            faults: [0, 0, 20, 100, 400, 950][rng.usize(0..6)],
            stragglers: [0, 10, 60, 300, 300][rng.usize(0..5)],
            held: rng.bool(),
            slow_consumer: rng.u32(0..4) == 0,
            tight: [0, 0, 200, 1000][rng.usize(0..4)],
            cancel_at: (rng.u32(0..12) == 0).then(|| rng.u64(0..40)),
            settings,
            rng,
        };
        // The server serves, then refuses all: that ends it before patience does.
        if (2..4).contains(&fails_for_good) {
            (scene.fails_by, scene.dead_from) = (AttemptEnd::Refused, Some(scene.rng.u64(1..6)));
            scene.settings.retries = None;
            scene.settings.retry_timeout = Duration::from_secs(scene.rng.u64(10..60));
            (scene.ranges, scene.faults, scene.cancel_at) = (true, 0, None);
        }
        if scene.cursed.is_some() {
            // The others still bring bytes when patience with this one ends.
            scene.extents.clear();
            scene.settings.wanted = Wanted::all();
            (scene.size, scene.ranges, scene.identity) = (chunk_size * 12, true, true);
            (scene.settings.concurrency, scene.settings.window) = (8, 16);
            scene.stragglers = 800;
        }
        let (start, size) = (scene.settings.wanted.start(), scene.size);
        counts.extents_with_gaps += u64::from(scene.has_gaps());
        counts.empty_objects += u64::from(size == 0);
        counts.offsets_at_the_end += u64::from(start == size);
        counts.offsets_behind_the_end += u64::from(start > size);
        counts.slow_consumers += u64::from(scene.slow_consumer);
        scene
    }

    /// Behind the last byte that a right download delivers.
    pub(crate) fn right_end(&self) -> u64 {
        if self.has_gaps() {
            let last = self.extents.iter().rfind(|extent| extent.start < self.size);
            let start = self.settings.wanted.start();
            return last.map_or(start, |extent| extent.end.min(self.size));
        }
        self.settings
            .wanted
            .end()
            .unwrap_or(u64::MAX)
            .min(self.size)
            .max(self.settings.wanted.start())
    }

    pub(crate) fn has_gaps(&self) -> bool {
        self.extents.len() > 1
    }

    /// The first wanted byte of the object from `at` on; `at` if there is none.
    pub(crate) fn wanted_from(&self, at: u64) -> u64 {
        let mut there = self.extents.iter().filter(|extent| extent.start < self.size);
        let next = there.find(|extent| extent.end.min(self.size) > at);
        next.map_or(at, |extent| extent.start.max(at))
    }
}
