//! An object into a file: the builder's way to [`pget_file`].

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use pget_core::{Download, Error, ErrorKind, RangeSource, Stats, Verify};
use pget_file::{Asked, Names, Part, Plan, Stream, Target, Wanted, absolute_target, destination};

use crate::{Address, Builder, blocking, connect::Placed, fingerprint::fingerprint, runtime};

/// Reads `builder`'s object into the file `target`, from a thread that may block.
pub(crate) fn get_blocking(builder: &Builder, target: &Path) -> Result<Stats, Error> {
    let target = &absolute_target(target);
    let runtime = runtime::handle()?;
    let builder = blocking::on_process_runtime(builder);
    match Target::of(source_file(&builder).as_deref(), target)? {
        Target::Stream => {
            let caller = Arc::new(());
            let wanted = wanted(&builder, &caller);
            let mut reader = builder.open_blocking()?;
            let mut stream = Stream::open(target, wanted.clone())?;
            let written = reader.write_to(&mut stream);
            written.map_err(|error| ended(&wanted, error))?;
            complete(&builder, target, stream)?;
            Ok(reader.stats())
        }
        Target::Part(names) => {
            let (part, download, missing) = prepare(&builder, target, &names)?;
            let destination = Arc::clone(&part) as _;
            let result = match missing {
                Some(missing) => download.read_extents_to_on(runtime, &missing, destination),
                None => download.read_to_on(runtime, destination),
            };
            match result {
                Err(error) if part.needs_order() => {
                    give_up(part, error);
                    let part = Part::take(plan(&builder, &names, true)?.0, target)?;
                    let result = append_blocking(&builder, &part);
                    settle(&part, target, result)
                }
                result => settle(&part, target, result),
            }
        }
    }
}

/// Reads into a part whose file system takes bytes in order only. Ranges are still fetched in
/// parallel, within the window.
fn append_blocking(builder: &Builder, part: &Part) -> Result<Stats, Error> {
    use pget_core::Destination as _;
    let mut reader = builder.open_blocking()?;
    let object = reader.info()?;
    let (start, end) = wanted_of(builder, object.size);
    part.begin(&object, start, end)?;
    while let Some(lease) = reader.next_lease()? {
        part.append(&lease)?;
    }
    Ok(reader.stats())
}

/// [`append_blocking`] on the caller's tokio runtime.
async fn append(builder: &Builder, part: &Arc<Part>) -> Result<Stats, Error> {
    use pget_core::Destination as _;
    let mut reader = builder.open().await?;
    let object = reader.info().await?;
    let (start, end) = wanted_of(builder, object.size);
    let owned = Arc::clone(part);
    spawn_blocking(move || owned.begin(&object, start, end)).await?;
    while let Some(lease) = reader.next().await? {
        let owned = Arc::clone(part);
        spawn_blocking(move || owned.append(&lease)).await?;
    }
    Ok(reader.stats())
}

/// Returns the file that is read, if it is one.
fn source_file(builder: &Builder) -> Option<PathBuf> {
    match Address::parse(&builder.address) {
        Ok(Address::File(path)) => Some(path),
        _ => None,
    }
}

/// The bytes that are wanted of an object.
fn wanted_of(builder: &Builder, size: Option<u64>) -> (u64, Option<u64>) {
    let options = &builder.options;
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

/// The same on the caller's tokio runtime.
pub(crate) async fn get(builder: &Builder, target: &Path) -> Result<Stats, Error> {
    let owned = (builder.clone(), target.to_owned());
    let found = spawn_blocking(move || {
        let (builder, target) = owned;
        let target = absolute_target(&target);
        let prepared = match Target::of(source_file(&builder).as_deref(), &target)? {
            Target::Stream => None,
            Target::Part(names) => Some((prepare(&builder, &target, &names)?, names)),
        };
        Ok((target, prepared))
    });
    let (target, prepared) = found.await?;
    let Some(((part, download, missing), names)) = prepared else {
        return stream(builder, &target).await;
    };
    let destination = Arc::clone(&part) as _;
    let result = match missing {
        Some(missing) => download.read_extents_to(&missing, destination).await,
        None => download.read_to(destination).await,
    };
    let (part, result) = match result {
        Err(error) if part.needs_order() => {
            let owned = (builder.clone(), target.clone());
            let again = move || {
                give_up(part, error);
                Part::take(plan(&owned.0, &names, true)?.0, &owned.1)
            };
            let part = Arc::new(spawn_blocking(again).await?);
            let result = append(builder, &part).await;
            (part, result)
        }
        result => (part, result),
    };
    spawn_blocking(move || settle(&part, &target, result)).await
}

/// To a device, a pipe or an open file, a lease at a time.
async fn stream(builder: &Builder, target: &Path) -> Result<Stats, Error> {
    use io::Write as _;
    let caller = Arc::new(());
    let wanted = wanted(builder, &caller);
    let mut reader = builder.open().await?;
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
    let owned = (builder.clone(), target.to_owned());
    spawn_blocking(move || complete(&owned.0, &owned.1, stream)).await?;
    Ok(reader.stats())
}

/// While `caller` is there.
fn wanted(builder: &Builder, caller: &Arc<()>) -> Wanted {
    Wanted {
        cancel: builder.options.cancel.clone(),
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
fn complete(builder: &Builder, target: &Path, stream: Stream) -> Result<(), Error> {
    if builder.file.sync {
        let synced = stream.sync();
        synced.map_err(|cause| destination(target, "cannot be synced", cause))?;
    }
    let closed = stream.close();
    closed.map_err(|cause| destination(target, "cannot be written", cause))
}

/// The part, locked, its download, and what is missing, if something is there.
type Prepared = (Arc<Part>, Download, Option<Vec<Range<u64>>>);

fn prepare(builder: &Builder, target: &Path, names: &Names) -> Result<Prepared, Error> {
    let (plan, source) = plan(builder, names, false)?;
    // Also what a journal will stand in for: options that cannot be used make no part, and touch
    // none.
    let download = Download::new(Arc::clone(&source), builder.options.clone())?;
    let part = Part::take(plan, target)?;
    let mut options = builder.options.clone();
    Ok(match part.restrict(&mut options)? {
        None => (Arc::new(part), download, None),
        Some(missing) => (Arc::new(part), Download::new(source, options)?, Some(missing)),
    })
}

fn plan(builder: &Builder, names: &Names, in_order: bool) -> Result<(Plan, Arc<dyn RangeSource>), Error> {
    let Placed { source, place } = builder.placed()?;
    let address = match Address::parse(&builder.address)? {
        // From wherever it is asked for.
        Address::File(path) => Address::File(std::path::absolute(&path).unwrap_or(path)),
        address => address,
    };
    let asked = Asked {
        object: source.name(),
        address: fingerprint(&address, &place),
        offset: builder.options.offset,
        length: builder.options.length,
    };
    let plan = Plan {
        names: names.clone(),
        asked,
        settings: builder.file,
        warnings: builder.warnings.clone(),
        is_verified: builder.options.verify == Verify::Require,
        in_order,
    };
    Ok((plan, source))
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
