//! The delivery to a [`Destination`]: by the page, or straight into memory that it lends.
//!
//! Invariants: calls go through a gate that the end of the download closes, and lent memory keeps a
//! pass of it, so when [`deserted`](IntoDestination::deserted) has returned nothing gets to the
//! destination. Memory is lent to writers only while the download runs.

use std::{
    ops::Range,
    sync::{Arc, PoisonError},
};

use tokio::runtime::Handle;

use pget_schedule::Wanted;

use super::{
    buffer::CancelOnDrop,
    destination::{Destination, Keeps, Transfer},
    gate::{Gate, GatePass},
    landing::{Landing, PutMemory},
};
use crate::{
    Error, ErrorKind, Stats,
    budget::Reservation,
    download::Download,
    engine::delivery::{Delivery, Offer, Order},
    memory::{Region, Slot, SlotMemory},
    sync::{Mutex, MutexGuard},
    threads::block_on,
};

/// Bytes go to a destination.
pub(crate) struct IntoDestination {
    gate: Gate,
    /// What the destination can return. Asked once, as later questions would come under a lock.
    keeps: Keeps,
    object: String,
    place: Mutex<Place>,
    puts: PutMemory,
}

/// Where the destination wants its bytes.
enum Place {
    /// It knows of nothing yet.
    Unbegun,
    /// By `put`.
    Put,
    /// In its memory.
    Memory(Landing),
    /// Nowhere: the download is over.
    Over,
}

/// A boxed buffer as a buffer.
struct Boxed(Box<dyn AsMut<[u8]> + Send>);

impl AsMut<[u8]> for Boxed {
    fn as_mut(&mut self) -> &mut [u8] {
        (*self.0).as_mut()
    }
}

impl IntoDestination {
    /// # Errors
    /// If the destination panics when it is asked what it keeps.
    pub(crate) fn new(destination: Arc<dyn Destination>, object: String) -> Result<Self, Error> {
        let gate = Gate::new(destination);
        Ok(Self {
            keeps: gate.ask_keeps()?,
            gate,
            object,
            place: Mutex::new(Place::Unbegun),
            puts: PutMemory::default(),
        })
    }

    /// Waits until the delivery is closed and nothing can get to the destination.
    pub(crate) async fn deserted(&self) {
        self.gate.deserted().await;
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place in `memory`, which keeps the `pass` while it is in the hands of writers.
    fn in_memory(
        &self,
        memory: Box<dyn AsMut<[u8]> + Send>,
        is_fresh: bool,
        pass: GatePass,
        offer: &Offer<'_>,
    ) -> Result<Place, Error> {
        let refused = |message: String| Err(Error::new(ErrorKind::Destination, self.object.clone(), message));
        let Some(end) = offer.end else {
            return refused("there is memory, but the object's size is not known before its end".into());
        };
        let region = Region::keeping(Boxed(memory), move |memory| {
            drop(memory);
            drop(pass);
        });
        let (length, wanted) = (region.len() as u64, end - offer.start);
        if length < wanted {
            return refused(format!("{wanted} bytes do not fit in {length}"));
        }
        let region = if is_fresh { region.that_is_fresh() } else { region };
        Ok(Place::Memory(Landing::new(region, offer.start)))
    }
}

impl Delivery for IntoDestination {
    fn order(&self) -> Order {
        Order::Landing
    }

    fn is_whole(&self, all: bool) -> bool {
        all || self.keeps == Keeps::Object
    }

    fn begin(&self, offer: &Offer<'_>) -> Result<(), Error> {
        let closed = || Error::new(ErrorKind::Cancelled, self.object.clone(), "");
        let pass = self.gate.enter().ok_or_else(closed)?;
        let transfer = self.gate.begin(&pass, offer.object, offer.start, offer.end)?;
        let begun = match transfer {
            Transfer::Put => Place::Put,
            Transfer::Memory(memory) => self.in_memory(memory, false, pass, offer)?,
            Transfer::Fresh(memory) => self.in_memory(memory, true, pass, offer)?,
        };
        let mut place = self.place();
        // What it lends after the end goes back at once, outside the lock.
        if matches!(*place, Place::Over) {
            drop(place);
            return Err(closed());
        }
        *place = begun;
        Ok(())
    }

    fn memory_for(&self, bytes: u64, page: usize) -> Option<u64> {
        match &*self.place() {
            Place::Unbegun => Some(bytes.min(page as u64)),
            Place::Put => Some(self.puts.of_chunk(bytes, page)),
            Place::Memory(_) => None,
            Place::Over => Some(bytes),
        }
    }

    fn slot_memory(&self, _range: &Range<u64>, reserved: Option<Reservation>) -> SlotMemory {
        match &*self.place() {
            Place::Unbegun | Place::Over => SlotMemory::Pages(reserved),
            Place::Put => SlotMemory::Put(reserved),
            Place::Memory(landing) => landing.slot_memory(),
        }
    }

    fn withholds(&self) {
        self.puts.withhold();
    }

