//! What a download holds, and that nothing stays after a drop or a cancel.

use std::{sync::Arc, task::Poll, time::Duration};

use pget_core::{Budget, ErrorKind, Options};
use pget_testkit::sources::{Form, Object, Play, Staged, Stop};

use crate::{SIZE, object, options, reader};

/// Drops the reader after `polls` polls, and returns the download's monitor.
async fn drop_at_poll(source: &Arc<Staged>, options: Options, polls: usize) -> pget_core::Monitor {
    let mut reader = reader(source, options);
    let monitor = reader.monitor();
    let mut count = 0;
    std::future::poll_fn(|cx| {
        loop {
            if count >= polls {
                return Poll::Ready(());
            }
            count += 1;
            match reader.poll_lease(cx) {
                Poll::Ready(Ok(Some(_))) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    monitor
}

#[tokio::test(start_paused = true)]
async fn a_drop_at_any_poll_leaves_nothing() {
    for (concurrency, form) in [(1, Form::Range), (4, Form::Range), (4, Form::Whole)] {
        for polls in (0..30).chain([40, 60, 100, 1000]) {
            let source = Staged::new(move |_| {
                Play::right(object())
                    .form(form)
                    .paced(20_000, Duration::from_millis(1))
                    .delayed(Duration::from_millis(2))
            });
            let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
            let monitor = drop_at_poll(&source, options(concurrency), polls).await;
            let mut turns = 0;
            while source.active() > 0
                || monitor.stats().buffered > 0
                || tokio::runtime::Handle::current().metrics().num_alive_tasks() > tasks
            {
                assert!(
                    turns < 100,
                    "dropped at poll {polls}: {} reads, {:?}",
                    source.active(),
                    monitor.stats()
                );
                turns += 1;
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_from_elsewhere_wakes_the_waiting_reader() {
    let source = Staged::new(|_| Play::right(object()).stop(10, Stop::Stall));
    let mut reader = reader(&source, options(4));
    let monitor = reader.monitor();
    let task = tokio::spawn(async move {
        let first = reader.next().await.expect("ten bytes").expect("ten bytes");
        assert_eq!(first.len(), 10);
        reader.next().await
    });
    // The clock is simulated, and moves when every task waits: the reader does by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    monitor.cancel();
    let result = tokio::time::timeout(Duration::from_millis(1), task)
        .await
        .expect("at once");
    assert_eq!(
        result.expect("no panic").expect_err("cancelled").kind(),
        ErrorKind::Cancelled
    );
    assert_eq!(source.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn kept_leases_do_not_stop_a_window_of_one() {
    let source = Staged::right(object());
    let mut options = options(4);
    options.window = Some(1);
    let mut reader = reader(&source, options);
    let mut kept = Vec::new();
    while let Some(lease) = reader.next().await.expect("it goes on") {
        kept.push(lease);
    }
    assert_eq!(kept.iter().map(|lease| lease.len() as u64).sum::<u64>(), SIZE);
    assert!(
        kept.iter()
            .all(|lease| object().pattern.check(lease.offset(), lease).is_ok())
    );
}

#[tokio::test(start_paused = true)]
async fn two_readers_in_turn_under_a_tiny_budget() {
    // Two downloads share one connection and 1 MiB, which is one chunk. The test reads them in both
    // orders, and also as a stream that keeps its connection while it waits.
    let size = 5 << 20;
    for forms in [
        (Form::Range, Form::Range),
        (Form::Whole, Form::Range),
        (Form::Whole, Form::Whole),
    ] {
        let budget = Budget::new(1 << 20, 1);
        let open = |form| {
            let object = Object::new(1, size);
            let source = Staged::new(move |_| Play::right(object.clone()).form(form));
            let mut options = options(4);
            options.chunk_size = Some(1 << 20);
            options.window = Some(4);
            options.budget = Arc::clone(&budget);
            reader(&source, options)
        };
        let (mut a, mut b) = (open(forms.0), open(forms.1));
        let both = async {
            a.next().await.expect("a begins");
            let mut left = b.next().await.expect("b begins").map_or(0, |lease| lease.len());
            while let Some(lease) = b.next().await.expect("b goes on while a waits") {
                left += lease.len();
            }
            assert_eq!(left as u64, size);
            while a.next().await.expect("a goes on").is_some() {}
        };
        tokio::time::timeout(Duration::from_secs(3600), both)
            .await
            .unwrap_or_else(|_| panic!("{forms:?} wait for each other"));
    }
}
