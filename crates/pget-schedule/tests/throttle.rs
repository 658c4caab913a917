//! What a download does at a server that serves so many requests at once, or so many a second, fails
//! now and then, or goes away for a while: whole downloads on a virtual clock.

mod common;
#[path = "throttle/play.rs"]
mod play;

use std::time::Duration;

use pget_schedule::{Action, AfterAttempt, Attempt, AttemptEnd, Limit, Schedule, Settings};
use play::{
    CHUNK, Fate, Server, THROTTLED, a_second, a_second_else, at_most, away, every, ideal, ms, one_of, play,
    settings, thousand,
};

#[test]
fn case_143_permits_settle_where_the_server_serves() {
    for refusal in [
        THROTTLED,
        Fate::Fails(AttemptEnd::Throttled(Some(Duration::ZERO))),
        Fate::Fails(AttemptEnd::Refused),
        Fate::Fails(AttemptEnd::Retry),
    ] {
        for (limit, concurrency) in [(1, 8), (4, 8), (4, 16), (4, 64), (32, 64), (7, 8)] {
            let service = ms(50);
            let outcome = thousand(concurrency, service, at_most(limit, refusal));
            let (refused, of) = outcome.refused_after(100);
            assert!(
                refused * 50 <= of,
                "{limit} at once, {refusal:?}: {refused} of {of} refused"
            );
            let fitting = ideal(u32::try_from(limit).expect("few"), service);
            assert!(
                outcome.took * 95 <= fitting * 100 + ms(50) * 100,
                "{limit} at once, {refusal:?}: {:?}, and {fitting:?} at best",
                outcome.took
            );
        }
    }
}

/// A server that counts a request for a moment after its end, as nginx does, refuses one now and
/// then that is not too many. What was found before is soon there again, and nothing beyond it is
/// tried.
#[test]
fn case_143_a_refusal_within_the_limit_costs_one_request() {
    for (limit, concurrency) in [(4, 8), (4, 16), (16, 64)] {
        let server: Server = Box::new(move |number, _, serves| {
            let is_early = serves + 1 == limit && number % 150 < 4;
            if serves >= limit || is_early {
                THROTTLED
            } else {
                Fate::Served
            }
        });
        let outcome = play(&settings(4000, concurrency), ms(1), ms(50), server);
        assert_eq!(outcome.ended, None);
        let (refused, of) = outcome.refused_after(100);
        println!("{limit} of {concurrency}: {refused} of {of}, {:?}", outcome.took);
        assert!(refused * 50 <= of, "{limit} at once: {refused} of {of} refused");
        let fitting = ideal(u32::try_from(limit).expect("few"), ms(50)) * 4;
        assert!(
            outcome.took * 90 <= fitting * 100,
            "{limit} at once: {:?}, and {fitting:?} at best",
            outcome.took
        );
    }
}

/// A level that is lost again and again is tried as seldom as the step beyond a limit.
#[test]
fn case_143_a_level_that_is_lost_again_is_tried_more_seldom() {
    for (limit, period) in [(2, 40), (4, 40), (8, 40), (4, 60), (8, 60)] {
        let server: Server = Box::new(move |number, _, serves| {
            let is_early = serves + 1 == limit && number % period < 4;
            if serves >= limit || is_early {
                THROTTLED
            } else {
                Fate::Served
            }
        });
        let outcome = play(&settings(4000, 16), ms(1), ms(50), server);
        assert_eq!(outcome.ended, None);
        let (refused, of) = outcome.refused_after(100);
        assert!(
            refused * 50 <= of,
            "{limit} at once, 4 of {period} early: {refused} of {of} refused"
        );
    }
}

#[test]
fn case_143_a_limit_that_is_lifted_is_noticed() {
    let mut served = 0;
    let server: Server = Box::new(move |_, _, serves| {
        let limit = if served < 300 { 4 } else { usize::MAX };
        let fate = if serves >= limit { THROTTLED } else { Fate::Served };
        served += u32::from(fate == Fate::Served);
        fate
    });
    let outcome = thousand(16, ms(50), server);
    assert_eq!(outcome.most_in_flight, 16);
    let most = ideal(4, ms(50)) * 3 / 10 + ideal(16, ms(50)) * 2;
    assert!(outcome.took < most, "{:?}, {most:?} at the most", outcome.took);
}

