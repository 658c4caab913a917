//! The destinations, and the two ways into each.

use std::{
    error::Error,
    fmt,
    fs::OpenOptions,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use clap::ValueEnum;
use nix::fcntl::{FallocateFlags, fallocate};
use pget_bench::{Cost, bare::in_parallel};
use pget_core::{Download, Options};
use pget_http::{Client, ClientOptions, HttpSource};
use tokio::runtime::Builder;

use crate::Args;

/// Where the object goes. A new one needs a name, a folder, and its two ways in [`run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Fresh memory of the process.
    Memory,
    /// A file in memory.
    Tmpfs,
    /// A file on a disk.
    Disk,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::Memory, Kind::Tmpfs, Kind::Disk];

/// How it gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// One thread and one blocking connection for each range in flight.
    Bare,
    /// pget: its library into memory, its program into files.
    Pget,
}

/// What is done to a file before it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Prepare {
    /// Nothing: it grows.
    None,
    /// It gets its length.
    Length,
    /// Its blocks are reserved.
    Reserve,
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
            Self::Tmpfs => "tmpfs",
            Self::Disk => "disk",
        }
    }

    /// The program's business, and removed after each run.
    pub(crate) const fn is_file(self) -> bool {
        matches!(self, Self::Tmpfs | Self::Disk)
    }

    pub(crate) fn folder(self, disk: &Path) -> PathBuf {
        match self {
            Self::Memory | Self::Tmpfs => PathBuf::from("/dev/shm"),
            Self::Disk => disk.to_owned(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Moves the object at `url` into `target`, of that kind. The program's part is not here.
pub(crate) fn run(
    kind: Kind,
    way: Way,
    url: &str,
    target: &Path,
    args: &Args,
) -> Result<Cost, Box<dyn Error>> {
    let began = Instant::now();
    let moved = match (kind, way) {
        (Kind::Memory, Way::Bare) => bare_into_memory(url, args)?,
        (Kind::Memory, Way::Pget) => pget_into_memory(url, args)?,
        (Kind::Tmpfs | Kind::Disk, Way::Bare) => bare_into_file(url, target, args)?,
        (Kind::Tmpfs | Kind::Disk, Way::Pget) => return Err("the program does that".into()),
    };
    Ok(Cost::of_this_process(moved, began.elapsed().as_secs_f64())?)
}

fn bare_into_memory(url: &str, args: &Args) -> io::Result<u64> {
    let (size, chunk) = (args.mib << 20, args.chunk_kib << 10);
    let length = |bytes: u64| usize::try_from(bytes).map_err(io::Error::other);
    let mut memory = vec![0; length(size)?];
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
            let (start, rest) = place.split_at_mut(first.len());
            start.copy_from_slice(&first);
            connection.fill(rest)?;
        }
        Ok(())
    })
}

fn pget_into_memory(url: &str, args: &Args) -> Result<u64, Box<dyn Error>> {
    let client = Client::new(&ClientOptions::default())?;
    let source = Arc::new(HttpSource::new(client, url, http::HeaderMap::new())?);
    let mut options = Options::default();
    options.chunk_size = Some(args.chunk_kib << 10);
    options.concurrency = args.concurrency;
    let download = Download::new(source, options)?;
    let mut runtime = Builder::new_multi_thread();
    if let Some(workers) = args.workers {
        runtime.worker_threads(workers);
    }
    let runtime = runtime.enable_all().build()?;
    let mut memory = vec![0; usize::try_from(args.mib << 20)?];
    Ok(download.read_into_on(runtime.handle(), &mut memory)? as u64)
}

fn bare_into_file(url: &str, target: &Path, args: &Args) -> io::Result<u64> {
    let (size, chunk) = (args.mib << 20, args.chunk_kib << 10);
    let file = OpenOptions::new().write(true).create_new(true).open(target)?;
    match args.prepare {
        Prepare::None => {}
        Prepare::Length => file.set_len(size)?,
        Prepare::Reserve => {
            let length = i64::try_from(size).map_err(io::Error::other)?;
            fallocate(&file, FallocateFlags::empty(), 0, length)?;
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
