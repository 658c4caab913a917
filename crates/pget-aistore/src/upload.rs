//! Uploads by parts: begun, sent, completed, aborted.
//!
//! Invariant: no part is sent twice. AIStore 5.0 removes the content of a part that it gets again,
//! also if both are the same, and still completes the upload: its object cannot be read.

use bytes::Bytes;
use http::{HeaderValue, header};
use pget_core::{ErrorKind, SourceError};
use pget_http::{ConnectionPolicy, Method, Response};
use serde_json::{Value, json};

use crate::{
    Objects,
    exchange::{Ask, Cluster, Content, SMALL_BODY},
};

/// Ids have about ten characters.
const LONGEST_ID: usize = 1 << 10;

impl Objects {
    /// Begins an upload by parts of the object of this name, and returns its id. The object exists
    /// from its [completion](Self::complete_upload) on.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the bucket does not exist.
    pub async fn begin_upload(&self, name: &str) -> Result<String, SourceError> {
        let (cluster, ask) = self.action(Method::Post, name, &[], &json!({"action": "mpt-upload"}))?;
        let answer = succeeded(&cluster, &ask).await?;
        let id = answer.body.text(LONGEST_ID).await?;
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "the server begins an upload without an id";
            return Err(SourceError::fatal(ErrorKind::Protocol, message));
        }
        Ok(id)
    }

    /// Sends a part, which must not be empty. Parts count from 1. They may be sent at the same time
    /// and in any order, but none of them twice: if this fails, abort the upload.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such upload.
    pub async fn put_part(
        &self,
        name: &str,
        upload: &str,
        number: u32,
        content: Bytes,
    ) -> Result<(), SourceError> {
        let number = number.to_string();
        let query = [("uploadId", upload), ("partNumber", &number)];
        let cluster = self.cluster(name)?;
        let mut ask = self.ask(Method::Put, name, &query, Content::ToTarget(content))?;
        ask.connection = ConnectionPolicy::Fresh { avoid: None };
        succeeded(&cluster, &ask)
            .await?
            .body
            .drain_small(SMALL_BODY)
            .await;
        Ok(())
    }

    /// Makes the parts 1 to `parts` the object, in place of an earlier one.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such upload.
    pub async fn complete_upload(&self, name: &str, upload: &str, parts: u32) -> Result<(), SourceError> {
        let parts: Vec<Value> = (1..=parts)
            .map(|number| json!({"part-number": number, "etag": ""}))
            .collect();
        let message = json!({"action": "mpt-complete", "value": parts});
        let (cluster, mut ask) = self.action(Method::Post, name, &[("uploadId", upload)], &message)?;
        // A second request would find the upload gone.
        ask.connection = ConnectionPolicy::Fresh { avoid: None };
        succeeded(&cluster, &ask)
            .await?
            .body
            .drain_small(SMALL_BODY)
            .await;
        Ok(())
    }

    /// Removes what was sent of an upload.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is no such upload.
    pub async fn abort_upload(&self, name: &str, upload: &str) -> Result<(), SourceError> {
        let message = json!({"action": "mpt-abort"});
        let method = Method::DeleteWithContent;
        let (cluster, ask) = self.action(method, name, &[("uploadId", upload)], &message)?;
        succeeded(&cluster, &ask)
            .await?
            .body
            .drain_small(SMALL_BODY)
            .await;
        Ok(())
    }

    fn action(
        &self,
        method: Method,
        name: &str,
        query: &[(&str, &str)],
        message: &Value,
    ) -> Result<(Cluster, Ask), SourceError> {
        let cluster = self.cluster(name)?;
        let content = Content::ToBoth(message.to_string().into());
        let mut ask = self.ask(method, name, query, content)?;
        let json = HeaderValue::from_static("application/json");
        ask.headers.insert(header::CONTENT_TYPE, json);
        Ok((cluster, ask))
    }
}

async fn succeeded(cluster: &Cluster, ask: &Ask) -> Result<Response, SourceError> {
    let answer = cluster.fetch_from_target(ask).await?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    Err(cluster.failed(answer).await)
}
