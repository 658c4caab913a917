//! An object into a file.
//!
//! Each range is written at its offset into `FILE.pget-part` beside the file, which is renamed when it is complete: no reader ever sees a part of an object under the final name. What has
//! landed and was synced is written down in `FILE.pget-journal`, from which another download goes on. What the name stood for before is replaced, a symbolic link too (what
//! it points to stays as it is); a device, a pipe or what is open already is written to in order. Called by the builder.
//!
//! Who is who: [`target`] tells a file from a device; [`descriptor`] minds the numbers of descriptors; [`claim`] opens and locks the part; [`part`] is the destination of the download and decides what becomes of the part;
//! [`names`] names part and journal; [`replace`] looks at the file that is replaced, and puts the finished one in its place; [`refusal`] tells a call that may be done without from a loss; [`warnings`] collects what was done without;
//! [`room`] reserves its space; [`keeper`] syncs it from time to time and then writes the [`journal`], which holds the [`extents`] that have landed; [`left`] finds an earlier one's;
//! [`sameness`] tells whether what is asked for is what it speaks of.

mod claim;
mod descriptor;
mod extents;
mod journal;
mod keeper;
mod left;
mod names;
mod part;
mod refusal;
mod replace;
mod room;
mod sameness;
mod target;
mod warnings;

use std::{io, ops::Range, path::Path, sync::Arc};

use pget_core::{Download, Error, ErrorKind, RangeSource, Stats, Verify};

#[cfg(any(test, fuzzing))]
pub(crate) use self::journal::hold_for_any_input as hold_for_any_journal;
pub(crate) use self::part::Settings;
pub use self::warnings::Warnings;
use self::{
    journal::Asked,
    names::Names,
    part::{Part, Plan},
    sameness::digest,
    target::{Stream, Target, Wanted, wherever_the_process_goes},
};
use crate::{Address, Builder, blocking, connect::Placed, runtime};

/// Reads `builder`'s object into the file `target`, from a thread that may block.
pub(crate) fn get_blocking(builder: &Builder, target: &Path) -> Result<Stats, Error> {
    let target = &wherever_the_process_goes(target);
    let runtime = runtime::handle()?;
    let builder = blocking::on_process_runtime(builder);
    match Target::of(&builder, target)? {
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

/// Reads into a part whose file system takes bytes in order only. Ranges are fetched in parallel all
/// the same, within the window.
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
    on_a_thread_that_may_block(move || owned.begin(&object, start, end)).await?;
    while let Some(lease) = reader.next().await? {
        let owned = Arc::clone(part);
        on_a_thread_that_may_block(move || owned.append(&lease)).await?;
    }
    Ok(reader.stats())
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
    let found = on_a_thread_that_may_block(move || {
        let (builder, target) = owned;
        let target = wherever_the_process_goes(&target);
        let prepared = match Target::of(&builder, &target)? {
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
            let part = Arc::new(on_a_thread_that_may_block(again).await?);
            let result = append(builder, &part).await;
            (part, result)
        }
        result => (part, result),
    };
    on_a_thread_that_may_block(move || settle(&part, &target, result)).await
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
    let mut stream = on_a_thread_that_may_block(open).await?;
    while let Some(lease) = reader.next().await? {
        let path = target.to_owned();
        stream = on_a_thread_that_may_block(move || {
            let written = stream.write_all(&lease);
            written.map_err(|cause| destination(&path, "cannot be written", cause))?;
            Ok(stream)
        })
        .await
        .map_err(|error| ended(&wanted, error))?;
    }
    let owned = (builder.clone(), target.to_owned());
    on_a_thread_that_may_block(move || complete(&owned.0, &owned.1, stream)).await?;
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
    // Also what a journal will stand in for: options that cannot be used make no part, and touch none.
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
        address: digest(&address, &place),
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

async fn on_a_thread_that_may_block<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    pget_core::threads::may_block(work).await.unwrap_or_else(|cause| {
        let message = "the work on a file has ended without a result";
        Err(Error::with_cause(ErrorKind::Internal, "", message, cause))
    })
}

fn destination(path: &Path, what: &str, cause: io::Error) -> Error {
    let message = format!("{} {what}", path.display());
    Error::with_cause(ErrorKind::Destination, "", message, cause)
}
