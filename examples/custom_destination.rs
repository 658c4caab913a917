//! A custom destination: writes an object into an existing file from a given offset on.
//!
//! Such a file is, for example, a disk image or a block device.
//!
//! ```sh
//! truncate -s 8G disk.img
//! cargo run --release -p libpget --example custom_destination -- \
//!     s3://bucket/root.img disk.img 1048576
//! ```

use std::{env, error::Error, fs::File, os::unix::fs::FileExt, path::Path, sync::Arc, sync::OnceLock};

use pget::{Destination, ErrorKind, ObjectInfo, Transfer};

/// A part of a file, from `base` on.
#[derive(Debug)]
struct Place {
    file: File,
    base: u64,
    /// Offset in the object of the first requested byte.
    start: OnceLock<u64>,
}

impl Place {
    fn new(path: &Path, base: u64) -> std::io::Result<Self> {
        let file = File::options().write(true).open(path)?;
        let start = OnceLock::new();
        Ok(Self { file, base, start })
    }
}

impl Destination for Place {
    /// Called once, with the first reply, before any byte.
    fn begin(&self, object: &ObjectInfo, start: u64, end: Option<u64>) -> Result<Transfer, pget::Error> {
        self.start.get_or_init(|| start);
        let space = self
            .file
            .metadata()
            .map_or(0, |data| data.len())
            .saturating_sub(self.base);
        if end.is_some_and(|end| end - start > space) {
            let message = format!("{space} bytes are too few for {:?}", object.size);
            return Err(pget::Error::new(ErrorKind::Destination, "", message));
        }
        Ok(Transfer::Put)
    }

    /// Called by several threads at the same time, each with different bytes.
    fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), pget::Error> {
        let at = self.base + offset - self.start.get().unwrap_or(&0);
        self.file.write_all_at(bytes, at).map_err(|cause| {
            pget::Error::with_cause(ErrorKind::Destination, "", "the file cannot be written", cause)
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, path, base] = &arguments[..] else {
        return Err("usage: custom_destination URL FILE OFFSET".into());
    };
    let place = Arc::new(Place::new(Path::new(path), base.parse()?)?);
    let object = pget::builder(url).blocking()?;
    let stats = object.read_to(Arc::clone(&place) as _)?;
    place.file.sync_data()?;
    println!("{} bytes in {} requests", stats.delivered, stats.requests);
    Ok(())
}
