//! The destinations, and the two ways of reading into each.

use std::{
    error::Error,
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use clap::ValueEnum;
use nix::fcntl::{FallocateFlags, fallocate};
use pget_bench::{Cost, bare::in_parallel, cpu_of_this_process};
use pget_core::{Download, Options};
use pget_http::{Client, ClientOptions, HttpSource};
use pget_shm::{IntoShared, Placement, SharedBuffer};
use tokio::runtime::{Builder, Runtime};

use crate::{
    Args,
    mapped::{self, Mapped},
};

/// The destination of the object. A new kind needs a name, a folder, and its two ways in [`run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Fresh memory of the process.
    Memory,
    /// Memory of the process that contained an object before.
    MemoryReused,
    /// A fresh segment of shared memory.
    Shared,
    /// A segment of shared memory that contained an object before.
    SharedReused,
    /// A file in memory.
    Tmpfs,
    /// A file on a disk.
    Disk,
}

pub(crate) const KINDS: [Kind; 6] = [
    Kind::Memory,
    Kind::MemoryReused,
    Kind::Shared,
    Kind::SharedReused,
    Kind::Tmpfs,
    Kind::Disk,
];

/// The way in which the object gets to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// One thread and one blocking connection per range in flight.
    Bare,
    /// pget: the library into memory, the program into files.
    Pget,
}

/// The preparation of a file before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Prepare {
    /// No preparation. The file grows.
    None,
    /// The file gets its length.
    Length,
    /// The file's blocks are reserved.
    Reserve,
}

/// The bare way's method of writing to a fresh segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fresh {
    /// By `pwrite` from a hot page, after the preparation of `--prepare`.
    Put,
    /// Into a mapping, whose pages are allocated when they are touched.
    Map,
    /// Into a mapping. Each `--page-kib` of it is populated just before.
    Populate,
}

impl Fresh {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Map => "map",
            Self::Populate => "populate",
        }
    }
}

impl Prepare {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Length => "length",
            Self::Reserve => "reserve",
        }
    }
}

