//! One object in shared memory: one process fetches it, any number of processes of the same user
//! read it while it arrives. Linux only.
//!
//! A [`SharedBuffer`] shows one *segment*, which is two files: the *data*, as long as the object
//! exactly, so that any program can map it by its name, and the *companion*, one page that says
//! what has arrived. The creator fills the data through a [`Filler`]; everyone waits by
//! [`SharedBuffer::wait_for`] and reads by [`SharedBuffer::as_slice`].
//!
//! | | data | companion | what `kill -9` of the creator leaves |
//! |---|---|---|---|
//! | anonymous | a memfd, sealed against shrinking and growing; its name is `/proc/PID/fd/N` | a memfd whose descriptor's number `M` is in the data's own name, `pget-M` | nothing |
//! | named `NAME` | `/dev/shm/NAME`, mode 0600 | `/dev/shm/NAME.pget`, mode 0600 | both, until the next named creation or [`sweep`] |
//!
//! # The companion, layout version 1
//!
//! All numbers in the machine's byte order.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `pgetshm` and a zero |
//! | 8 | 4 | layout version: 1 |
//! | 12 | 4 | state: 1 filling, 2 complete, 3 failed |
//! | 16 | 8 | length of the object |
//! | 24 | 8 | watermark: so many bytes from the start on are there |
//! | 32 | 4 | notices: a futex word, counted up and woken with every change of watermark or state, and when those who wait are to look whether to go on |
//! | 36 | 4 | why it failed: the kind of error (its place in `layout::KINDS`) |
//! | 40 | 8 | inode of the data, which the sweeper compares before it removes a file |
//! | 48 | 4 | bytes of the revision's text |
//! | 52 | 4 | bytes of the failure's text |
//! | 56 | 4 | what it holds: 0 an object, 1 a [ring](RingWriter) |
//! | 60 | 4 | 1 after the creator closed it: no process attaches any more |
//! | 64 | 1,024 | the revision, UTF-8 |
//! | 1,088 | 3,008 | the failure, UTF-8 |
//!
//! The bytes below the watermark are written before it is, which is a store with `Release` that
//! readers load with `Acquire`; so are the texts before the state. Only the creator writes to
//! either file: readers open and map them for reading only; but the reader of a [ring](RingWriter)
//! writes its marks, at the start of the data.
//!
//! # Who lives
//!
//! The creator holds an open-file-description lock on byte 0 of the companion as long as it lives:
//! the kernel drops it, however the process ends, and no other process can be taken for it, as it
//! could by a number. A waiting process looks at that lock four times a second. A forked child
//! closes its copy of that descriptor at once, as it would else keep the lock of a dead parent.
//! Readers hold byte 1 together; a creator that wants to use the pages for another object
//! ([`Placement::Reuse`]) must get byte 1 alone, so that no reader ever sees bytes of two objects.
//! A forked child may go on reading what its parent has made or attached to. It shares its parent's
//! lock where it was attached; the creator's child has none, so pages are used for another object
//! only if the process has not forked since the segment was made. A ring's memory is used again all
//! the time, for its one reader; a child has nothing of it. Byte 2 is the sweepers', byte 3 that of
//! the one reader of a ring. The companion appears under its name complete and locked (`O_TMPFILE`
//! and `linkat`), so a sweeper meets no half-made one.
//!
//! # What it cannot do
//!
//! Any process of the same user may open a segment for writing. A named segment can even be cut by
//! one, which is `SIGBUS` for those that read it (memfds are sealed). Programs that map the data by
//! its name without this library (Python's `multiprocessing.shared_memory`) hold no lock: reuse a
//! segment only when they are done.

mod buffer;
mod descriptors;
mod destination;
mod fill;
mod folder;
mod landed;
mod layout;
mod lend;
mod lender;
mod lock;
mod mapping;
mod name;
mod open;
mod reserve;
mod ring;
mod segment;
mod state;
mod sweep;
mod wait;
mod waker;

pub use buffer::{Placement, SharedBuffer};
pub use destination::IntoShared;
pub use fill::Filler;
pub use ring::{RingObject, RingReader, RingWriter};
pub use state::State;
pub use sweep::{Listed, list, sweep};
pub use waker::Waker;
