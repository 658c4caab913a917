//! One attempt in flight, and whether it is being fenced.

use std::sync::Arc;

use pget_schedule::Flow;

use crate::{
    RangeRequest,
    memory::{Pulse, Slot},
};

/// An attempt in flight.
pub(crate) struct InFlight {
    pub(crate) request: RangeRequest,
    /// The slot it fills now.
    pub(crate) slot: Arc<Slot>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) restream: bool,
    pub(crate) fence: Fence,
}

impl InFlight {
    pub(crate) fn flow(&self) -> Flow {
        Flow {
            asked: self.pulse.is_asked(),
            bytes: self.pulse.bytes(),
            position: self.slot.position(),
        }
    }
}

/// Whether an attempt is being fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    No,
    /// Its task is being ended.
    Asked,
    /// Its task has ended; its writer is still there.
    Held,
}
