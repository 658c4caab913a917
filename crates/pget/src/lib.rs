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
//! Anything else: implement [`RangeSource`], and read it by [`Object::from_source`] or
//! [`blocking::Object::from_source`].
//!
//! # Builder, object, reader
//!
//! [`builder`] names the object and takes the settings. [`Builder::object`] checks them and returns
//! an [`Object`], whose methods read on the caller's tokio runtime. [`Builder::blocking`] returns a
//! [`blocking::Object`], whose methods have the same names and block the calling thread. Neither
//! sends anything.
//!
//! # Settings
//!
//! In rising precedence: the environment under each ecosystem's own names,
//! [properties](Builder::property) (`ais.endpoint`, `aws.region`, …), and the typed options of
//! [`Builder`]. All of them are one value, [`Settings`].
//!
//! # Threads and cancellation
//!
//! Asynchronous calls run on the caller's tokio runtime. The blocking ones run on one runtime of
//! the process, made at first use, with as many threads as there are processors, at most 8
//! (`PGET_THREADS` or [`Builder::threads`] overrides); its threads block SIGPIPE. Dropping a reader
//! cancels its download.
//!
//! # Fork
//!
//! A forked child may read, whatever its parent did: its first blocking call makes a runtime,
//! connections and a memory budget of its own. A [`Builder`], an [`Object`], a [`Cancel`] handle
//! and a [`Budget`] work in both. A [`Reader`], [`Download`], [`Ranges`], [`SharedDownload`] or
//! ring from before the fork is the parent's: in the child every call of it returns
//! [`Forked`](ErrorKind::Forked), and dropping it does nothing. So does an object of a source of
//! the caller's own. The bytes of a [`Lease`] stay readable. Connections of the parent are closed
//! in the child as it begins, without a word to the server. A runtime of the caller's own is not
//! made again: after a fork, asynchronous calls need a new one.

mod address;
pub mod blocking;
mod builder;
#[cfg(feature = "http")]
mod clients;
mod complete;
mod connect;
mod file;
mod fingerprint;
#[cfg(all(any(test, fuzzing), feature = "http"))]
#[doc(hidden)]
#[path = "../../../fuzz/oracles/pget.rs"]
pub mod fuzzing;
mod object;
mod properties;
mod runtime;
mod settings;
#[cfg(all(feature = "shm", target_os = "linux", not(pget_portable)))]
mod shared;
mod source;

#[doc(hidden)]
pub use pget_core::threads::can_start as threads_can_start;

pub use address::Address;
pub use builder::Builder;
pub use object::Object;
#[doc(hidden)]
pub use pget_core::fork;
pub use pget_core::{
    BlockingReader, BoxError, Budget, BufMut, Cancel, Checksum, ChunkWriter, Deadlines, Destination,
    Download, Error, ErrorKind, Lease, Monitor, ObjectInfo, Options, Progress, Published, RangeRequest,
    RangeSource, Ranges, Reader, Reply, Retry, Revision, SourceError, Stats, Transfer, Verification, Verify,
    Waiting, verify,
};
pub use pget_file::{Settings as FileSettings, Warnings};
#[cfg(all(feature = "shm", target_os = "linux", not(pget_portable)))]
pub use pget_shm as shm;
#[cfg(all(feature = "shm", target_os = "linux", not(pget_portable)))]
pub use pget_shm::{Placement, SharedBuffer};
pub use settings::Settings;
#[cfg(all(feature = "shm", target_os = "linux", not(pget_portable)))]
pub use shared::SharedDownload;

/// Opens the object at `address` with default settings, on the caller's tokio runtime.
///
/// Waits for the first reply, so that an error of the address, the credentials or the object is
/// found here.
///
/// # Errors
/// [`InvalidArgument`](ErrorKind::InvalidArgument) for an unusable address, else what the transport
/// says.
///
/// # Examples
/// ```no_run
/// # async fn example() -> Result<(), pget::Error> {
/// let mut reader = pget::open("https://example.com/archive.tar").await?;
/// while let Some(lease) = reader.next().await? {
///     println!("{} bytes at {}", lease.len(), lease.offset());
/// }
/// # Ok(())
/// # }
/// ```
pub async fn open(address: &str) -> Result<Reader, Error> {
    builder(address).object()?.reader().await
}

/// Returns a builder for reads of the object at `address`. Any text is accepted here;
/// [`Builder::object`] and [`Builder::blocking`] check it.
///
/// # Examples
/// ```no_run
/// # async fn example() -> Result<(), pget::Error> {
/// let object = pget::builder("s3://bucket/key").chunk_size(8 << 20).object()?;
/// let mut reader = object.reader().await?;
/// # Ok(())
/// # }
/// ```
pub fn builder(address: &str) -> Builder {
    Builder::new(address)
}
