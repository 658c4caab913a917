//! What came of a download, held against what may: exact bytes of one revision or an error that the faults met explain; requests, memory and time within bounds.

use std::time::Duration;

use pget_core::ErrorKind;

use super::{
    play::Taken,
    scene::{Away, Counts, Leaves, Scene, Way, Weather},
    source::{Met, pattern},
};

/// What one read takes at the most, its backoff included: 30 s to the first byte, or as long as bytes come now and then, and 30 s of pause.
const READ: Duration = Duration::from_secs(130);

pub(super) fn longest(scene: &Scene) -> Duration {
    let chunks = u32::try_from(chunks(scene)).unwrap_or(u32::MAX);
    let pauses = u32::try_from(scene.size.max(scene.other_size()) + 2).unwrap_or(u32::MAX);
    READ * (chunks * 8 + 4 * scene.concurrency + 20) + scene.pause * pauses
}

fn chunks(scene: &Scene) -> u64 {
    let size = scene.size.max(scene.other_size());
    size / scene.chunk + 2
}

pub(super) fn judge(
    scene: &Scene,
    met: &mut Met,
    taken: &Taken,
    took: Duration,
    counts: &mut Counts,
) -> Result<(), String> {
    let stats = &taken.stats;
    let right = |other: bool| {
        let size = if other { scene.other_size() } else { scene.size };
        // Buffers are as long as the object was thought to be.
        let end = if scene.way == Way::Ranges {
            scene.size
        } else {
            scene.end(size)
        };
        let matches = pattern(scene.seed, other).check(scene.offset, &taken.bytes);
        (
            matches,
            taken.bytes.len() as u64 == end.saturating_sub(scene.offset),
        )
    };
    let (one, one_whole) = right(false);
    let (other, other_whole) = right(true);
    let (one, other) = (one.is_ok(), other.is_ok());
    let limit = chunks(scene) + met.soft + stats.fences + 2;
    // An object of unknown size is read again for memory.
    let limit = if scene.way == Way::Memory && !scene.tells_size {
        2 * limit
    } else {
        limit
    };
    if met.reads > limit {
        return Err(format!("{} reads, {limit} at the most: {met:?}", met.reads));
    }
    // Besides the few, each fence follows a fault or a read that was held up.
    let most = met.reads.div_ceil(20) + 1 + met.soft + met.counts.blocking_writers;
    if stats.fences > most {
        return Err(format!(
            "{} fences in {} reads, {most} at the most",
            stats.fences, met.reads
        ));
    }
    weather(scene, met, taken, took, counts)?;
    // Bytes to be skipped land in a page of their own.
    let pages = if counts_whole(scene, met) {
        1 + u64::from(scene.concurrency)
    } else {
        0
    };
    // Nothing waits for a consumer on the way to a destination, or to buffers: there the attempts in flight are the bound.
    let held = if matches!(scene.way, Way::Destination | Way::Ranges) {
        scene.concurrency
    } else {
        scene.window
    };
    let most = (u64::from(held) + 2) * scene.longest_chunk() + (pages << 20);
    if stats.peak_buffered > most {
        return Err(format!("{} bytes held, {most} at the most", stats.peak_buffered));
    }
    match &taken.end {
        Ok(()) => {
            counts.completed += 1;
            if scene.length != Some(0) && scene.offset > scene.size.max(scene.other_size()) {
                return Err("a read from behind the object's end that goes well".into());
            }
            if !(one && one_whole || other && other_whole) {
                return Err(format!("{} bytes that are neither revision", taken.bytes.len()));
            }
            let told = scene.way != Way::Memory;
            if scene.require && told && stats.verification.verified().is_none() {
                return Err(format!(
                    "verification is required, and it is {}",
                    stats.verification
                ));
            }
            let calm = met.soft == 0 && met.hard_kinds.is_empty() && !met.slow && !met.blocked;
            let planned = Duration::from_millis(20) * u32::try_from(met.reads + 2).unwrap_or(u32::MAX);
            let pauses = scene.pause * u32::try_from(taken.bytes.len() + 2).unwrap_or(u32::MAX);
            if calm && took > planned + pauses {
                return Err(format!("nothing went wrong, and it took {took:?}"));
            }
            Ok(())
        }
        Err(error) => {
            counts.failed += 1;
            let kind = error.kind();
            let flipped = met.counts.flipped_bytes > 0;
            // In order, the last lease comes only when all is verified.
            let in_order = matches!(scene.way, Way::Leases | Way::Read);
            // Of the object that replaced it, as much as the first one had is not all.
            let replaced = met.counts.replacements + met.counts.other_revisions > 0;
            let whole = if replaced { other_whole } else { one_whole };
            if kind == ErrorKind::Checksum && in_order && whole && scene.size > 0 {
                return Err("all bytes, and then that they are wrong".into());
            }
            if !(one || other || flipped || taken.bytes.is_empty()) {
                return Err("wrong bytes before the error".into());
            }
            let cancelled = scene.leaves != Leaves::No;
            let untied = !scene.identity || met.counts.lost_identities > 0;
            let retries = scene.retries.map_or(u64::MAX, u64::from);
            let impatient = took >= scene.retry_timeout;
            let worn_out = met.soft > retries || impatient || untied && met.soft > 0 || met.outlives;
            counts.gave_up += u64::from(error.to_string().contains("(retry_timeout)"));
            let fits = met.hard_kinds.contains(&kind)
                || worn_out && met.soft_kinds.contains(&kind)
                || kind == ErrorKind::Range && scene.offset > scene.size
                || kind == ErrorKind::Unverifiable && scene.require && !scene.is_verifiable()
                || kind == ErrorKind::Cancelled && cancelled;
            if fits {
                counts.cancels += u64::from(kind == ErrorKind::Cancelled);
                Ok(())
            } else {
                Err(format!("{} although {met:?}", error.to_line()))
            }
        }
    }
}

