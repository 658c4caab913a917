//! How the filling of a segment stands.

use crate::layout::{COMPLETE, Companion, FILLING};

/// How the filling of a segment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Bytes are arriving.
    Filling,
    /// All of the object is there.
    Complete,
    /// The rest will not come: the download failed, or the process that filled it died or closed
    /// it.
    Failed,
}

/// How the filling stands, in the light of whether the creator lives.
pub(crate) fn state(companion: &Companion, is_alive: impl Fn() -> bool) -> State {
    let dead = companion.state() == FILLING && !is_alive();
    // Check again: it may have ended well and closed since.
    match companion.state() {
        COMPLETE => State::Complete,
        FILLING if !dead => State::Filling,
        _ => State::Failed,
    }
}
