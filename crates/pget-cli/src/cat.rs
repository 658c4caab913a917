//! `pget cat`: an object to standard output, in order, or to another process through shared memory.

use pget::{Builder, Cancel, Error, Stats, shm::RingWriter};

use crate::{args::Cat, output::Output, report::Report, signals::Signals};

/// A ring of this many bytes stays in the processor's cache, and holds eight of the pieces that a
/// fast sender fills at once.
const RING: usize = 8 << 20;

pub(crate) fn run(cat: &Cat) -> Result<(), Error> {
    let builder = cat.object.builder(Some(&cat.read));
    let Some(name) = &cat.shared_ring else {
        return reported(cat, builder, to_stdout);
    };
    let cancel = Cancel::new();
    // Before there are other threads, which would else be interrupted.
    let signals = Signals::cancel(&cancel)?;
    let result = reported(cat, builder.cancel(cancel.clone()), |builder, report| {
        to_ring(builder, report, name, cancel)
    });
    // The ring's name is gone.
    result.inspect_err(|error| signals.end(error))
}

fn reported(
    cat: &Cat,
    builder: Builder,
    write: impl FnOnce(&Builder, &Report) -> Result<Stats, Error>,
) -> Result<(), Error> {
    let (report, builder) = Report::begin(&cat.show, builder);
    match write(&builder, &report) {
        Ok(stats) => {
            report.end(&stats);
            Ok(())
        }
        Err(error) => {
            report.abandon();
            Err(error)
        }
    }
}

/// Writes the object to standard output, in order.
fn to_stdout(builder: &Builder, report: &Report) -> Result<Stats, Error> {
    let mut output = Output::new()?;
    output.grow_pipe();
    let mut reader = builder.blocking()?.reader()?;
    report.watch(reader.monitor());
    reader.write_to(&mut output)?;
    output.close()?;
    Ok(reader.stats())
}

/// Puts the object into a ring in shared memory, and waits until it was taken or `cancel` is
/// triggered.
fn to_ring(builder: &Builder, report: &Report, name: &str, cancel: Cancel) -> Result<Stats, Error> {
    let mut reader = builder.blocking()?.reader()?;
    report.watch(reader.monitor());
    let mut ring = RingWriter::create(Some(name), RING)?;
    let waker = ring.waker();
    let _watch = pget::blocking::when_triggered(&cancel, move || waker.wake())?;
    ring.stop_when(move || cancel.is_triggered());
    ring.put_object(&mut reader)?;
    Ok(reader.stats())
}