impl Way {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Pget => "pget",
        }
    }
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::MemoryReused => "memory-reused",
            Self::Shared => "shared",
            Self::SharedReused => "shared-reused",
            Self::Tmpfs => "tmpfs",
            Self::Disk => "disk",
        }
    }

    /// Returns whether the program writes the destination. Such a file is removed after each run.
    pub(crate) const fn is_file(self) -> bool {
        matches!(self, Self::Tmpfs | Self::Disk)
    }

    pub(crate) fn folder(self, disk: &Path) -> PathBuf {
        match self {
            Self::Disk => disk.to_owned(),
            _ => PathBuf::from("/dev/shm"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads the object at `url` into `target` of this kind. The program's runs are elsewhere.
pub(crate) fn run(
    kind: Kind,
    way: Way,
    url: &str,
    target: &Path,
    args: &Args,
) -> Result<Cost, Box<dyn Error>> {
    let began = Instant::now();
    let length = usize::try_from(args.mib << 20)?;
    let moved = match (kind, way) {
        (Kind::Memory, Way::Bare) => bare_into_memory(url, &mut vec![0; length], args, |_| Ok(()))?,
        (Kind::Memory, Way::Pget) => {
            let runtime = runtime(args)?;
            download(url, args)?.read_into_on(runtime.handle(), &mut vec![0; length])? as u64
        }
        (Kind::Shared, Way::Bare) => bare_into_shared(url, args)?,
        (Kind::Shared, Way::Pget) => {
            pget_into_shared(url, &runtime(args)?, Placement::Anonymous, args)?.len() as u64
        }
        (Kind::MemoryReused | Kind::SharedReused, _) => return into_reused(kind, way, url, args),
        (Kind::Tmpfs | Kind::Disk, Way::Bare) => {
            let file = OpenOptions::new().write(true).create_new(true).open(target)?;
            bare_into_file(url, &file, args)?
        }
        (Kind::Tmpfs | Kind::Disk, Way::Pget) => return Err("the program does that".into()),
    };
    Ok(Cost::of_this_process(moved, began.elapsed().as_secs_f64())?)
}

/// Reads several objects into the same memory, and returns the cost of the last one.
fn into_reused(kind: Kind, way: Way, url: &str, args: &Args) -> Result<Cost, Box<dyn Error>> {
    let length = usize::try_from(args.mib << 20)?;
    let file = mapped::file(args.mib << 20)?;
    let mut memory = match kind {
        Kind::SharedReused => Mapped::of(&file, length)?,
        _ => Mapped::anonymous(length)?,
    };
    let runtime = runtime(args)?;
    let mut segment: Option<SharedBuffer> = None;
    let mut once = || -> Result<u64, Box<dyn Error>> {
        Ok(match (kind, way) {
            (_, Way::Bare) => bare_into_memory(url, memory.bytes(), args, |_| Ok(()))?,
            (Kind::SharedReused, Way::Pget) => {
                let placement = segment.take().map_or(Placement::Anonymous, Placement::Reuse);
                let filled = pget_into_shared(url, &runtime, placement, args)?;
                segment.insert(filled).len() as u64
            }
            _ => download(url, args)?.read_into_on(runtime.handle(), memory.bytes())? as u64,
        })
    };
    for _ in 0..args.before {
        once()?;
    }
    let (before, began) = (cpu_of_this_process()?, Instant::now());
    let moved = once()?;
    Ok(Cost::since(before, moved, began)?)
}

/// Receives an object into memory. `prepare` is called with each part before the part is received.
fn bare_into_memory(
    url: &str,
    memory: &mut [u8],
    args: &Args,
    prepare: impl Fn(&mut [u8]) -> io::Result<()> + Sync,
) -> io::Result<u64> {
    let (size, chunk) = (memory.len() as u64, args.chunk_kib << 10);
    let length = |bytes: u64| usize::try_from(bytes).map_err(io::Error::other);
    let page = length(args.page_kib << 10)?;
    let places: Vec<_> = memory
        .chunks_mut(length(chunk)?)
        .map(|place| Mutex::new(Some(place)))
        .collect();
    in_parallel(url, size, chunk, args.concurrency, |connection, ranges| {
        for range in ranges {
            let place = &places[length(range.start / chunk)?];
            let place = place.lock().unwrap_or_else(PoisonError::into_inner).take();
            let place = place.ok_or_else(|| io::Error::other("a range twice"))?;
            let first = connection.ask(&range)?;
            let mut filled = first.len();
            for part in place.chunks_mut(page) {
                prepare(part)?;
                part[..filled].copy_from_slice(&first[..filled]);
                connection.fill(&mut part[filled..])?;
                filled = 0;
            }
        }
        Ok(())
    })
}

fn bare_into_shared(url: &str, args: &Args) -> Result<u64, Box<dyn Error>> {
    let file = mapped::file(args.mib << 20)?;
    if args.fresh == Fresh::Put {
        return Ok(bare_into_file(url, &file, args)?);
    }
    let mut memory = Mapped::of(&file, usize::try_from(args.mib << 20)?)?;
    Ok(bare_into_memory(url, memory.bytes(), args, |part| {
        match args.fresh {
            Fresh::Populate => mapped::populate(part),
            _ => Ok(()),
        }
    })?)
}

fn download(url: &str, args: &Args) -> Result<Download, Box<dyn Error>> {
    let client = Client::new(&ClientOptions::default())?;
    let source = Arc::new(HttpSource::new(client, url, http::HeaderMap::new())?);
    let mut options = Options::default();
    options.chunk_size = Some(args.chunk_kib << 10);
    options.concurrency = Some(args.concurrency);
    Ok(Download::new(source, options)?)
}

fn runtime(args: &Args) -> io::Result<Runtime> {
    let mut runtime = Builder::new_multi_thread();
    if let Some(workers) = args.workers {
        runtime.worker_threads(workers);
    }
    runtime.enable_all().build()
}

fn pget_into_shared(
    url: &str,
    runtime: &Runtime,
    placement: Placement,
    args: &Args,
) -> Result<SharedBuffer, Box<dyn Error>> {
    let made = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&made);
    let into = Arc::new(IntoShared::new(placement, move |buffer| {
        *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(buffer);
    }));
    let result = download(url, args)?.read_to_on(runtime.handle(), Arc::clone(&into) as _);
    into.finish(result.as_ref().map(drop))?;
    let buffer = made.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(buffer.ok_or("no segment was made")?)
}

fn bare_into_file(url: &str, file: &File, args: &Args) -> io::Result<u64> {
    let (size, chunk) = (args.mib << 20, args.chunk_kib << 10);
    match args.prepare {
        Prepare::None => {}
        Prepare::Length => file.set_len(size)?,
        Prepare::Reserve => {
            let length = i64::try_from(size).map_err(io::Error::other)?;
            fallocate(file, FallocateFlags::empty(), 0, length)?;
        }
    }
    let page = usize::try_from(args.page_kib << 10).map_err(io::Error::other)?;
    in_parallel(url, size, chunk, args.concurrency, |connection, ranges| {
        let mut page = vec![0; page];
        for range in ranges {
            let first = connection.ask(&range)?;
            page[..first.len()].copy_from_slice(&first);
            let (mut at, mut filled) = (range.start, first.len());
            while at < range.end {
                let left = usize::try_from(range.end - at).map_err(io::Error::other)?;
                let end = left.min(page.len());
                connection.fill(&mut page[filled..end])?;
                file.write_all_at(&page[..end], at)?;
                at += end as u64;
                filled = 0;
            }
        }
        Ok(())
    })
}