#[test]
fn case_107_a_limited_rate_is_kept() {
    for (rate, concurrency, service) in [
        (20, 8, ms(2)),
        (20, 8, ms(50)),
        (5, 8, ms(2)),
        (5, 8, ms(50)),
        (5, 64, ms(2)),
    ] {
        let outcome = thousand(concurrency, service, a_second(rate));
        let best = Duration::from_secs(1000) / u32::try_from(rate).expect("few");
        assert!(
            outcome.took * 4 <= best * 5,
            "{rate} a second: {:?}, and {best:?} at best",
            outcome.took
        );
        let (refused, of) = outcome.refused_after(200);
        assert!(refused * 20 <= of, "{rate} a second: {refused} of {of} refused");
    }
}

/// The limit is answered by 403, as some gateways do, also where nothing else is in flight.
#[test]
fn case_107_a_limited_rate_that_refuses_is_kept() {
    for (rate, concurrency) in [(3, 2), (3, 8), (1, 2), (1, 64)] {
        let server = a_second_else(rate, Fate::Fails(AttemptEnd::Refused));
        let outcome = thousand(concurrency, ms(2), server);
        let best = Duration::from_secs(1000) / u32::try_from(rate).expect("few");
        assert!(
            outcome.took * 4 <= best * 5,
            "{rate} a second: {:?}, and {best:?} at best",
            outcome.took
        );
    }
}

#[test]
fn case_105_a_share_of_failures_neither_ends_nor_throttles_a_download() {
    for refusal in [THROTTLED, Fate::Fails(AttemptEnd::Retry)] {
        for nth in [3, 4, 7, 10, 100] {
            let outcome = thousand(8, ms(50), every(nth, refusal));
            let most = ideal(8, ms(50)) * 3;
            assert!(
                outcome.took < most,
                "every {nth}th, {refusal:?}: {:?}, {most:?} at the most",
                outcome.took
            );
        }
    }
}

#[test]
fn case_136_one_request_in_ten_that_is_never_answered_costs_little() {
    for nth in [5, 10, 30] {
        let outcome = thousand(8, ms(50), every(nth, Fate::Silent));
        let most = ideal(8, ms(50)) * 8;
        assert!(
            outcome.took < most,
            "every {nth}th: {:?}, {most:?} at the most",
            outcome.took
        );
    }
}

#[test]
fn case_113_one_connection_that_is_served_is_enough() {
    let outcome = thousand(8, ms(50), at_most(1, Fate::Silent));
    let (silent, of) = outcome.refused_after(100);
    assert!(silent * 50 <= of, "{silent} of {of} without an answer");
    let most = ideal(1, ms(50)) * 2;
    assert!(outcome.took < most, "{:?}, {most:?} at the most", outcome.took);
}

#[test]
fn cases_103_and_104_a_download_is_back_soon_after_its_server() {
    for how in [THROTTLED, Fate::Fails(AttemptEnd::Retry), Fate::Silent] {
        for seconds in [1, 3, 10, 30, 100] {
            for concurrency in [2, 8, 64] {
                // All that are in flight are lost if their bodies take longer than this.
                let (from, lasts) = (ms(20), Duration::from_secs(seconds));
                let outcome = thousand(concurrency, ms(2), away(from, lasts, how));
                let after = outcome.requests.iter().map(|&(at, _)| at);
                let back = after.filter(|&at| at >= from + lasts).min().expect("it is back");
                let bound = (lasts / 10).max(Duration::from_secs(2));
                assert!(
                    back <= from + lasts + bound,
                    "{how:?} for {lasts:?}, {concurrency} at once: asked again {:?} after",
                    back - (from + lasts)
                );
                // Once there is trouble, there is one probe for each pause.
                let probes = |&&(at, _): &&(Duration, Fate)| (from + ms(1500)..from + lasts).contains(&at);
                let probes = outcome.requests.iter().filter(probes).count();
                assert!(probes <= 130, "{how:?} for {lasts:?}: {probes} probes");
                let most = from + lasts + bound + ideal(concurrency, ms(2)) * 2 + ms(1000);
                assert!(
                    outcome.took <= most,
                    "{how:?} for {lasts:?}, {concurrency} at once: {:?}, {most:?} at the most",
                    outcome.took
                );
            }
        }
    }
}

