//! A download's knowledge of its object: the required revision, and the facts from replies.
//!
//! Invariant: the first accepted reply fixes the revision, once.

use std::sync::Arc;

use super::{
    accept::{hold_against, learn},
    identity::ObjectInfo,
};
use crate::{Reply, SourceError};

/// A download's knowledge of its object.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The revision that the first reply must have.
    pin: Option<Arc<ObjectInfo>>,
    /// The facts from the first reply.
    first: Option<Arc<ObjectInfo>>,
    /// The facts from all accepted replies together.
    learned: ObjectInfo,
}

impl Known {
    /// Begins with what the caller pins, if anything.
    pub(crate) fn new(pin: Option<ObjectInfo>) -> Self {
        // Nothing is known of how this server takes ranges; in a pin, that it does not is no
        // promise.
        let pin = pin.map(|info| {
            Arc::new(ObjectInfo {
                ranges: Some(false),
                ..info
            })
        });
        Self {
            pin,
            ..Self::default()
        }
    }

    /// Returns what the first reply said, once it was accepted.
    pub(crate) const fn first(&self) -> Option<&Arc<ObjectInfo>> {
        self.first.as_ref()
    }

    /// Returns the revision that replies must be of, if there is one yet.
    pub(crate) fn revision(&self) -> Option<&Arc<ObjectInfo>> {
        self.first.as_ref().or(self.pin.as_ref())
    }

    /// Returns the object's size, if an accepted reply stated it.
    pub(crate) const fn size(&self) -> Option<u64> {
        self.learned.size
    }

    /// Fixes the revision: `info` is what the first reply said.
    pub(crate) fn fix(&mut self, info: ObjectInfo) {
        self.first = Some(Arc::new(info));
    }

    /// The first reply, which stated `size`, is not used; the object is read again as one stream.
    ///
    /// Nothing but the size ties the two replies together. Half of the size that was reported must
    /// not pass for all of the object.
    pub(crate) fn start_over(&mut self, size: Option<u64>) {
        let pin = self.pin.take().unwrap_or_default();
        self.pin = Some(Arc::new(ObjectInfo {
            size: pin.size.or(size),
            ranges: Some(false),
            ..ObjectInfo::clone(&pin)
        }));
    }

    /// Checks whether `info` is of the revision that it must be.
    ///
    /// # Errors
    /// `ObjectChanged` if it is not.
    pub(crate) fn check(&self, info: &ObjectInfo) -> Result<(), SourceError> {
        match self.revision() {
            Some(revision) => hold_against(revision, &info.revision, info.size),
            None => Ok(()),
        }
    }

    /// Learns from an accepted reply.
    ///
    /// # Errors
    /// `ObjectChanged` if it contradicts an earlier one.
    pub(crate) fn learn(&mut self, reply: &Reply, total: Option<u64>) -> Result<(), SourceError> {
        learn(&mut self.learned, reply, total)
    }
}
