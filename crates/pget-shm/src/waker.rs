//! Waking those who wait, from another thread, without the thing that they wait on.

use std::{fmt, sync::Arc};

use crate::{layout::Companion, mapping::Mapped, ring::Marks, segment::Segment};

/// Has who waits on a segment or at one end of a ring look again whether to go on. Any thread may
/// use it, at any time; it keeps nothing from being closed.
#[derive(Clone)]
pub struct Waker(pub(crate) Wakes);

#[derive(Clone)]
pub(crate) enum Wakes {
    Segment(Arc<Segment>),
    Companion(Arc<Mapped<Companion>>),
    Marks(Arc<Mapped<Marks>>),
}

impl Waker {
    /// Wakes it, if it waits. One that is between its last look and its sleep misses that if it
    /// only reads (attached to a segment, or a ring's reader): it looks again a quarter of a second
    /// later.
    pub fn wake(&self) {
        match &self.0 {
            // The word changes, so who goes to sleep on its old value does not.
            Wakes::Segment(segment) => segment.companion().notify(),
            Wakes::Marks(marks) => marks.notify(),
            // Mapped for reading only.
            Wakes::Companion(companion) => companion.wake(),
        }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Instant,
    };

    use pget_core::ErrorKind;

    use super::*;
    use crate::{Placement, RingReader, RingWriter, SharedBuffer, wait::LIVENESS};

    /// Whether some wait of twenty that was asked to stop after it had looked, and before it slept,
    /// ended before it would have looked again by itself.
    fn is_heard(waker: Waker, mut wait: impl FnMut(Box<dyn Fn() -> bool + Send>)) -> bool {
        (0..20).any(|_| {
            let (waker, told) = (waker.clone(), AtomicBool::new(false));
            let stop = move || {
                let was = told.swap(true, Ordering::SeqCst);
                if !was {
                    waker.wake();
                }
                was
            };
            let begun = Instant::now();
            wait(Box::new(stop));
            begun.elapsed() < LIVENESS
        })
    }

    #[test]
    fn who_is_woken_between_its_look_and_its_sleep_looks_again() {
        let (shared, _filler) = SharedBuffer::create(Placement::Anonymous, 10, "").expect("a segment");
        assert!(is_heard(shared.waker().expect("open"), |stop| {
            let error = shared.wait_unless(1, None, &*stop).expect_err("stopped");
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        }));

        let mut ring = RingWriter::create(None, 4096).expect("a ring");
        let _reader = RingReader::attach(ring.name()).expect("attached");
        ring.begin("", None).expect("begun");
        ring.put(&[1; 4096]).expect("room");
        assert!(is_heard(ring.waker(), |stop| {
            ring.stop_when(stop);
            let error = ring.put(b"x").expect_err("stopped");
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        }));
    }
}