/// What a download may do at a server that is away, or that refuses what is too much.
fn weather(
    scene: &Scene,
    met: &Met,
    taken: &Taken,
    took: Duration,
    counts: &mut Counts,
) -> Result<(), String> {
    let only_this = scene.faults == 0 && scene.stragglers == 0 && scene.damaged <= 1 && !met.blocked;
    match scene.weather {
        Weather::Outage { from, lasts, away } if !met.in_outage.is_empty() => {
            // All that were in flight when it began, and one probe for each pause.
            let first = met.in_outage.iter().filter(|&&at| at < from + BEGINS).count();
            let probes = met.in_outage.len() - first;
            let most = 2 * probes_within(lasts) + 2;
            if first > 2 * scene.concurrency as usize + 24 || probes > most {
                return Err(format!(
                    "{first} requests and {probes} probes in an outage of {lasts:?}"
                ));
            }
            // It ends soon after the server's return, if the patience lasts for so long.
            let bound = (lasts / 10).max(Duration::from_secs(2));
            let quick =
                scene.pause.is_zero() && scene.leaves == Leaves::No && met.soft == met.in_outage.len() as u64;
            if only_this && lasts > scene.retry_timeout && quick && taken.end.is_err() {
                counts.dead_for_good += 1;
                let most = from + scene.retry_timeout * 11 / 10 + Duration::from_millis(100);
                if took > most {
                    return Err(format!(
                        "dead by {away:?}, and it took {took:?}, {most:?} at the most"
                    ));
                }
            }
            let in_time = away != Away::Silent && !matches!(away, Away::Throttles(Some(_)));
            if only_this && quick && in_time && taken.end.is_ok() {
                counts.back_after_outages += 1;
                let most = from
                    + lasts
                    + bound
                    + Duration::from_millis(30) * u32::try_from(chunks(scene) + 4).unwrap_or(u32::MAX);
                if took > most {
                    return Err(format!(
                        "{lasts:?} away, and it took {took:?}, {most:?} at the most"
                    ));
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What was sent before it was noticed that the server is away.
const BEGINS: Duration = Duration::from_millis(1_100);

/// Pauses of half a tenth of the time that an outage has lasted, from 50 ms to 5 s.
fn probes_within(lasts: Duration) -> usize {
    let (mut at, mut count) = (Duration::from_millis(50), 1);
    while at < lasts {
        at += (at / 20).clamp(Duration::from_millis(50), Duration::from_secs(5));
        count += 1;
    }
    count
}

fn counts_whole(scene: &Scene, met: &Met) -> bool {
    !scene.ranges || met.counts.ignored_at_first + met.counts.ignored_later > 0
}
