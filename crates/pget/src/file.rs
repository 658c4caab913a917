//! Reads an object into a file, by [`pget_file`].

use std::{io, ops::Range, path::Path, sync::Arc};

use pget_core::{Download, Error, ErrorKind, Stats, Verify, threads::block_on};
use pget_file::{Asked, Names, Part, Plan, Stream, Target, Wanted, absolute_target, destination};

use crate::{
    complete::{compared, may_be_complete},
    runtime,
    source::ObjectSource,
};

/// Reads `object` into the file `target`, from a thread that may block.
pub(crate) fn get_blocking(object: &ObjectSource, target: &Path) -> Result<Stats, Error> {
    let target = &absolute_target(target);
    let runtime = runtime::handle()?;
    match Target::of(object.file().as_deref(), target)? {
        Target::Stream => {
            let caller = Arc::new(());
            let wanted = wanted(object, &caller);
            let mut reader = object.blocking_reader()?;
            let mut stream = Stream::open(target, wanted.clone())?;
            let written = reader.write_to(&mut stream);
            written.map_err(|error| ended(&wanted, error))?;
            complete(object, target, stream)?;
            Ok(reader.stats())
        }
        Target::Part(names) => {
            if may_be_complete(object, target, &names) {
                let info = block_on(runtime, object.stat())?;
                if let Some(stats) = compared(object, target, &info)? {
                    return Ok(stats);
                }
            }
            let (part, download, missing) = prepare(object, target, &names)?;
            let destination = Arc::clone(&part) as _;
            let result = match missing {
                Some(missing) => download.read_extents_to_on(runtime, &missing, destination),
                None => download.read_to_on(runtime, destination),
            };
            match result {
                Err(error) if part.needs_order() => {
                    give_up(part, error);
                    let part = Part::take(plan(object, &names, true)?, target)?;
                    let result = append_blocking(object, &part);
                    settle(&part, target, result)
                }
                result => settle(&part, target, result),
            }
        }
    }
}

/// Reads into a part whose file system takes bytes in order only. Ranges are still fetched in
/// parallel, within the window.
fn append_blocking(object: &ObjectSource, part: &Part) -> Result<Stats, Error> {
    use pget_core::Destination as _;
    let mut reader = object.blocking_reader()?;
    let info = reader.info()?;
    let (start, end) = wanted_of(object, info.size);
    part.begin(&info, start, end)?;
    while let Some(lease) = reader.next_lease()? {
        part.append(&lease)?;
    }
    Ok(reader.stats())
}

/// [`append_blocking`] on the caller's tokio runtime.
async fn append(object: &ObjectSource, part: &Arc<Part>) -> Result<Stats, Error> {
    use pget_core::Destination as _;
    let mut reader = object.reader().await?;
    let info = reader.info().await?;
    let (start, end) = wanted_of(object, info.size);
    let owned = Arc::clone(part);
    spawn_blocking(move || owned.begin(&info, start, end)).await?;
    while let Some(lease) = reader.next().await? {
        let owned = Arc::clone(part);
        spawn_blocking(move || owned.append(&lease)).await?;
    }
    Ok(reader.stats())
}

/// The bytes that are wanted of an object.
fn wanted_of(object: &ObjectSource, size: Option<u64>) -> (u64, Option<u64>) {
    let options = &object.settings().options;
    let end = size.map(|size| {
        let length = options.length.unwrap_or(u64::MAX);
        options
            .offset
            .saturating_add(length)
            .min(size)
            .max(options.offset)
    });
    (options.offset, end)
}

/// Removes a part that another one is to take the place of.
fn give_up(part: Arc<Part>, error: Error) {
    tracing::debug!(
        error = error.to_line(),
        "the file system takes bytes in order only"
    );
    drop(part.fail(error));
}

