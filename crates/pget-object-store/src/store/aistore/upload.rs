//! Uploads by parts.
//!
//! Invariants: no part is sent twice; the numbers of parts have no gaps, because AIStore refuses to
//! complete others. A part without content is not sent, because AIStore refuses that, too.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use pget_core::ErrorKind;

use super::super::super::object_store::{
    self, MultipartId, MultipartUpload, PutPayload, PutResult, Result, UploadPart,
    multipart::{MultipartStore, PartId},
    path::Path,
};
use super::{AistoreStore, Patience, STORE, missing, stored};

/// Stands for a part without content.
const NOTHING: &str = "nothing";

impl AistoreStore {
    /// Begins an upload. What an earlier attempt has begun stays open, and has no parts.
    pub(super) async fn begin_upload(&self, location: &Path) -> Result<MultipartId> {
        let (objects, name) = (Arc::clone(&self.objects), location.to_string());
        let attempt = move |_| {
            let (objects, name) = (Arc::clone(&objects), name.clone());
            async move { objects.begin_upload(&name).await }
        };
        self.ask(location, Patience::AGAIN, attempt).await
    }

    async fn send_part(&self, location: &Path, id: &str, number: u32, content: Bytes) -> Result<()> {
        let (objects, name) = (Arc::clone(&self.objects), location.to_string());
        let patience = Patience::ONCE.with_content(content.len());
        let id = id.to_owned();
        let attempt = move |_| {
            let (objects, name, id) = (Arc::clone(&objects), name.clone(), id.clone());
            let content = content.clone();
            async move { objects.put_part(&name, &id, number, content).await }
        };
        self.ask(location, patience, attempt).await
    }

    /// Makes the parts 1 to `parts` the object. AIStore refuses to complete an upload without any.
    async fn end_upload(&self, location: &Path, id: &str, parts: u32) -> Result<PutResult> {
        if parts == 0 {
            let stored = self.put_bytes(location, Bytes::new()).await?;
            self.drop_upload(location, id).await?;
            return Ok(stored);
        }
        let (objects, name) = (Arc::clone(&self.objects), location.to_string());
        let id = id.to_owned();
        let attempt = move |_| {
            let (objects, name, id) = (Arc::clone(&objects), name.clone(), id.clone());
            async move { objects.complete_upload(&name, &id, parts).await }
        };
        self.ask(location, Patience::ONCE, attempt).await?;
        // The answer states no revision.
        Ok(stored(&self.entry(location).await?))
    }

    async fn drop_upload(&self, location: &Path, id: &str) -> Result<()> {
        let (objects, name) = (Arc::clone(&self.objects), location.to_string());
        let id = id.to_owned();
        let attempt = move |attempts| {
            let (objects, name, id) = (Arc::clone(&objects), name.clone(), id.clone());
            async move {
                match objects.abort_upload(&name, &id).await {
                    Err(error) if error.kind() == ErrorKind::NotFound && attempts > 0 => Ok(()),
                    result => result,
                }
            }
        };
        self.ask(location, Patience::AGAIN, attempt).await
    }
}

/// An upload whose parts are numbered in the order in which they are made.
#[derive(Debug)]
pub(super) struct Upload {
    store: AistoreStore,
    location: Path,
    id: MultipartId,
    parts: u32,
    sent: Arc<AtomicU32>,
}

impl Upload {
    pub(super) fn new(store: AistoreStore, location: Path, id: MultipartId) -> Self {
        Self {
            store,
            location,
            id,
            parts: 0,
            sent: Arc::default(),
        }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let content = Bytes::from(data);
        if content.is_empty() {
            return Box::pin(async { Ok(()) });
        }
        self.parts += 1;
        let (store, location, id) = (self.store.clone(), self.location.clone(), self.id.clone());
        let (number, sent) = (self.parts, Arc::clone(&self.sent));
        Box::pin(async move {
            store.send_part(&location, &id, number, content).await?;
            sent.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let sent = self.sent.load(Ordering::Relaxed);
        if sent != self.parts {
            let made = self.parts;
            return Err(incomplete(format!("{sent} of {made} parts have been sent")));
        }
        self.store.end_upload(&self.location, &self.id, sent).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.drop_upload(&self.location, &self.id).await
    }
}

#[async_trait]
impl MultipartStore for AistoreStore {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.begin_upload(path).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let content = Bytes::from(data);
        let content_id = if content.is_empty() {
            NOTHING.to_owned()
        } else {
            let number = u32::try_from(part_idx)
                .ok()
                .and_then(|index| index.checked_add(1));
            let number = number.ok_or_else(|| missing("put_part with such an index"))?;
            self.send_part(path, id, number, content).await?;
            number.to_string()
        };
        Ok(PartId { content_id })
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let mut sent = 0;
        for part in parts.iter().filter(|part| part.content_id != NOTHING) {
            sent += 1;
            if part.content_id != sent.to_string() {
                let found = &part.content_id;
                return Err(incomplete(format!(
                    "part {found} is in the place of part {sent}, and AIStore allows no gaps"
                )));
            }
        }
        self.end_upload(path, id, sent).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.drop_upload(path, id).await
    }
}

fn incomplete(message: String) -> object_store::Error {
    object_store::Error::Generic {
        store: STORE,
        source: message.into(),
    }
}
