//! The promises of docs/security.md about the whole library.
//!
//! Secrets appear nowhere, requests are well formed, and answers are bounded.

mod bounds;
mod canary;
mod input;

use std::{future::Future, time::Duration};

use pget::{Builder, Error};

/// Time limit of a test. Most tests take milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work)
        .await
        .expect("the test's deadline")
}

/// Reads the whole object. Returns the bytes or the error.
async fn read(builder: &Builder) -> Result<Vec<u8>, Error> {
    within(async {
        let mut reader = builder.object()?.reader().await?;
        let mut bytes = Vec::new();
        while let Some(lease) = reader.next().await? {
            bytes.extend_from_slice(&lease);
        }
        Ok(bytes)
    })
    .await
}

/// Sets few and quick retries.
fn quick(builder: Builder) -> Builder {
    builder
        .retries(1)
        .first_byte_timeout(Duration::from_millis(500))
        .stall_timeout(Duration::from_millis(500))
}

fn on_aistore(address: &str, endpoint: &str) -> Builder {
    quick(pget::builder(address)).property("ais.endpoint", endpoint)
}

fn on_s3(address: &str, endpoint: &str) -> Builder {
    quick(pget::builder(address))
        .property("aws.endpoint", endpoint)
        .property("aws.allow_http", "true")
        .property("aws.region", "us-east-1")
        .property("aws.access_key_id", "id")
        .property("aws.secret_access_key", "secret")
}
