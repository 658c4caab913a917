//! The wrapper for object_store 0.13.

pub use object_store_0_13 as object_store;

/// Makes a result; those of object_store 0.14 have extensions.
#[cfg(feature = "aistore")]
macro_rules! result {
    ($kind:ident { $($field:ident $(: $value:expr)?),* $(,)? }) => {
        $kind { $($field $(: $value)?,)* }
    };
}

#[path = "store/mod.rs"]
mod store;

#[cfg(feature = "aistore")]
pub use store::AistoreStore;
pub use store::{ObjectStoreSource, PgetStore};

store::pass_on_uploads! {}
#[cfg(feature = "signer")]
store::pass_on_signatures! {}
