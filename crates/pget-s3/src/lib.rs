//! Reads S3, Google Cloud Storage and Azure Blob Storage in parallel ranges.
//!
//! [`S3Source`] has credentials, endpoints and signatures as the clouds' own tools have them.
//! Bodies come through `pget-http`, straight into their slots.

mod address;
mod arn;
mod clock;
mod cloud;
mod errors;
mod exchange;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../../../fuzz/oracles/s3.rs"]
pub mod fuzzing;
mod roots;
mod session;
mod settings;
mod source;
mod values;

pub use roots::roots;
pub use settings::Settings;
pub use source::S3Source;
