//! Reads S3, Google Cloud Storage and Azure Blob Storage in parallel ranges.
//!
//! - [`S3Source`]: credentials, endpoints and signatures as the clouds' own tools have them; the
//!   bodies come through `pget-http`, straight into their slots.
//! - [`ObjectStoreSource`]: any other `object_store` store, through its own API, with one copy.

mod address;
mod arn;
mod clock;
mod cloud;
mod errors;
mod exchange;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod object_store;
mod roots;
mod session;
mod settings;
mod source;
mod values;

pub use object_store::ObjectStoreSource;
pub use roots::roots;
pub use settings::Settings;
pub use source::S3Source;
