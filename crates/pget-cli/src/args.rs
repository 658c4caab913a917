//! The command line. The names of options are those of the library.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use pget::Builder;

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
    pub(crate) read: Read,
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
    /// Continue what an earlier get left (FILE.pget-part, FILE.pget-journal), if the object is
    /// still the same
    #[arg(long)]
    pub(crate) resume: bool,
    /// End only when the file and its name are on the disk
    #[arg(long)]
    pub(crate) sync: bool,
    /// Sync and record received bytes this often, for --resume [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) journal_interval: Option<Duration>,
    #[command(flatten)]
    pub(crate) read: Read,
    #[command(flatten)]
    pub(crate) reach: Reach,
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
    pub(crate) read: Read,
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
    pub(crate) reach: Reach,
}

/// How to reach an object.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Reach {
    /// Setting of a transport: ais.endpoint, aws.region, …
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) properties: Vec<(String, String)>,
    /// Header for http and https
    #[arg(long = "header", value_name = "K: V", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Give up after this many failed attempts of one range in a row without progress; 0: after the
    /// first [default: no limit]
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,
    /// Give up after this long without progress [default: 120s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) retry_timeout: Option<Duration>,
    /// Give up connecting after this long [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Abort a request that got no response header after this long [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) first_byte_timeout: Option<Duration>,
    /// Abort a request that makes no progress for this long [default: 20s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) stall_timeout: Option<Duration>,
}

/// How to read it.
#[derive(Debug, Args)]
#[command(next_help_heading = "How to read")]
pub(crate) struct Read {
    /// Bytes per range [default: the server's hint, else found by measuring]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) chunk_size: Option<u64>,
    /// Requests in flight at once; 1: one plain stream [default: found by measuring]
    #[arg(long, value_name = "N")]
    pub(crate) concurrency: Option<u32>,
    /// Chunks held at once, received or being received [default: half as many again as requests in
    /// flight]
    #[arg(long, value_name = "N")]
    pub(crate) window: Option<u32>,
    /// First byte to read [default: 0]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) offset: Option<u64>,
    /// Bytes to read [default: to the end]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) length: Option<u64>,
    /// Compare the bytes with the checksum that the server publishes
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    pub(crate) verify: Verify,
    /// Memory for received bytes [default: a quarter of the machine's memory, at most 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = size_above_0)]
    pub(crate) memory_limit: Option<u64>,
}

/// The words of the library's [`pget::Verify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verify {
    /// Verify if the whole object is read and a checksum is published
    Auto,
    /// Fail if the object cannot be verified
    Require,
    /// Never verify
    Off,
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
    pub(crate) fn builder(&self) -> Builder {
        self.reach.builder(&self.address)
    }
}

impl Reach {
    pub(crate) fn builder(&self, address: &str) -> Builder {
        let mut builder = pget::builder(address);
        for (key, value) in &self.properties {
            builder = builder.property(key, value);
        }
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        if let Some(retries) = self.retries {
            builder = builder.retries(retries);
        }
        if let Some(timeout) = self.retry_timeout {
            builder = builder.retry_timeout(timeout);
        }
        if let Some(timeout) = self.connect_timeout {
            builder = builder.connect_timeout(timeout);
        }
        if let Some(timeout) = self.first_byte_timeout {
            builder = builder.first_byte_timeout(timeout);
        }
        if let Some(timeout) = self.stall_timeout {
            builder = builder.stall_timeout(timeout);
        }
        builder
    }
}

impl Read {
    pub(crate) fn apply(&self, mut builder: Builder) -> Builder {
        if let Some(bytes) = self.chunk_size {
            builder = builder.chunk_size(bytes);
        }
        if let Some(requests) = self.concurrency {
            builder = builder.concurrency(requests);
        }
        if let Some(chunks) = self.window {
            builder = builder.window(chunks);
        }
        if let Some(bytes) = self.offset {
            builder = builder.offset(bytes);
        }
        if let Some(bytes) = self.length {
            builder = builder.length(bytes);
        }
        if let Some(bytes) = self.memory_limit {
            builder = builder.memory_limit(bytes);
        }
        builder.verify(match self.verify {
            Verify::Auto => pget::Verify::Auto,
            Verify::Require => pget::Verify::Require,
            Verify::Off => pget::Verify::Off,
        })
    }
}

/// `8MiB`, `64KB`, `4096`: binary and decimal units, and plain bytes.
fn size(text: &str) -> Result<u64, String> {
    let digits = || text.bytes().filter(u8::is_ascii_digit);
    if !text.is_empty() && digits().count() == text.len() {
        return text.parse().map_err(|_| "it is too large".into());
    }
    // The parser adds up digits without a look at what fits (parse-size 1.1.0).
    if digits().skip_while(|digit| *digit == b'0').count() > 19 {
        return Err("it has too many digits".into());
    }
    parse_size::parse_size(text).map_err(|error| error.to_string())
}

fn size_above_0(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("must be more than 0".into()),
        bytes => Ok(bytes),
    }
}

/// The message does not repeat the text: it may be a credential.
fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

/// The message does not repeat the text: it may be a credential.
fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("expected 'NAME: VALUE'".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("8MiB", 8 << 20),
            ("64KB", 64_000),
            ("4096", 4096),
            ("1GiB", 1 << 30),
            ("0", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "-1", "8 parsecs", "99999999999999999999", "MiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        // Numbers that the parser would count beyond what it can hold.
        for text in ["00000001844674407370955161550588108596K", "18446744073709551619K"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn clap_accepts_its_own_definition() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
