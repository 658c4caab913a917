//! Runs the conformance suite on the source that serves correctly inside the process.

use std::sync::Arc;

use async_trait::async_trait;
use pget_core::{ErrorKind, RangeSource};
use pget_testkit::{
    conformance::{self, Fixture},
    content::Pattern,
    sources::{Object, Play, Staged, Stop},
};

struct InProcess;

#[async_trait]
impl Fixture for InProcess {
    async fn put(&self, _name: &str, pattern: Pattern, size: u64) -> Arc<dyn RangeSource> {
        Staged::right(Object::new(pattern.seed, size))
    }

    async fn missing(&self) -> Arc<dyn RangeSource> {
        Arc::new(Missing)
    }
}

#[derive(Debug)]
struct Missing;

#[async_trait]
impl RangeSource for Missing {
    async fn head(&self) -> Result<pget_core::ObjectInfo, pget_core::SourceError> {
        Err(pget_core::SourceError::fatal(
            ErrorKind::NotFound,
            "no such object",
        ))
    }

    async fn read(
        &self,
        _request: &pget_core::RangeRequest,
        _chunk: pget_core::ChunkWriter,
    ) -> Result<(), pget_core::SourceError> {
        self.head().await.map(|_| ())
    }

    fn name(&self) -> String {
        "missing object".into()
    }
}

#[tokio::test]
async fn a_right_source_conforms() {
    conformance::run(&InProcess).await;
}

/// A source that delivers one byte less than requested. The suite must notice.
struct Short;

#[async_trait]
impl Fixture for Short {
    async fn put(&self, _name: &str, pattern: Pattern, size: u64) -> Arc<dyn RangeSource> {
        let object = Object::new(pattern.seed, size);
        Staged::new(move |call| {
            let whole = call.request.end.unwrap_or(size).min(size) - call.request.start;
            Play::right(object.clone()).stop((whole - 1).max(1), Stop::End)
        })
    }

    async fn missing(&self) -> Arc<dyn RangeSource> {
        Arc::new(Missing)
    }
}

#[tokio::test]
#[should_panic(expected = "exact_ranges")]
async fn a_short_source_does_not() {
    conformance::run(&Short).await;
}
