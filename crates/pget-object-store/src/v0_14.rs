//! The wrapper for object_store 0.14.

pub use object_store_0_14 as object_store;

/// Makes a result; those of object_store 0.14 have extensions.
#[cfg(feature = "aistore")]
macro_rules! result {
    ($kind:ident { $($field:ident $(: $value:expr)?),* $(,)? }) => {
        $kind { $($field $(: $value)?,)* extensions: Default::default(), }
    };
}

#[path = "store/mod.rs"]
mod store;

#[cfg(feature = "aistore")]
pub use store::AistoreStore;
pub use store::{ObjectStoreSource, PgetStore};

store::pass_on_uploads! {
    async fn create_multipart_opts(
        &self,
        path: &object_store::path::Path,
        opts: object_store::PutMultipartOptions,
    ) -> object_store::Result<object_store::MultipartId> {
        self.inner().create_multipart_opts(path, opts).await
    }
}
#[cfg(feature = "signer")]
store::pass_on_signatures! {
    async fn signed_url_opts(
        &self,
        method: http::Method,
        path: &object_store::path::Path,
        expires_in: std::time::Duration,
        options: &object_store::signer::SignedUrlOptions,
    ) -> object_store::Result<url::Url> {
        self.inner().signed_url_opts(method, path, expires_in, options).await
    }
}