#[test]
fn case_108_a_server_that_is_dead_for_good_ends_it_in_time() {
    for how in [THROTTLED, Fate::Fails(AttemptEnd::Retry), Fate::Silent] {
        for timeout in [5, 30, 120].map(Duration::from_secs) {
            let settings = Settings {
                retry_timeout: timeout,
                ..settings(100, 8)
            };
            let forever = Duration::from_secs(10_000);
            let outcome = play(&settings, ms(1), ms(2), away(ms(20), forever, how));
            let Some(Limit::RetryTimeout { waited, attempts, .. }) = outcome.ended else {
                panic!("{how:?}: {:?}", outcome.ended);
            };
            assert!(
                waited >= timeout && attempts > 3,
                "{how:?}: {waited:?}, {attempts} attempts"
            );
            let most = ms(20) + timeout * 11 / 10;
            assert!(
                outcome.took <= most,
                "{how:?}: {:?}, {most:?} at the most",
                outcome.took
            );
        }
    }
}

#[test]
fn case_108_with_no_retries_the_first_failure_is_the_end() {
    let settings = Settings {
        retries: Some(0),
        ..settings(100, 8)
    };
    for how in [
        AttemptEnd::Retry,
        AttemptEnd::Throttled(Some(Duration::from_secs(9))),
        AttemptEnd::Refused,
    ] {
        let away = away(ms(20), ms(500), Fate::Fails(how));
        let outcome = play(&settings, ms(1), ms(2), away);
        assert!(outcome.ended.is_some(), "{how:?}");
        assert!(outcome.took <= ms(25), "{how:?}: {:?}", outcome.took);
    }
}

#[test]
fn case_111_a_refusal_is_believed_when_nothing_else_is_in_flight() {
    let refused = Fate::Fails(AttemptEnd::Refused);
    // A key that is revoked in mid read.
    let forever = Duration::from_secs(10_000);
    let outcome = play(&settings(100, 8), ms(1), ms(2), away(ms(20), forever, refused));
    let ended = outcome.ended;
    assert!(matches!(ended, Some(Limit::Refused { .. })), "{ended:?}");
    assert!(outcome.took < ms(5000), "{:?}", outcome.took);
    // One that never was good.
    let outcome = play(&settings(100, 8), ms(1), ms(2), away(ms(0), forever, refused));
    assert_eq!((outcome.ended, outcome.requests.len()), (Some(Limit::Final), 1));
}

#[test]
fn a_pause_that_the_server_asks_for_is_kept_up_to_the_time_that_is_left() {
    for (asked, within) in [
        (
            Duration::from_secs(7),
            Duration::from_secs(7)..Duration::from_secs(9),
        ),
        (
            Duration::from_secs(100_000),
            Duration::from_secs(110)..Duration::from_secs(120),
        ),
    ] {
        let how = Fate::Fails(AttemptEnd::Throttled(Some(asked)));
        let outcome = thousand(8, ms(2), away(ms(20), ms(4), how));
        let last = outcome
            .requests
            .iter()
            .rposition(|&(_, fate)| fate == how)
            .expect("refused");
        let pause = outcome.requests[last + 1].0 - outcome.requests[last].0;
        assert!(within.contains(&pause), "{asked:?}: {pause:?}");
    }
}

/// A server that refuses some requests in a row is not one that limits their rate: a pace, which does
/// not help, is given up.
#[test]
fn case_105_a_pace_that_does_not_help_is_given_up() {
    for (concurrency, of) in [(1, 6), (1, 12), (2, 12), (2, 20), (4, 20)] {
        let refused = 2 * u64::from(concurrency);
        let server: Server = Box::new(move |number, _, _| {
            if number % of < refused {
                THROTTLED
            } else {
                Fate::Served
            }
        });
        let outcome = thousand(concurrency, ms(1), server);
        // The probes of so many short outages.
        let probes = 1000 * refused / (of - refused);
        let most = ms(150) * u32::try_from(probes).expect("few");
        assert!(
            outcome.took < most,
            "{refused} of {of}: {:?}, {most:?} at the most",
            outcome.took
        );
    }
}

/// A share of refusals costs few connections no more than many: about the share itself.
#[test]
fn case_105_a_share_of_failures_costs_few_connections_little() {
    for refusal in [THROTTLED, Fate::Fails(AttemptEnd::Retry)] {
        for concurrency in [1, 2, 3, 4] {
            // In tenths of the time without refusals.
            for (of, most) in [(2, 40), (3, 25), (10, 20)] {
                let took = (1..=5).map(|seed| thousand(concurrency, ms(50), one_of(of, seed, refusal)).took);
                let (mean, best) = (took.sum::<Duration>() / 5, ideal(concurrency, ms(50)));
                assert!(
                    mean * 10 <= best * most,
                    "1 of {of} at {concurrency}, {refusal:?}: {mean:?}, {best:?} without"
                );
            }
        }
    }
}

