//! Reads S3, and what else `object_store` signs for (GCS, Azure), in parallel ranges.
//!
//! - [`S3Source`]: `object_store` finds credentials and signs one URL, which all ranges share; the bodies come through `pget-http`, straight into their slots.
//! - [`ObjectStoreSource`]: any other `object_store` store, through its own API, with one copy.

mod address;
mod clock;
mod connector;
mod failure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod object_store;
mod refusal;
mod settings;
mod sign;
mod source;
mod store;
mod urls;

pub use object_store::ObjectStoreSource;
pub use settings::Settings;
pub use source::S3Source;
