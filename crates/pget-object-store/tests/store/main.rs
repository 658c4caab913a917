//! The wrapper over real and made stores, for each version of object_store.

mod v0_13;
#[allow(
    clippy::duplicate_mod,
    reason = "one suite is compiled once for each version of object_store"
)]
mod v0_14;
