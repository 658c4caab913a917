//! The same for threads that may block: no tokio in sight.
//!
//! Not for threads of an asynchronous runtime, where waiting would panic.

use pget_core::{BlockingReader, Download, Error, ObjectInfo};

use crate::{Builder, runtime};

/// Opens the object at `address` with default settings and waits for the first reply.
///
/// # Errors
/// As [`open`](crate::open).
pub fn open(address: &str) -> Result<BlockingReader, Error> {
    open_with(&Builder::new(address))
}

/// Size and revision of the object at `address`, without reading it.
///
/// # Errors
/// As [`open`](crate::open).
pub fn stat(address: &str) -> Result<ObjectInfo, Error> {
    stat_with(&Builder::new(address))
}

pub(crate) fn open_with(builder: &Builder) -> Result<BlockingReader, Error> {
    let runtime = runtime::handle()?;
    let builder = on_process_runtime(builder);
    let source = builder.source()?;
    let reader = Download::new(source, builder.options.clone())?.blocking_reader_on(runtime);
    reader.info()?;
    Ok(reader)
}

pub(crate) fn read_into_with(builder: &Builder, buffer: &mut [u8]) -> Result<usize, Error> {
    let runtime = runtime::handle()?;
    let builder = on_process_runtime(builder);
    Download::new(builder.source()?, builder.options.clone())?.read_into_on(runtime, buffer)
}

pub(crate) fn stat_with(builder: &Builder) -> Result<ObjectInfo, Error> {
    let runtime = runtime::handle()?;
    let builder = on_process_runtime(builder);
    runtime.block_on(builder.stat())
}

fn on_process_runtime(builder: &Builder) -> Builder {
    Builder {
        #[cfg(feature = "http")]
        on_process_runtime: true,
        ..builder.clone()
    }
}
