//! Waking those who wait, from another thread, without the thing that they wait on.

use std::{fmt, sync::Arc};

use crate::{layout::Companion, mapping::Mapped, ring::Marks, segment::Segment};

/// Has who waits on a segment or at one end of a ring look again whether to go on. Any thread may use it, at any time; it keeps nothing from being closed.
#[derive(Clone)]
pub struct Waker(pub(crate) Wakes);

#[derive(Clone)]
pub(crate) enum Wakes {
    Segment(Arc<Segment>),
    Companion(Arc<Mapped<Companion>>),
    Marks(Arc<Mapped<Marks>>),
}

impl Waker {
    /// Wakes it, if it waits.
    pub fn wake(&self) {
        match &self.0 {
            Wakes::Segment(segment) => segment.companion().wake(),
            Wakes::Companion(companion) => companion.wake(),
            Wakes::Marks(marks) => marks.wake(),
        }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
