//! A read as a stream: nothing happens before it is polled, and a drop ends it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use pget_core::{Download, Error, Options, RangeSource, Reader};
use tokio::runtime::Handle;

use super::super::object_store::{Result, path::Path};
use super::failure;
use crate::runtime;

/// The bytes of a read, in order.
pub(super) struct Parallel {
    location: Path,
    state: State,
}

enum State {
    /// Never polled.
    New(Box<Start>),
    Reading(Box<Reader>),
    Over,
}

struct Start {
    source: Arc<dyn Begin>,
    options: Options,
    /// Where everything is done, if the caller has said so.
    runtime: Option<Handle>,
}

/// A source that may be called on another runtime than its download is driven on.
pub(super) trait Begin: RangeSource + 'static {
    /// Calls the store on `runtime` from now on.
    fn call_on(&self, runtime: Option<Handle>);
}

impl Parallel {
    pub(super) fn new(
        location: &Path,
        source: Arc<dyn Begin>,
        options: Options,
        runtime: Option<Handle>,
    ) -> Self {
        Self {
            location: location.clone(),
            state: State::New(Box::new(Start {
                source,
                options,
                runtime,
            })),
        }
    }
}

impl Start {
    fn begin(self) -> std::result::Result<Reader, Error> {
        let (download, runtime) = begin(self.source, self.options, self.runtime)?;
        Ok(download.reader_on(&runtime))
    }
}

/// Returns a download of `source`, and where it is to be driven.
pub(super) fn begin(
    source: Arc<dyn Begin>,
    options: Options,
    runtime: Option<Handle>,
) -> std::result::Result<(Download, Handle), Error> {
    let runtime = match runtime {
        Some(runtime) => runtime,
        None => {
            source.call_on(Handle::try_current().ok());
            runtime::handle()?.clone()
        }
    };
    Ok((Download::new(source, options)?, runtime))
}

impl Stream for Parallel {
    type Item = Result<Bytes>;

    /// Ends after the first error.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let State::New(_) = this.state
            && let State::New(start) = std::mem::replace(&mut this.state, State::Over)
        {
            match start.begin() {
                Ok(reader) => this.state = State::Reading(Box::new(reader)),
                Err(error) => return Poll::Ready(Some(Err(failure::to_store(error, &this.location)))),
            }
        }
        let State::Reading(reader) = &mut this.state else {
            return Poll::Ready(None);
        };
        match ready!(reader.poll_lease(cx)) {
            Ok(Some(lease)) => Poll::Ready(Some(Ok(Bytes::from(lease)))),
            Ok(None) => {
                this.state = State::Over;
                Poll::Ready(None)
            }
            Err(error) => {
                this.state = State::Over;
                Poll::Ready(Some(Err(failure::to_store(error, &this.location))))
            }
        }
    }
}
