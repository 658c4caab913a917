//! One ranged GET over HTTP/1.1 whose body is received straight into its slot.
//!
//! - [`Client`]: connections with keep-alive, TLS, redirects, name look-up, proxies; sends a
//!   [`RequestHead`], returns a [`Response`];
//! - [`Body`]: what follows the head: into a [`ChunkWriter`](pget_core::ChunkWriter), or as a short
//!   text;
//! - [`reply_from_response`], [`revision_from_headers`], [`error_for_status`], [`ContentRange`]:
//!   what an answer says, for transports built on HTTP;
//! - [`HttpSource`]: a plain `http://` or `https://` object.
//!
//! # Why not an HTTP library
//!
//! Libraries hand bodies over in buffers of their own, from which every byte is copied into the
//! slot. Here the socket's bytes land in the slot, in pieces as large as the slot allows, and the
//! kernel is asked to gather them (`SO_RCVLOWAT`) while they come fast. The direct path is HTTP/1.1
//! only; what it does not do (proxies) goes by `reqwest`.
//!
//! # Deadlines and cancelling
//!
//! The client keeps one deadline, [`ClientOptions::connect_timeout`], over name look-up, TCP and
//! TLS. The first byte and progress are watched by the download, which drops the future of a read
//! that shows no life. Every future here may be dropped at any point: its connection is closed with
//! it, and nothing is written afterwards.

mod body;
mod checksum;
mod chunked;
mod client;
mod conditions;
mod connection;
mod content_range;
mod courtesy;
mod dial;
mod exempt;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../../../fuzz/oracles/http/mod.rs"]
pub mod fuzzing;
mod head;
mod learned;
mod low_water_mark;
#[cfg(pget_micro)]
#[doc(hidden)]
pub mod micro;
mod options;
mod pool;
mod proxy;
mod ranges;
mod redirect;
mod reply;
mod request;
mod resolve;
mod secure;
mod socket;
mod source;
mod speed;
mod status;
mod tls;
mod trust;

pub use body::Body;
pub use checksum::{amazon_checksum, amazon_etag, google_checksum};
pub use client::{Client, Response};
pub use conditions::{Conditions, refused_without_condition};
pub use content_range::{BadContentRange, ContentRange};
pub use learned::Codings;
pub use options::{ClientIdentity, ClientOptions, ProxyChoice, TlsOptions};
pub use ranges::{Ranges, head_or_byte};
pub use reply::{reply_from_parts, reply_from_response, revision_from_headers};
pub use request::{
    ByteRange, ConnectionPolicy, Method, RedirectPolicy, RequestHead, is_reserved_header, range_of, redacted,
};
pub use source::HttpSource;
pub use status::{LONGEST_RETRY_AFTER, error_for_status, retry_after};
pub use tls::TlsError;
