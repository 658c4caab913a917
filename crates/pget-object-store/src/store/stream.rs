//! A read as a stream: nothing happens before it is polled, and a drop ends it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use pget_core::{Download, Error, Options, Reader};
use tokio::runtime::Handle;

use super::super::object_store::{ObjectStore, Result, path::Path};
use super::{failure, source::Source};
use crate::runtime;

/// The bytes of a read, in order.
pub(super) struct Parallel<T> {
    location: Path,
    state: State<T>,
}

enum State<T> {
    /// Never polled.
    New(Box<Start<T>>),
    Reading(Box<Reader>),
    Over,
}

struct Start<T> {
    source: Source<T>,
    options: Options,
    /// Where everything is done, if the caller has said so.
    runtime: Option<Handle>,
}

impl<T: ObjectStore> Parallel<T> {
    pub(super) fn new(source: Source<T>, options: Options, runtime: Option<Handle>) -> Self {
        Self {
            location: source.location().clone(),
            state: State::New(Box::new(Start {
                source,
                options,
                runtime,
            })),
        }
    }
}

impl<T: ObjectStore> Start<T> {
    fn begin(self) -> std::result::Result<Reader, Error> {
        let (download, runtime) = begin(self.source, self.options, self.runtime)?;
        Ok(download.reader_on(&runtime))
    }
}

/// Returns a download of `source`, and where it is to be driven.
pub(super) fn begin<T: ObjectStore>(
    source: Source<T>,
    options: Options,
    runtime: Option<Handle>,
) -> std::result::Result<(Download, Handle), Error> {
    let (source, runtime) = match runtime {
        Some(runtime) => (source, runtime),
        None => {
            let callers = Handle::try_current().ok();
            (source.called_on(callers), runtime::handle()?.clone())
        }
    };
    Ok((Download::new(Arc::new(source), options)?, runtime))
}

impl<T: ObjectStore> Stream for Parallel<T> {
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