/// One refusal and then a success are no outage, even if nothing else was in flight: permits do not
/// come back step by step.
#[test]
fn case_105_one_refusal_is_no_outage() {
    for how in [AttemptEnd::Throttled(None), AttemptEnd::Retry] {
        let mut schedule = Schedule::new(settings(1000, 16));
        let mut now = ms(10);
        let first = next(&mut schedule, &mut now);
        schedule.ended(first.id, now, first.start, how);
        assert!(schedule.is_in_trouble());
        let probe = next(&mut schedule, &mut now);
        let size = Some(1000 * CHUNK);
        schedule.begun(probe.id, size, false, true, None, Some(probe.chunk_end));
        schedule.ended(probe.id, now, probe.chunk_end, AttemptEnd::Complete);
        let mut at_once = 0;
        loop {
            match schedule.poll(now) {
                Action::Reserve { .. } => schedule.reserved(),
                Action::Request(_) => at_once += 1,
                Action::Wait(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(at_once, 16, "{how:?}");
    }
}

/// Polls until something is requested, and waits for it.
fn next(schedule: &mut Schedule, now: &mut Duration) -> Attempt {
    loop {
        match schedule.poll(*now) {
            Action::Reserve { .. } => schedule.reserved(),
            Action::Request(attempt) => return attempt,
            Action::Wait(Some(until)) => *now = until,
            other => panic!("{other:?}"),
        }
    }
}

/// A level does not help where a share of requests fails. It is dropped, even if refusals of
/// nothing else in flight hide that.
#[test]
fn case_105_a_level_that_does_not_help_is_given_up() {
    let best = ideal(2, ms(50));
    for (of, most) in [(3, 19), (4, 17), (6, 16)] {
        let took = (1..=5).map(|seed| thousand(2, ms(50), one_of(of, seed, THROTTLED)).took);
        let mean = took.sum::<Duration>() / 5;
        assert!(mean * 10 <= best * most, "1 of {of}: {mean:?}, {best:?} without");
    }
    let took = thousand(2, ms(50), every(3, THROTTLED)).took;
    assert!(took * 10 <= best * 13, "each third: {took:?}, {best:?} without");
}

/// A bucket of tokens that fills at `rate` a second: `burst` requests are served at once.
fn tokens(rate: u32, burst: u32) -> Server {
    let (mut level, mut filled) = (f64::from(burst), Duration::ZERO);
    Box::new(move |_, now, _| {
        let since = now.saturating_sub(filled).as_secs_f64();
        (level, filled) = ((level + since * f64::from(rate)).min(f64::from(burst)), now);
        if level < 1.0 {
            return THROTTLED;
        }
        level -= 1.0;
        Fate::Served
    })
}

#[test]
fn case_107_a_bucket_of_tokens_is_not_overdrawn() {
    let rows = [
        (10, 10, 8, 20),
        (10, 2, 8, 20),
        (20, 5, 16, 20),
        (5, 5, 2, 20),
        // Refusals come one by one, or while others are served.
        (5, 50, 2, 0),
        (20, 10, 8, 20),
        (50, 10, 16, 20),
        (50, 50, 64, 20),
        (200, 10, 64, 20),
    ];
    for (rate, burst, concurrency, service) in rows {
        let outcome = thousand(concurrency, ms(service), tokens(rate, burst));
        let best = Duration::from_secs(1000) / rate;
        assert!(
            outcome.took * 4 <= best * 5,
            "{rate} a second, {burst} at once: {:?}, and {best:?} at best",
            outcome.took
        );
        let (refused, of) = outcome.refused_after(200);
        assert!(refused * 25 <= of, "{rate} a second: {refused} of {of} refused");
    }
}

/// A rate that is limited in the middle, and then no more.
#[test]
fn case_107_a_limit_that_comes_and_goes_ends_nothing() {
    for concurrency in [2, 8, 32] {
        let mut limited = a_second(10);
        let server: Server = Box::new(move |number, now, serves| {
            if (200..600).contains(&number) {
                limited(number, now, serves)
            } else {
                Fate::Served
            }
        });
        let outcome = thousand(concurrency, ms(20), server);
        assert!(outcome.took < Duration::from_secs(100), "{:?}", outcome.took);
    }
}

#[test]
fn case_113_one_connection_is_enough_however_the_others_are_refused() {
    for refusal in [
        Fate::Fails(AttemptEnd::Refused),
        Fate::Fails(AttemptEnd::Retry),
        THROTTLED,
    ] {
        for concurrency in [2, 8, 64] {
            let outcome = thousand(concurrency, ms(50), at_most(1, refusal));
            let most = ideal(1, ms(50)) * 5 / 4;
            assert!(
                outcome.took < most,
                "{refusal:?} at {concurrency}: {:?}, {most:?} at the most",
                outcome.took
            );
        }
    }
}

/// The one that is served changes: every so often, it is another number of connections.
#[test]
fn case_113_a_number_of_connections_that_shrinks_and_grows_is_followed() {
    let server: Server = Box::new(|_, now, serves| {
        let limit = [1, 4, 2, 8][usize::try_from(now.as_secs() / 5 % 4).expect("few")];
        if serves >= limit { THROTTLED } else { Fate::Served }
    });
    let outcome = thousand(16, ms(50), server);
    let most = ideal(1, ms(50));
    assert!(outcome.took < most, "{:?}, {most:?} at the most", outcome.took);
}

#[test]
fn case_136_silence_at_random_costs_little() {
    for (of, concurrency) in [(10, 4), (10, 16), (30, 2), (50, 8)] {
        let outcome = thousand(concurrency, ms(50), one_of(of, 7, Fate::Silent));
        let most = ideal(concurrency, ms(50)) * 8 + Duration::from_secs(120);
        assert!(
            outcome.took < most,
            "1 of {of} at {concurrency}: {:?}, {most:?} at the most",
            outcome.took
        );
    }
}

/// Silence comes in bursts: all that are in flight have no answer, and the next ones have one.
#[test]
fn case_136_bursts_of_silence_cost_seconds() {
    let server: Server = Box::new(|number, _, _| {
        if number % 200 < 8 && number >= 200 {
            Fate::Silent
        } else {
            Fate::Served
        }
    });
    let outcome = thousand(8, ms(50), server);
    let most = ideal(8, ms(50)) + Duration::from_secs(60);
    assert!(outcome.took < most, "{:?}, {most:?} at the most", outcome.took);
}

/// More connections than are served are refused by a status that is final elsewhere.
#[test]
fn case_111_refusals_of_more_connections_end_nothing() {
    for (limit, concurrency) in [(2, 8), (3, 64), (16, 32)] {
        let outcome = thousand(
            concurrency,
            ms(20),
            at_most(limit, Fate::Fails(AttemptEnd::Refused)),
        );
        let (refused, of) = outcome.refused_after(100);
        assert!(
            refused * 50 <= of,
            "{limit} of {concurrency}: {refused} of {of} refused"
        );
    }
}

/// Each attempt brings more than 4 KiB and is cut: that is progress, whatever `retries` says.
#[test]
fn case_106_an_attempt_that_is_cut_behind_its_progress_is_no_failure() {
    for retries in [Some(0), Some(3), None] {
        let mut schedule = Schedule::new(Settings {
            retries,
            ..settings(4, 4)
        });
        let (mut now, mut cuts, mut received) = (Duration::ZERO, 0, 0);
        while received < 4 * CHUNK {
            let attempt = next(&mut schedule, &mut now);
            now += ms(5);
            let end = attempt.end.expect("a range");
            schedule.begun(attempt.id, Some(4 * CHUNK), false, true, None, Some(end));
            let position = (attempt.start + 100_000).min(end);
            received += position - attempt.start;
            let is_cut = position < end;
            cuts += u64::from(is_cut);
            let how = if is_cut {
                AttemptEnd::Retry
            } else {
                AttemptEnd::Complete
            };
            let verdict = schedule.ended(attempt.id, now, position, how);
            assert_eq!(verdict, AfterAttempt::GoesOn, "{retries:?} after {cuts} cuts");
            while schedule.is_cursor_filled() {
                schedule.consumed();
            }
        }
        assert!(
            cuts > 30 && now < Duration::from_secs(2),
            "{cuts} cuts in {now:?}"
        );
    }
}
