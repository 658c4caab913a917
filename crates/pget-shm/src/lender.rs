//! Where a segment keeps the mapping that downloads receive into.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::mapping::Mapping;

/// Where a segment's writable mapping is.
#[derive(Debug, Default)]
pub(crate) struct Lender(Mutex<Writable>);

#[derive(Debug, Default)]
pub(crate) enum Writable {
    #[default]
    None,
    Here(Mapping),
    Lent,
}

impl Lender {
    pub(crate) fn is_lent(&self) -> bool {
        matches!(*self.state(), Writable::Lent)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, Writable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
