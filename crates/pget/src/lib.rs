//! One big object out of object storage, fast.
//!
//! An object is split into byte ranges, fetched over several connections, and delivered **in
//! order** through a bounded window. The bytes are exactly one revision of the object, complete, or
//! the read fails.
//!
//! ```no_run
//! # async fn example() -> Result<(), pget::Error> {
//! let mut reader = pget::open("s3://bucket/checkpoint.safetensors").await?;
//! while let Some(lease) = reader.next().await? {
//!     // `lease` derefs to the bytes, in the memory that the socket put them in.
//!     println!("{} bytes at {}", lease.len(), lease.offset());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Reader`] is a `Stream` of leases, `AsyncRead` and `AsyncBufRead`; threads that may block use
//! [`blocking::open`], whose reader is `std::io::Read` and `BufRead`:
//!
//! ```no_run
//! let mut reader = pget::blocking::open("ais://shards/train-000.tar")?;
//! std::io::copy(&mut reader, &mut std::io::stdout())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Addresses
//!
//! | address | transport | feature |
//! |---|---|---|
//! | `ais://bucket/object`, `ais://@alias#ns/bucket/object` | AIStore at `AIS_ENDPOINT` | `aistore` |
//! | `s3://bucket/key`, `gs://bucket/key`, `az://container/key` | S3, Google Cloud Storage, Azure Blob Storage | `s3` |
//! | `http://…`, `https://…` | HTTP/1.1 | `http` |
//! | `file:///path`, `/path`, `./path` | files | `file` |
//!
//! Anything else: implement [`RangeSource`] and hand it to [`Download`].
//!
//! # Settings
//!
//! In rising precedence: the environment under each ecosystem's own names,
//! [properties](Builder::property) (`ais.endpoint`, `aws.region`, …), and the typed options of
//! [`Builder`].
//!
//! # Threads and cancellation
//!
//! Asynchronous calls run on the caller's tokio runtime. The blocking ones run on one runtime of
//! the process, made at first use, with as many threads as there are processors, at most 8
//! (`PGET_THREADS` overrides); its threads block SIGPIPE. Dropping a reader cancels its download.
//!
//! # Fork
//!
//! A forked child may read, whatever its parent did: its first blocking call makes a runtime,
//! connections and a memory budget of its own. A [`Builder`], a [`Cancel`] handle and a [`Budget`]
//! work in both. A [`Reader`], [`Download`], [`Ranges`], [`SharedDownload`] or ring from before the
//! fork is the parent's: in the child every call of it returns [`Forked`](ErrorKind::Forked), and
//! dropping it does nothing. The bytes of a [`Lease`] stay readable. Connections of the parent are
//! closed in the child as it begins, without a word to the server. A runtime of the caller's own is
//! not made again: after a fork, asynchronous calls need a new one.

mod actions;
mod address;
pub mod blocking;
mod builder;
#[cfg(feature = "http")]
mod clients;
mod connect;
mod file;
mod fingerprint;
#[cfg(all(any(test, fuzzing), feature = "http"))]
#[doc(hidden)]
pub mod fuzzing;
mod properties;
mod runtime;
#[cfg(feature = "shm")]
mod shared;

#[doc(hidden)]
pub use pget_core::threads::can_start as threads_can_start;

pub use address::Address;
pub use builder::Builder;
#[doc(hidden)]
pub use pget_core::fork;
pub use pget_core::{
    BlockingReader, BoxError, Budget, BufMut, Cancel, Checksum, ChunkWriter, Deadlines, Destination,
    Download, Error, ErrorKind, Lease, Monitor, ObjectInfo, Options, Progress, Published, RangeRequest,
    RangeSource, Ranges, Reader, Reply, Retry, Revision, SourceError, Stats, Transfer, Verification, Verify,
    Waiting, verify,
};
pub use pget_file::Warnings;
#[cfg(feature = "shm")]
pub use pget_shm as shm;
#[cfg(feature = "shm")]
pub use pget_shm::{Placement, SharedBuffer};
#[cfg(feature = "shm")]
pub use shared::SharedDownload;

/// Opens the object at `address` with default settings, on the caller's tokio runtime.
///
/// Waits for the first reply, so that an error of the address, the credentials or the object is
/// found here.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for an unusable address, else what the transport
/// says.
pub async fn open(address: &str) -> Result<Reader, Error> {
    Builder::new(address).open().await
}

/// A read of the object at `address`, to be set up.
pub fn builder(address: &str) -> Builder {
    Builder::new(address)
}
