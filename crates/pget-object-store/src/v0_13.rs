//! The wrapper for object_store 0.13.

pub use object_store_0_13 as object_store;

#[path = "store/mod.rs"]
mod store;

pub use store::PgetStore;

store::pass_on_uploads! {}
#[cfg(feature = "signer")]
store::pass_on_signatures! {}
