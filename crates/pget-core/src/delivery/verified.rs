//! The wrapper that compares what a delivery gets with the checksum that the source publishes.
//!
//! What lands is hashed as it lands: what is put, before it is published; what is received in
//! place, just after. What a reader takes in order is hashed by the reader, in cache, which reports
//! the outcome here.
//!
//! Invariants: a download that is not read in order settles well only when all of it is verified,
//! or cannot be and need not; each byte that lands is hashed once.

use std::{
    ops::Range,
    sync::{OnceLock, PoisonError},
};

use crate::{
    Error, ErrorKind, SourceError, Verification, Verify,
    budget::Reservation,
    engine::delivery::{Delivery, Offer, Order},
    memory::{Slot, SlotMemory},
    sync::{Mutex, MutexGuard},
    verify::{self, Digest, Placed},
};

/// `D`, with its bytes compared with the published checksum.
pub(crate) struct Verified<D> {
    inner: D,
    wish: Verify,
    object: String,
    check: Mutex<Check>,
    /// What lands is compared with this.
    sums: OnceLock<Placed>,
}

/// What the bytes are compared with, and what came of it.
#[derive(Default)]
struct Check {
    expected: Option<Digest>,
    outcome: Verification,
}

impl<D: Delivery> Verified<D> {
    pub(crate) fn new(inner: D, wish: Verify, object: String) -> Self {
        Self {
            inner,
            wish,
            object,
            check: Mutex::default(),
            sums: OnceLock::new(),
        }
    }

    pub(crate) const fn inner(&self) -> &D {
        &self.inner
    }

    fn check(&self) -> MutexGuard<'_, Check> {
        self.check.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what the bytes are to be compared with, once the first reply was accepted.
    pub(crate) fn expected(&self) -> Option<Digest> {
        self.check().expected
    }

    /// All bytes were compared with the published checksum: they fit, or how they do not.
    ///
    /// # Errors
    /// The download's, if they do not.
    pub(crate) fn compared(&self, result: Result<(), String>) -> Result<(), Error> {
        let mut check = self.check();
        let Some(algorithm) = check.expected.map(|expected| expected.algorithm()) else {
            return Ok(());
        };
        let Err(message) = result else {
            check.outcome = Verification::Verified(algorithm);
            return Ok(());
        };
        check.outcome = Verification::Mismatch(algorithm);
        Err(Error::new(ErrorKind::Checksum, self.object.clone(), message))
    }

    /// All bytes are there, and the delivery cannot return those that are still to be hashed.
    fn unreadable(&self) -> Result<(), Error> {
        let mut check = self.check();
        let Some(expected) = check.expected else {
            return Ok(());
        };
        let why = Verification::Unreadable(expected.algorithm());
        check.outcome = why;
        if self.wish == Verify::Require {
            let message = verify::unmet(why);
            return Err(Error::new(ErrorKind::Unverifiable, self.object.clone(), message));
        }
        Ok(())
    }

    /// Hashes `range`, which lands now; `each` passes on its bytes.
    fn hash(&self, range: Range<u64>, each: impl FnOnce(&mut dyn FnMut(&[u8]))) {
        if let Some(sums) = self.sums.get() {
            sums.landed(range, each);
        }
    }

    /// Hashes some of what landed ahead of bytes that came later.
    fn catch_up(&self) -> Result<(), Error> {
        let Some(sums) = self.sums.get() else {
            return Ok(());
        };
        sums.catch_up(&|range, buffer, each| self.inner.read_back(range, buffer, each))
    }
}

impl<D: Delivery> Delivery for Verified<D> {
    fn order(&self) -> Order {
        self.inner.order()
    }

    fn is_whole(&self, all: bool) -> bool {
        self.inner.is_whole(all)
    }

    fn wish(&self, all: bool) -> Verify {
        if self.is_whole(all) {
            self.wish
        } else {
            Verify::Off
        }
    }

    /// Decides, by the first reply, what the bytes are compared with.
    fn accept(&self, offer: &Offer<'_>) -> Result<(), SourceError> {
        self.inner.accept(offer)?;
        let mut check = self.check();
        match verify::plan(
            self.wish,
            self.is_whole(offer.all),
            offer.object.checksum.as_ref(),
        ) {
            Ok(digest) => {
                check.outcome = Verification::Pending(digest.algorithm());
                check.expected = Some(digest);
                if self.order() == Order::Landing {
                    self.sums.get_or_init(|| Placed::new(digest));
                }
            }
            Err(why) => {
                check.outcome = why;
                if self.wish == Verify::Require {
                    return Err(SourceError::fatal(ErrorKind::Unverifiable, verify::unmet(why)));
                }
            }
        }
        Ok(())
    }

    fn begin(&self, offer: &Offer<'_>) -> Result<(), Error> {
        self.inner.begin(offer)
    }

    fn memory_for(&self, bytes: u64, page: usize) -> Option<u64> {
        self.inner.memory_for(bytes, page)
    }

    fn slot_memory(&self, range: &Range<u64>, reserved: Option<Reservation>) -> SlotMemory {
        self.inner.slot_memory(range, reserved)
    }

    fn withholds(&self) {
        self.inner.withholds();
    }

    fn put(&self, offset: u64, bytes: &[u8], publish: &mut dyn FnMut()) -> Result<bool, Error> {
        let range = offset..offset + bytes.len() as u64;
        let mut hash_and_publish = || {
            self.hash(range.clone(), |each| each(bytes));
            publish();
        };
        let is_put = self.inner.put(offset, bytes, &mut hash_and_publish)?;
        if is_put {
            self.catch_up()?;
        }
        Ok(is_put)
    }

    fn landed(&self, slot: &Slot, range: Range<u64>) -> Result<(), Error> {
        self.hash(range.clone(), |each| {
            for lease in slot.landed(range.clone()) {
                each(&lease);
            }
        });
        self.inner.landed(slot, range)?;
        self.catch_up()
    }

    fn read_back(
        &self,
        range: Range<u64>,
        buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        self.inner.read_back(range, buffer, each)
    }

    /// Hashes the next piece of what is missing, and compares in the end.
    fn settle(&self, end: u64) -> Result<bool, Error> {
        let Some(sums) = self.sums.get() else {
            return Ok(false);
        };
        let settled = sums.settle(end, &|range, buffer, each| {
            self.inner.read_back(range, buffer, each)
        })?;
        match settled {
            Some(true) => Ok(true),
            Some(false) => self.compared(sums.finish(end)).map(|()| false),
            None => self.unreadable().map(|()| false),
        }
    }

    fn verification(&self) -> Verification {
        self.check().outcome
    }

    fn close(&self) {
        self.inner.close();
    }
}
