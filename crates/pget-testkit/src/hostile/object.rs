//! What a misbehaving server serves.

use std::time::{Duration, SystemTime};

use crate::content::Pattern;

/// One revision of a served object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its bytes.
    pub pattern: Pattern,
    /// Its length in bytes.
    pub size: u64,
    /// The `ETag` header, quotes included; none is sent without.
    pub etag: Option<String>,
    /// The `Last-Modified` header; none is sent without.
    pub last_modified: Option<SystemTime>,
    /// More headers of every good answer, e.g. a checksum or a version id.
    pub headers: Vec<(String, String)>,
}

impl Object {
    /// The object of this seed and size, with a strong `ETag` made of both, modified `seed` seconds after the year 2020.
    pub fn new(seed: u64, size: u64) -> Self {
        // Seconds from 1970 to 2020; the modulus keeps the date within four-digit years.
        let modified = Duration::from_secs(1_577_836_800 + seed % 1_000_000_000);
        Self {
            pattern: Pattern::new(seed),
            size,
            etag: Some(format!("\"{seed:x}-{size:x}\"")),
            last_modified: Some(SystemTime::UNIX_EPOCH + modified),
            headers: Vec::new(),
        }
    }
}
