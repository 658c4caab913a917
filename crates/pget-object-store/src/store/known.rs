//! What reads of one store have found out, for the reads that follow.
//!
//! Invariant: nothing here is believed. Each answer is compared with the revision that is known,
//! and a read that finds another one starts again without it.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::super::object_store::path::Path;

/// Objects that are known at once.
const MOST: usize = 256;

/// The number of the next store.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What is known of one store: `M` describes a revision of an object.
#[derive(Debug)]
pub(super) struct Known<M> {
    number: u64,
    /// The last one is the newest.
    objects: Mutex<Vec<(Path, M)>>,
}

impl<M: Clone> Known<M> {
    pub(super) fn new() -> Self {
        Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            objects: Mutex::new(Vec::new()),
        }
    }

    /// Returns the name under which downloads share what they measure. It is the store's alone.
    pub(super) fn endpoint(&self) -> String {
        format!("object_store#{}", self.number)
    }

    fn objects(&self) -> MutexGuard<'_, Vec<(Path, M)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the latest revision that was seen of the object.
    pub(super) fn find(&self, location: &Path) -> Option<M> {
        let objects = self.objects();
        let found = objects.iter().find(|(path, _)| path == location)?;
        Some(found.1.clone())
    }

    /// Notes the revision that a store has reported of the object.
    pub(super) fn note(&self, location: &Path, revision: &M) {
        let mut objects = self.objects();
        objects.retain(|(path, _)| path != location);
        if objects.len() >= MOST {
            objects.remove(0);
        }
        objects.push((location.clone(), revision.clone()));
    }

    pub(super) fn forget(&self, location: &Path) {
        self.objects().retain(|(path, _)| path != location);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_revisions_are_known() {
        let known = Known::new();
        let path = |number: usize| Path::from(number.to_string());
        for number in 0..=MOST {
            known.note(&path(number), &1);
        }
        known.note(&path(7), &2);
        assert_eq!(known.find(&path(0)), None);
        assert_eq!(known.find(&path(MOST)), Some(1));
        assert_eq!(known.find(&path(7)), Some(2));
        known.forget(&path(7));
        assert_eq!(known.find(&path(7)), None);
        assert_ne!(known.endpoint(), Known::<u8>::new().endpoint());
    }
}
