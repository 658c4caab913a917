//! An `ObjectStore` that wraps another one and reads large objects in parallel.
//!
//! One source, `store`, is compiled once for each version of the trait: `v0_13` for object_store
//! 0.13 and `v0_14` for object_store 0.14, each by the feature of its name. The module `settings`
//! is what callers set, and `runtime` is the thread that drives reads.
//!
#![doc = include_str!("../README.md")]

#[cfg(any(feature = "v0_13", feature = "v0_14"))]
mod runtime;
#[cfg(any(feature = "v0_13", feature = "v0_14"))]
mod settings;
#[cfg(feature = "v0_13")]
pub mod v0_13;
#[cfg(feature = "v0_14")]
#[allow(
    clippy::duplicate_mod,
    reason = "one source is compiled once for each version of object_store"
)]
pub mod v0_14;

pub use pget_core::{Download, Options};
