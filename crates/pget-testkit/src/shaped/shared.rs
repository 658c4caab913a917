//! The state that the server's thread and its handle share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::network::Network;

/// The clients' activity since the start or the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Requests that arrived, refused ones included.
    pub requests: u64,
    /// Requests answered with 503.
    pub refused: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Bytes of bodies sent.
    pub bytes: u64,
    /// Requests being answered now.
    pub in_flight: u32,
    /// The most requests that were being answered at any time.
    pub most_in_flight: u32,
}

/// The state that the server's thread and its handle share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) network: Network,
    pub(super) counters: Counters,
    pub(super) stops: bool,
    /// The clock of changes restarts.
    pub(super) resets: bool,
}

pub(super) fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets the counters to zero, except for requests in flight.
pub(super) fn reset(shared: &mut Shared) {
    let in_flight = shared.counters.in_flight;
    shared.counters = Counters {
        in_flight,
        most_in_flight: in_flight,
        ..Counters::default()
    };
    shared.resets = true;
}
