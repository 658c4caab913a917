//! Creators that are killed.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use pget_core::ErrorKind;
use pget_shm::{Placement, SharedBuffer, State, list, sweep};

use crate::{
    fresh_name, is_there,
    other::{Other, stop},
};

/// Time within which a death must be noticed.
const NOTICED: Duration = Duration::from_secs(2);

#[test]
fn readers_of_a_killed_filler_get_an_error_and_nothing_is_left() {
    let mut random = fastrand::Rng::with_seed(5);
    for round in 0..20 {
        let name = match round % 2 {
            0 => "-".to_owned(),
            _ => fresh_name(&format!("killed-{round}")),
        };
        let mut filler = Other::start("fill", &format!("{name} 40000000"));
        let name = filler.says().expect("its name");
        let mut readers: Vec<_> = (0..2).map(|_| Other::start("read", &name)).collect();
        for reader in &mut readers {
            assert_eq!(reader.says().as_deref(), Some("attached"));
        }
        filler.tell("go on");
        assert_eq!(filler.says().as_deref(), Some("going on"));
        // The kill comes at a random moment: before the first step, within one, or between two.
        std::thread::sleep(Duration::from_micros(random.u64(0..30_000)));
        filler.kill();
        let killed = Instant::now();
        for mut reader in readers {
            let said = reader.says().expect("a word");
            assert!(said.starts_with("Unavailable"), "{said}");
            assert!(killed.elapsed() < NOTICED, "{:?}", killed.elapsed());
            reader.ends_well();
        }
        if name.starts_with("/proc/") {
            let error = SharedBuffer::attach(&name).expect_err("gone");
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        // The next creation removes the segment.
        let next = fresh_name("next");
        SharedBuffer::create(Placement::Named(next), 1, "").expect("a segment");
        assert!(!is_there(&name));
    }
}

#[test]
fn a_dead_creators_segment_is_none_to_attach_to_and_its_name_can_be_used() {
    let name = fresh_name("dead");
    let mut filler = Other::start("fill", &format!("{name} 1000"));
    filler.says().expect("its name");
    filler.tell("10");
    assert_eq!(filler.says().as_deref(), Some("done"));
    let attached = SharedBuffer::attach(&name).expect("attached");
    let listed = list().expect("a list");
    let own = listed.iter().find(|one| one.name == name).expect("listed");
    assert_eq!(
        (
            own.length,
            own.available,
            own.state,
            own.alive,
            own.revision.as_str()
        ),
        (1000, 10, State::Filling, true, "version 7")
    );
    let error = SharedBuffer::create(Placement::Named(name.clone()), 1, "").expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::Destination);
    assert!(error.to_string().contains("taken"), "{error}");
    filler.kill();
    assert_eq!(attached.state(), State::Failed);
    // The bytes that have arrived stay readable.
    assert_eq!(attached.wait_for(10).expect("there"), crate::content(10));
    if let Err(error) = SharedBuffer::attach(&name) {
        // The error is not-found if another test has cleaned up the segment.
        assert!(
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::NotFound),
            "{error}"
        );
    } else {
        panic!("attached to the dead");
    }
    let (shared, _filler) = SharedBuffer::create(Placement::Named(name.clone()), 1, "").expect("a segment");
    sweep().expect("swept");
    SharedBuffer::attach(shared.name()).expect("the living stay");
}

#[test]
fn a_forked_child_does_not_hold_its_parents_lock() {
    let name = fresh_name("forked");
    let mut parent = Other::start("fork", &name);
    let (mut child, mut ready) = (None, false);
    while child.is_none() || !ready {
        match parent.says().expect("two lines").as_str() {
            "a child" => ready = true,
            number => child = Some(number.to_owned()),
        }
    }
    let attached = SharedBuffer::attach(&name).expect("attached");
    assert_eq!(attached.state(), State::Filling);
    parent.kill();
    let killed = Instant::now();
    let error = attached.wait_for(11).expect_err("dead");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(killed.elapsed() < NOTICED, "{:?}", killed.elapsed());
    sweep().expect("swept");
    assert!(!is_there(&name));
    stop(&child.expect("a child"));
}

/// A child's own segments are distinct from the copies that it has of its parent's.
#[test]
fn a_forked_child_that_makes_a_segment_leaves_its_parents_alone() {
    let (name, of_child) = (fresh_name("parents"), fresh_name("childs"));
    let mut parent = Other::start("fork-own", &format!("{name} {of_child}"));
    let (mut child, mut said) = (None, None);
    while child.is_none() || said.is_none() {
        let line = parent.says().expect("two lines");
        match line.strip_prefix("a child ") {
            Some(line) => said = Some(line.to_owned()),
            None => child = Some(line),
        }
    }
    assert_eq!(said.as_deref(), Some("Err(Forked) Filling"));
    let attached = SharedBuffer::attach(&name).expect("attached");
    let own = SharedBuffer::attach(&of_child).expect("attached");
    assert_eq!((attached.state(), own.state()), (State::Filling, State::Filling));
    assert_eq!(own.wait_for(20).expect("there"), crate::content(20));
    parent.tell("go on");
    assert_eq!(parent.says().as_deref(), Some("Complete"));
    assert_eq!(attached.wait_for(100).expect("complete"), crate::content(100));
    stop(&child.expect("a child"));
    assert_eq!(own.wait_for(21).expect_err("dead").kind(), ErrorKind::Unavailable);
    parent.ends_well();
    assert!(!is_there(&name));
    sweep().expect("swept");
    assert!(!is_there(&of_child));
}

#[test]
fn a_death_is_noticed_by_who_is_woken_all_the_time() {
    let mut filler = Other::start("fill", "- 1000");
    let shared = SharedBuffer::attach(&filler.says().expect("its name")).expect("attached");
    let waker = shared.waker().expect("open");
    let is_over = AtomicBool::new(false);
    filler.kill();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Look so often that no sleep of the other thread lasts as long as the pause between
            // two looks.
            while !is_over.load(Ordering::Relaxed) {
                waker.wake();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let began = Instant::now();
        let late = Duration::from_secs(60);
        let error = shared.wait_until(1, began + late).expect_err("dead");
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(began.elapsed() < late / 2, "{:?}", began.elapsed());
    });
}