/// Reads the object into the file `target` on the caller's tokio runtime.
pub(crate) async fn get(object: &Arc<ObjectSource>, target: &Path) -> Result<Stats, Error> {
    let (owned, target) = (Arc::clone(object), target.to_owned());
    let found = spawn_blocking(move || {
        let target = absolute_target(&target);
        let found = Target::of(owned.file().as_deref(), &target)?;
        let may_be_complete =
            matches!(&found, Target::Part(names) if may_be_complete(&owned, &target, names));
        Ok((target, found, may_be_complete))
    });
    let (target, found, may_be_complete) = found.await?;
    let Target::Part(names) = found else {
        return stream(object, &target).await;
    };
    let info = if may_be_complete {
        Some(object.stat().await?)
    } else {
        None
    };
    let owned = (Arc::clone(object), target.clone(), names.clone());
    let prepared = spawn_blocking(move || {
        let (object, target, names) = owned;
        if let Some(info) = info
            && let Some(stats) = compared(&object, &target, &info)?
        {
            return Ok(Err(stats));
        }
        Ok(Ok(prepare(&object, &target, &names)?))
    });
    let (part, download, missing) = match prepared.await? {
        Ok(prepared) => prepared,
        Err(stats) => return Ok(stats),
    };
    let destination = Arc::clone(&part) as _;
    let result = match missing {
        Some(missing) => download.read_extents_to(&missing, destination).await,
        None => download.read_to(destination).await,
    };
    let (part, result) = match result {
        Err(error) if part.needs_order() => {
            let owned = (Arc::clone(object), target.clone());
            let again = move || {
                give_up(part, error);
                Part::take(plan(&owned.0, &names, true)?, &owned.1)
            };
            let part = Arc::new(spawn_blocking(again).await?);
            let result = append(object, &part).await;
            (part, result)
        }
        result => (part, result),
    };
    spawn_blocking(move || settle(&part, &target, result)).await
}

/// To a device, a pipe or an open file, a lease at a time.
async fn stream(object: &Arc<ObjectSource>, target: &Path) -> Result<Stats, Error> {
    use io::Write as _;
    let caller = Arc::new(());
    let wanted = wanted(object, &caller);
    let mut reader = object.reader().await?;
    let path = target.to_owned();
    let open = {
        let wanted = wanted.clone();
        move || Stream::open(&path, wanted)
    };
    let mut stream = spawn_blocking(open).await?;
    while let Some(lease) = reader.next().await? {
        let path = target.to_owned();
        stream = spawn_blocking(move || {
            let written = stream.write_all(&lease);
            written.map_err(|cause| destination(&path, "cannot be written", cause))?;
            Ok(stream)
        })
        .await
        .map_err(|error| ended(&wanted, error))?;
    }
    let owned = (Arc::clone(object), target.to_owned());
    spawn_blocking(move || complete(&owned.0, &owned.1, stream)).await?;
    Ok(reader.stats())
}

/// While `caller` is there.
fn wanted(object: &ObjectSource, caller: &Arc<()>) -> Wanted {
    Wanted {
        cancel: object.settings().options.cancel.clone(),
        caller: Arc::downgrade(caller),
    }
}

/// A write that was given up is no fault of the destination.
fn ended(wanted: &Wanted, error: Error) -> Error {
    if error.kind() == ErrorKind::Destination && wanted.is_cancelled() {
        return Error::new(ErrorKind::Cancelled, error.object().to_owned(), "");
    }
    error
}

/// All is written to it.
fn complete(object: &ObjectSource, target: &Path, stream: Stream) -> Result<(), Error> {
    if object.settings().file.sync {
        let synced = stream.sync();
        synced.map_err(|cause| destination(target, "cannot be synced", cause))?;
    }
    let closed = stream.close();
    closed.map_err(|cause| destination(target, "cannot be written", cause))
}

/// The part, locked, its download, and what is missing, if something is there.
type Prepared = (Arc<Part>, Download, Option<Vec<Range<u64>>>);

fn prepare(object: &ObjectSource, target: &Path, names: &Names) -> Result<Prepared, Error> {
    let opened = object.opened()?;
    let part = Part::take(plan(object, names, false)?, target)?;
    let mut options = object.settings().options.clone();
    Ok(match part.restrict(&mut options)? {
        None => (Arc::new(part), opened.download.clone(), None),
        Some(missing) => {
            let download = Download::new(Arc::clone(&opened.source), options)?;
            (Arc::new(part), download, Some(missing))
        }
    })
}

fn plan(object: &ObjectSource, names: &Names, in_order: bool) -> Result<Plan, Error> {
    let (opened, settings) = (object.opened()?, object.settings());
    let asked = Asked {
        object: opened.source.name(),
        address: opened.fingerprint.clone(),
        offset: settings.options.offset,
        length: settings.options.length,
    };
    Ok(Plan {
        names: names.clone(),
        asked,
        settings: settings.file.clone(),
        is_verified: settings.options.verify == Verify::Require,
        in_order,
    })
}

fn settle(part: &Part, target: &Path, result: Result<Stats, Error>) -> Result<Stats, Error> {
    match result.and_then(|stats| part.finish(target).map(|()| stats)) {
        Ok(stats) => Ok(stats),
        Err(error) => Err(part.fail(error)),
    }
}

async fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    pget_core::threads::may_block(work).await.unwrap_or_else(|cause| {
        let message = "the work on a file has ended without a result";
        Err(Error::with_cause(ErrorKind::Internal, "", message, cause))
    })
}
