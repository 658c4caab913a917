//! Uploads by parts and signed addresses, passed on to the stores that have them.
//!
//! The methods of these two traits differ between the versions of object_store, and
//! `clippy::missing_trait_methods` wants all of them. So each version names what it has besides.

/// Implements `MultipartStore`, with the methods that one version has besides.
macro_rules! pass_on_uploads {
    ($($more:tt)*) => {
        #[async_trait::async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: object_store::multipart::MultipartStore> object_store::multipart::MultipartStore
            for PgetStore<T>
        {
            async fn create_multipart(
                &self,
                path: &object_store::path::Path,
            ) -> object_store::Result<object_store::MultipartId> {
                self.inner().create_multipart(path).await
            }

            $($more)*

            async fn put_part(
                &self,
                path: &object_store::path::Path,
                id: &object_store::MultipartId,
                part_idx: usize,
                data: object_store::PutPayload,
            ) -> object_store::Result<object_store::multipart::PartId> {
                self.inner().put_part(path, id, part_idx, data).await
            }

            async fn complete_multipart(
                &self,
                path: &object_store::path::Path,
                id: &object_store::MultipartId,
                parts: Vec<object_store::multipart::PartId>,
            ) -> object_store::Result<object_store::PutResult> {
                self.inner().complete_multipart(path, id, parts).await
            }

            async fn abort_multipart(
                &self,
                path: &object_store::path::Path,
                id: &object_store::MultipartId,
            ) -> object_store::Result<()> {
                self.inner().abort_multipart(path, id).await
            }
        }
    };
}

/// Implements `Signer`, with the methods that one version has besides.
#[cfg(feature = "signer")]
macro_rules! pass_on_signatures {
    ($($more:tt)*) => {
        #[async_trait::async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<T: object_store::signer::Signer> object_store::signer::Signer for PgetStore<T> {
            async fn signed_url(
                &self,
                method: http::Method,
                path: &object_store::path::Path,
                expires_in: std::time::Duration,
            ) -> object_store::Result<url::Url> {
                self.inner().signed_url(method, path, expires_in).await
            }

            $($more)*

            async fn signed_urls(
                &self,
                method: http::Method,
                paths: &[object_store::path::Path],
                expires_in: std::time::Duration,
            ) -> object_store::Result<Vec<url::Url>> {
                self.inner().signed_urls(method, paths, expires_in).await
            }
        }
    };
}

#[cfg(feature = "signer")]
pub(crate) use pass_on_signatures;
pub(crate) use pass_on_uploads;
