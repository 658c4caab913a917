//! The example of a custom transport fulfils the contract of all transports.

use std::{fs, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use pget::RangeSource;
use pget_testkit::{
    conformance::{self, Fixture},
    content::Pattern,
};
use tempfile::TempDir;

#[path = "../../../examples/custom_source.rs"]
#[allow(dead_code, reason = "the test does not call the example's main")]
mod custom_source;

/// Bytes per piece. The size is not a multiple of a chunk, so that ranges span several pieces.
const PIECE: usize = 100_003;

struct Pieces(TempDir);

impl Pieces {
    fn prefix(&self, name: &str) -> String {
        format!("{}.", self.0.path().join(name).display())
    }
}

#[async_trait]
impl Fixture for Pieces {
    async fn put(&self, name: &str, pattern: Pattern, size: u64) -> Arc<dyn RangeSource> {
        let prefix = self.prefix(name);
        let bytes = pattern.bytes(0, usize::try_from(size).expect("it fits in memory"));
        for number in 0.. {
            if fs::remove_file(format!("{prefix}{number:03}")).is_err() {
                break;
            }
        }
        // `split` writes no piece for an empty file. Here an empty object has one piece.
        let count = bytes.len().div_ceil(PIECE).max(1);
        for number in 0..count {
            let from = number * PIECE;
            let piece = &bytes[from..bytes.len().min(from + PIECE)];
            let path = PathBuf::from(format!("{prefix}{number:03}"));
            fs::write(path, piece).expect("a piece");
        }
        Arc::new(custom_source::SplitFile(prefix))
    }

    async fn missing(&self) -> Arc<dyn RangeSource> {
        Arc::new(custom_source::SplitFile(self.prefix("missing")))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_conforms() {
    conformance::run(&Pieces(TempDir::new().expect("a folder"))).await;
}
