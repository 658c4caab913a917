//! The objects that a misbehaving server serves.

use std::time::{Duration, SystemTime};

use crate::content::Pattern;

/// One revision of a served object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its bytes.
    pub pattern: Pattern,
    /// Its length in bytes.
    pub size: u64,
    /// The `ETag` header, quotes included. With `None`, the server sends none.
    pub etag: Option<String>,
    /// The `Last-Modified` header. With `None`, the server sends none.
    pub last_modified: Option<SystemTime>,
    /// Further headers of every successful answer, for example a checksum or a version id.
    pub headers: Vec<(String, String)>,
}

impl Object {
    /// Returns the object of this seed and size.
    ///
    /// Its strong `ETag` names both. It was modified `seed` seconds after the start of the year
    /// 2020.
    pub fn new(seed: u64, size: u64) -> Self {
        // The base is the number of seconds from 1970 to 2020. The modulus keeps the year below
        // 10,000.
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