    fn put(&self, offset: u64, bytes: &[u8], publish: &mut dyn FnMut()) -> Result<bool, Error> {
        // Held until the bytes are reported: when `read_to` returns, all that was put was reported.
        let Some(pass) = self.gate.enter() else {
            return Ok(false);
        };
        self.gate.put(&pass, offset, bytes)?;
        publish();
        self.gate.landed(offset..offset + bytes.len() as u64)?;
        Ok(true)
    }

    fn landed(&self, _slot: &Slot, range: Range<u64>) -> Result<(), Error> {
        self.gate.landed(range)
    }

    fn read_back(
        &self,
        range: Range<u64>,
        buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, Error> {
        let Some(pass) = self.gate.enter() else {
            return Ok(false);
        };
        if self.keeps != Keeps::Nothing {
            buffer.resize(usize::try_from(range.end - range.start).unwrap_or(usize::MAX), 0);
            self.gate.read_back(&pass, range.start, buffer)?;
            each(buffer);
            return Ok(true);
        }
        let landing = match &*self.place() {
            Place::Memory(landing) => landing.clone(),
            Place::Unbegun | Place::Put | Place::Over => return Ok(false),
        };
        Ok(landing.read_back(&range, each))
    }

    fn close(&self) {
        let place = std::mem::replace(&mut *self.place(), Place::Over);
        // Outside the lock, as its memory may go back to its owner.
        drop(place);
        self.gate.close();
    }
}

impl Download {
    /// Reads to `destination` on the caller's tokio runtime; returns what was done, `delivered`
    /// being the number of bytes placed.
    ///
    /// When it has returned, well or not, nothing gets to the destination any more, and all that
    /// got there was reported to [`landed`](Destination::landed). Dropping the future cancels, and
    /// does not wait: calls of the destination that have begun then go on to their end, and
    /// memory of a [`Transfer::Memory`](super::Transfer::Memory) is dropped when the last writer
    /// has let go of it.
    ///
    /// # Errors
    /// What ended the download, or the destination's error.
    pub async fn read_to(&self, destination: Arc<dyn Destination>) -> Result<Stats, Error> {
        self.deliver_to(&Handle::current(), None, destination).await
    }

    /// The same from a thread that may block, on `runtime` (with time enabled).
    ///
    /// # Errors
    /// As [`read_to`](Self::read_to).
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime, as tokio's `block_on` does.
    #[doc(hidden)]
    pub fn read_to_on(&self, runtime: &Handle, destination: Arc<dyn Destination>) -> Result<Stats, Error> {
        self.check_process()?;
        block_on(runtime, self.deliver_to(runtime, None, destination))
    }

    /// Reads only `extents` of the object to `destination`, as [`read_to`](Self::read_to) does:
    /// what is missing of it. In any order; what lies beyond the object's end is left out. The
    /// [`Transfer::Memory`](super::Transfer::Memory) of a destination reaches from the first byte
    /// of the first to the last of the last. If nothing is wanted, nothing is sent, and the
    /// destination is not called.
    ///
    /// # Errors
    /// As [`read_to`](Self::read_to); [`InvalidArgument`](ErrorKind::InvalidArgument) if an extent
    /// ends before it begins, or an offset or a length is set; what the destination says of [the
    /// extents](Destination::check_extents).
    pub async fn read_extents_to(
        &self,
        extents: &[Range<u64>],
        destination: Arc<dyn Destination>,
    ) -> Result<Stats, Error> {
        let wanted = self.wanted_for(&*destination, extents)?;
        self.deliver_to(&Handle::current(), Some(wanted), destination)
            .await
    }

    /// The same from a thread that may block, on `runtime` (with time enabled).
    ///
    /// # Errors
    /// As [`read_extents_to`](Self::read_extents_to).
    ///
    /// # Panics
    /// On a thread of an asynchronous runtime, as tokio's `block_on` does.
    #[doc(hidden)]
    pub fn read_extents_to_on(
        &self,
        runtime: &Handle,
        extents: &[Range<u64>],
        destination: Arc<dyn Destination>,
    ) -> Result<Stats, Error> {
        let wanted = self.wanted_for(&*destination, extents)?;
        block_on(runtime, self.deliver_to(runtime, Some(wanted), destination))
    }

    /// The `extents`, if they can be read to `destination`.
    fn wanted_for(&self, destination: &dyn Destination, extents: &[Range<u64>]) -> Result<Wanted, Error> {
        self.check_process()?;
        self.check_has_no_range()?;
        for extent in extents {
            if extent.start > extent.end {
                return Err(self.invalid(format!("an extent from {} to {}", extent.start, extent.end)));
            }
        }
        destination.check_extents(extents)?;
        Ok(Wanted::of(extents.to_vec()))
    }

    async fn deliver_to(
        &self,
        runtime: &Handle,
        wanted: Option<Wanted>,
        destination: Arc<dyn Destination>,
    ) -> Result<Stats, Error> {
        self.check_process()?;
        let delivery = self.verified(IntoDestination::new(destination, self.source.name())?);
        let engine = self.start(runtime, wanted, Arc::clone(&delivery) as _);
        let guard = CancelOnDrop(Arc::clone(&engine));
        let result = self.ended(&engine).await;
        drop(guard);
        if !engine.is_forked() {
            delivery.inner().deserted().await;
        }
        result.map(|_| engine.stats())
    }
}
