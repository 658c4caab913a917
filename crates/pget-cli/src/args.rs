//! The command line. The names of options are those of the library.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use pget::{Builder, Settings};

use super::options::{File, Group, Reach, Read};

const EXAMPLES: &str = "\
Examples:
  pget get s3://bucket/model.safetensors
  pget get --resume -o disk.img https://example.org/disk.img
  pget cat ais://bucket/shard.tar | tar x
  pget stat gs://bucket/object --json";

const GET_EXAMPLES: &str = "\
Examples:
  pget get https://example.org/disk.img               into ./disk.img
  pget get --resume -o big.bin s3://bucket/big.bin    goes on where an earlier one ended
  pget get --dir shards ais://data/0.tar ais://data/1.tar
  pget get --dir out --input-file list.txt            one address a line";

const CAT_EXAMPLES: &str = "\
Examples:
  pget cat s3://bucket/snapshot.tar.zst | tar x --zstd
  pget cat --offset 1GiB --length 64KiB https://example.org/disk.img | xxd | less";

/// Reads one large object from object storage over several connections at once.
#[derive(Debug, Parser)]
#[command(name = "pget", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Report retries and degraded reads on standard error; twice: every request
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read objects into files, each of which appears under its name when it is complete
    #[command(after_help = GET_EXAMPLES)]
    Get(Box<Get>),
    /// Write an object to standard output, in order
    #[command(after_help = CAT_EXAMPLES)]
    Cat(Cat),
    /// Print an object's size and revision
    Stat(Stat),
    /// Objects in shared memory, for other processes of this host
    #[command(subcommand)]
    Shm(Shm),
    /// Print the completions for a shell
    Completions {
        /// For which shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual pages into a folder
    #[command(hide = true)]
    ManPages {
        /// The folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Shm {
    /// Read an object into shared memory, print its name when other processes can attach, and keep
    /// it until SIGINT, SIGTERM or SIGHUP
    Get(Box<ShmGet>),
    /// List this user's named objects: name, bytes received/bytes in all, state, whether the
    /// creator lives, revision
    Ls,
    /// Remove what dead processes left, and print the names
    Clean,
}

#[derive(Debug, Args)]
pub(crate) struct ShmGet {
    /// Name in /dev/shm, which must be free [default: none: /proc/PID/fd/N is printed, and the
    /// memory is freed when its last process ends]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) read: Group<Read>,
    #[command(flatten)]
    pub(crate) object: Object,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// ais://bucket/object, s3://bucket/key, gs://…, az://…, http(s)://…, file:///path or a path
    #[arg(value_name = "URL", required_unless_present = "input_file")]
    pub(crate) addresses: Vec<String>,
    /// List of objects, or - for standard input: one address a line, after it a tab or spaces and a
    /// name if it is to have another one; empty lines and lines that begin with # are skipped
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input_file: Option<PathBuf>,
    /// Folder for files that -o does not name; it is made if it is missing
    #[arg(short, long, value_name = "DIR", conflicts_with = "output")]
    pub(crate) dir: Option<PathBuf>,
    /// Objects that are fetched at once
    #[arg(short, long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: u16,
    /// File to write, or - for standard output [default: the last part of the address, decoded, in
    /// the current folder]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) file: Group<File>,
    /// For tests of the journal: what the library calls `journal_interval`
    #[arg(long, hide = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) journal_interval: Option<Duration>,
    #[command(flatten)]
    pub(crate) read: Group<Read>,
    #[command(flatten)]
    pub(crate) reach: Group<Reach>,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// Write into a ring of this name in shared memory, which one other process reads, instead of
    /// standard output
    #[arg(long, value_name = "NAME")]
    pub(crate) shared_ring: Option<String>,
    #[command(flatten)]
    pub(crate) read: Group<Read>,
    #[command(flatten)]
    pub(crate) object: Object,
    #[command(flatten)]
    pub(crate) show: Show,
}

#[derive(Debug, Args)]
pub(crate) struct Stat {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) object: Object,
}

/// Which object, and how to reach it.
#[derive(Debug, Args)]
pub(crate) struct Object {
    /// ais://bucket/object, s3://bucket/key, gs://…, az://…, http(s)://…, file:///path or a path
    #[arg(value_name = "URL", help_heading = None)]
    pub(crate) address: String,
    #[command(flatten)]
    pub(crate) reach: Group<Reach>,
}

/// What to show during the read and at its end.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct Show {
    /// Show a progress bar on standard error
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) progress: When,
    /// Print one JSON object with the figures on standard error at the end
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// If standard error is a terminal
    Auto,
    /// Also in a file or a pipe
    Always,
    /// Not at all
    Never,
}

impl Object {
    /// Returns the object, and how to reach and read it.
    pub(crate) fn builder(&self, read: Option<&Group<Read>>) -> Builder {
        let mut settings = Settings::default();
        self.reach.fill(&mut settings);
        if let Some(read) = read {
            read.fill(&mut settings);
        }
        pget::builder(&self.address).settings(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_its_own_definition() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
