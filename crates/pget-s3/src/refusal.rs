//! What a store's refusal says: its status and document, the bucket's region, how long to wait, the
//! server's clock.
//!
//! Called by the source with each answer that is neither the object nor a part of it.

use std::time::Duration;

use http::{HeaderName, StatusCode};
use pget_core::{ErrorKind, SourceError};
use pget_http::{Response, retry_after};

use crate::{clock::Offset, failure::Document, session::Ticket};

static BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");

/// An answer that is neither the object nor a part of it.
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) document: Document,
    /// The bucket's, if it can be one: it becomes part of a host name, to which signed requests are
    /// sent. Other names do not count: MinIO names the region that it was set up with, whatever
    /// that is, in every refusal, and a refusal for another reason is to be read as such.
    pub(crate) region: Option<String>,
    pub(crate) pause: Option<Duration>,
    pub(crate) clock: Option<Offset>,
}

impl Refusal {
    pub(crate) async fn read(response: Response) -> Self {
        let status = response.status;
        let pause = retry_after(&response.headers);
        let clock = Offset::told(&response.headers);
        let named = response
            .headers
            .get(&BUCKET_REGION)
            .and_then(|value| value.to_str().ok());
        let named = named.map(str::to_owned);
        // The status says enough if its document breaks off.
        let body = response.body.bytes(Document::LIMIT).await.unwrap_or_default();
        let document = Document::parse(&body);
        let mut named = named.into_iter().chain(document.region.clone());
        let region = named.find(|region| can_be_a_region(region));
        Self {
            status,
            document,
            region,
            pause,
            clock,
        }
    }

    /// Whether a new signature may help: the server says that this one is too old, or it is refused
    /// after it may have been good.
    pub(crate) fn may_be_stale(&self, ticket: &Ticket) -> bool {
        match self.status.as_u16() {
            // Other credentials do not set a clock right.
            400 | 401 | 403 if self.document.code != "RequestTimeTooSkewed" => {
                self.document.is_expiry() || (self.status != StatusCode::BAD_REQUEST && !ticket.fresh)
            }
            _ => false,
        }
    }

    pub(crate) fn error(&self) -> SourceError {
        if self.status.is_redirection() {
            let text = match &self.region {
                Some(region) => format!(
                    "the server answers {}: the bucket is in region {region}",
                    self.status
                ),
                None => format!(
                    "the server answers {} and does not name the bucket's region",
                    self.status
                ),
            };
            return SourceError::fatal(ErrorKind::Protocol, text);
        }
        self.document.failure(self.status, self.pause)
    }
}

fn can_be_a_region(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
