//! The watchdog over one attempt: its deadlines for the first byte and for progress. They stop
//! while the consumer is what is waited for.
//!
//! Called by the driver with each attempt.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use crate::{Deadlines, ErrorKind, SourceError, memory::Pulse};

/// Received within a stall deadline, fewer bytes than these are no progress.
const LEAST_PROGRESS: u64 = 4096;

/// Lets `read` run as long as it shows signs of life.
pub(crate) async fn watch(
    read: impl Future<Output = Result<(), SourceError>>,
    pulse: &Pulse,
    deadlines: Deadlines,
    stalls: &AtomicU64,
) -> Result<(), SourceError> {
    let mut read = std::pin::pin!(read);
    // Looking eight times within a deadline finds a stall at most an eighth late.
    let step = (deadlines.first_byte.min(deadlines.stall) / 8).max(Duration::from_millis(1));
    let mut since = Instant::now();
    let mut begun = false;
    let mut bytes = 0;
    loop {
        if let Ok(result) = timeout(step, &mut read).await {
            return result;
        }
        let now = Instant::now();
        if !pulse.has_begun() {
            if now - since >= deadlines.first_byte {
                stalls.fetch_add(1, Ordering::Relaxed);
                let message = format!("no answer within {:?}", deadlines.first_byte);
                return Err(SourceError::retryable(ErrorKind::Timeout, message));
            }
        } else if !begun || pulse.waits_for_consumer() || pulse.bytes() >= bytes + LEAST_PROGRESS {
            begun = true;
            since = now;
            bytes = pulse.bytes();
        } else if now - since >= deadlines.stall {
            stalls.fetch_add(1, Ordering::Relaxed);
            let message = format!("no progress within {:?}", deadlines.stall);
            return Err(SourceError::retryable(ErrorKind::Timeout, message));
        }
    }
}
