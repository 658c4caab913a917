//! The properties of an object that HEAD reports. Pure.

use http::HeaderMap;
use pget_core::{ErrorKind, Revision, SourceError};

use crate::{hint, identity};

/// The properties that are asked for; a server that does not know one of them
/// refuses all with 400.
pub(crate) const PROPS: &str = "size,version,checksum,chunked,etag";

/// What HEAD reports.
pub(crate) struct Properties {
    pub(crate) size: u64,
    /// False: it lives only in the bucket's backend.
    pub(crate) present: bool,
    pub(crate) revision: Revision,
    pub(crate) chunk_hint: Option<u64>,
}

impl Properties {
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, SourceError> {
        let number = |name: &str| match headers.get(name) {
            None => Ok(None),
            Some(value) => value
                .to_str()
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .map(Some)
                .ok_or_else(|| {
                    SourceError::fatal(ErrorKind::Protocol, format!("the header {name} is no number"))
                }),
        };
        // HEAD without `props` leaves the length of an empty object out.
        let size = number("content-length")?.unwrap_or(0);
        let chunks = (number("ais-chunks-count")?, number("ais-chunks-max-chunk-size")?);
        let chunk_hint = match chunks {
            (Some(count), Some(largest)) => hint::range_length(size, count, largest),
            _ => None,
        };
        let present = headers
            .get("ais-present")
            .is_none_or(|value| value.as_bytes() != b"false");
        Ok(Self {
            size,
            present,
            revision: identity::revision(headers),
            chunk_hint,
        })
    }
}
