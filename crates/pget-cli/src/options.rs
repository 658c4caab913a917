//! Options of the command line that fill the library's [`Settings`].
//!
//! Each option is one row of a table: its name, its help, and the change that it makes. The tables
//! are [`REACH`], [`READ`] and [`FILE`]; a command takes a group of them as [`Group`].
//!
//! Invariants:
//! - an option has the library's name, with dashes;
//! - a text is parsed here, and the bounds of a value are the library's ([`Settings::check`]).

use std::{marker::PhantomData, sync::Arc, time::Duration};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _},
};
use pget::{Budget, Options, Settings, Verify};

/// A change of settings, parsed from the text of one option.
#[derive(Clone)]
struct Change(Arc<dyn Fn(&mut Settings) + Send + Sync>);

impl Change {
    fn new(change: impl Fn(&mut Settings) + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }
}

/// The value that may follow the name of an option.
enum Value {
    /// Nothing.
    None,
    /// A text, shown as this.
    Text(&'static str),
    /// The same, and the option may be repeated.
    Texts(&'static str),
    /// One of these words; the first is the default.
    Words(&'static str, &'static [(&'static str, &'static str)]),
}

/// One option.
pub(crate) struct Row {
    name: &'static str,
    value: Value,
    help: &'static str,
    parse: fn(&str) -> Result<Change, String>,
}

/// How to reach an object.
const REACH: &[Row] = &[
    Row {
        name: "set",
        value: Value::Texts("KEY=VALUE"),
        help: "Setting of a transport: ais.endpoint, aws.region, …",
        parse: |text| {
            let (key, value) = key_value(text)?;
            Ok(Change::new(move |settings| {
                settings.properties.insert(key.clone(), value.clone());
            }))
        },
    },
    Row {
        name: "header",
        value: Value::Texts("K: V"),
        help: "Header for http and https",
        parse: |text| {
            let pair = header(text)?;
            Ok(Change::new(move |settings| settings.headers.push(pair.clone())))
        },
    },
    Row {
        name: "retries",
        value: Value::Text("N"),
        help: "Give up after this many failed attempts of one range in a row without progress; 0: after the \
               first [default: no limit]",
        parse: |text| number(text, |settings, retries| settings.options.retries = Some(retries)),
    },
    Row {
        name: "retry-timeout",
        value: Value::Text("TIME"),
        help: "Give up after this long without progress [default: 120s]",
        parse: |text| time(text, |settings, time| settings.options.retry_timeout = time),
    },
    Row {
        name: "connect-timeout",
        value: Value::Text("TIME"),
        help: "Give up connecting after this long [default: 5s]",
        parse: |text| time(text, |settings, time| settings.options.deadlines.connect = time),
    },
    Row {
        name: "first-byte-timeout",
        value: Value::Text("TIME"),
        help: "Abort a request that got no response header after this long [default: 30s]",
        parse: |text| {
            time(text, |settings, time| {
                settings.options.deadlines.first_byte = time
            })
        },
    },
    Row {
        name: "stall-timeout",
        value: Value::Text("TIME"),
        help: "Abort a request that makes no progress for this long [default: 20s]",
        parse: |text| time(text, |settings, time| settings.options.deadlines.stall = time),
    },
];

/// How to read it.
const READ: &[Row] = &[
    Row {
        name: "chunk-size",
        value: Value::Text("SIZE"),
        help: "Bytes per range [default: the server's hint, else found by measuring]",
        parse: |text| bytes(text, |settings, bytes| settings.options.chunk_size = Some(bytes)),
    },
    Row {
        name: "concurrency",
        value: Value::Text("N"),
        help: "Requests in flight at once; 1: one plain stream [default: found by measuring]",
        parse: |text| {
            number(text, |settings, requests| {
                settings.options.concurrency = Some(requests);
            })
        },
    },
    Row {
        name: "window",
        value: Value::Text("N"),
        help: "Chunks held at once, received or being received [default: half as many again as requests in \
               flight]",
        parse: |text| number(text, |settings, chunks| settings.options.window = Some(chunks)),
    },
    Row {
        name: "offset",
        value: Value::Text("SIZE"),
        help: "First byte to read [default: 0]",
        parse: |text| bytes(text, |settings, bytes| settings.options.offset = bytes),
    },
    Row {
        name: "length",
        value: Value::Text("SIZE"),
        help: "Bytes to read [default: to the end]",
        parse: |text| bytes(text, |settings, bytes| settings.options.length = Some(bytes)),
    },
    Row {
        name: "verify",
        value: Value::Words(
            "WHEN",
            &[
                (
                    "auto",
                    "Verify if the whole object is read and a checksum is published",
                ),
                ("require", "Fail if the object cannot be verified"),
                ("off", "Never verify"),
            ],
        ),
        help: "Compare the bytes with the checksum that the server publishes",
        parse: |word| {
            let verify = Verify::from_name(word).ok_or("expected auto, require or off")?;
            Ok(Change::new(move |settings| settings.options.verify = verify))
        },
    },
    Row {
        name: "memory-limit",
        value: Value::Text("SIZE"),
        help: "Memory for received bytes [default: a quarter of the machine's memory, at most 1GiB]",
        parse: |text| {
            let bytes = size(text)?;
            if bytes == 0 {
                return Err("must be more than 0".into());
            }
            // One budget, also for several objects.
            let budget = Budget::new(bytes, Options::MAX_CONCURRENCY as usize);
            Ok(Change::new(move |settings| {
                settings.options.budget = Arc::clone(&budget);
            }))
        },
    },
];

/// How to write a file.
const FILE: &[Row] = &[
    Row {
        name: "resume",
        value: Value::None,
        help: "Continue what an earlier get left (FILE.pget-part, FILE.pget-journal), if the object is \
               still the same",
        parse: |_| Ok(Change::new(|settings| settings.file.resume = true)),
    },
    Row {
        name: "sync",
        value: Value::None,
        help: "End only when the file and its name are on the disk",
        parse: |_| Ok(Change::new(|settings| settings.file.sync = true)),
    },
];

/// Options of one table.
pub(crate) trait Table {
    const ROWS: &'static [Row];
    /// Above them in the help.
    const HEADING: Option<&'static str>;
}

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $rows:ident, $heading:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl Table for $name {
            const ROWS: &'static [Row] = $rows;
            const HEADING: Option<&'static str> = $heading;
        }
    )*};
}

tables! {
    /// How to reach an object.
    Reach: REACH, Some("Network");
    /// How to read it.
    Read: READ, Some("How to read");
    /// How to write a file.
    File: FILE, None;
}

/// The options of a table that the command line has, in its order of names.
#[derive(Clone)]
pub(crate) struct Group<T> {
    changes: Vec<(&'static str, Change)>,
    table: PhantomData<T>,
}

impl<T> std::fmt::Debug for Group<T> {
    /// Shows names only: a value may be a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl<T> Group<T> {
    /// Makes the changes.
    pub(crate) fn fill(&self, settings: &mut Settings) {
        for (_, Change(change)) in &self.changes {
            change(settings);
        }
    }

    /// Returns the names of the options that the command line has.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.changes.iter().map(|(name, _)| *name)
    }
}

impl<T: Table> FromArgMatches for Group<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut changes = Vec::new();
        for row in T::ROWS {
            if let Value::None = row.value {
                if matches.get_flag(row.name)
                    && let Ok(change) = (row.parse)("")
                {
                    changes.push((row.name, change));
                }
            } else if let Some(found) = matches.get_many::<Change>(row.name) {
                changes.extend(found.map(|change| (row.name, change.clone())));
            }
        }
        Ok(Self {
            changes,
            table: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: Table> Args for Group<T> {
    fn augment_args(command: Command) -> Command {
        command.args(T::ROWS.iter().map(|row| row.arg().help_heading(T::HEADING)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl Row {
    fn arg(&self) -> Arg {
        let arg = Arg::new(self.name).long(self.name).help(self.help);
        match self.value {
            Value::None => arg.action(ArgAction::SetTrue),
            Value::Text(shown) => arg.value_name(shown).value_parser(self.parse),
            Value::Texts(shown) => arg
                .value_name(shown)
                .value_parser(self.parse)
                .action(ArgAction::Append),
            Value::Words(shown, words) => {
                let known = words
                    .iter()
                    .map(|(word, help)| PossibleValue::new(*word).help(*help));
                let parse = self.parse;
                let parser = PossibleValuesParser::new(known).try_map(move |word| parse(&word));
                arg.value_name(shown)
                    .value_parser(parser)
                    .default_value(words[0].0)
            }
        }
    }
}

fn number(text: &str, set: fn(&mut Settings, u32)) -> Result<Change, String> {
    let number = text.parse::<u32>().map_err(|error| error.to_string())?;
    Ok(Change::new(move |settings| set(settings, number)))
}

fn bytes(text: &str, set: fn(&mut Settings, u64)) -> Result<Change, String> {
    let bytes = size(text)?;
    Ok(Change::new(move |settings| set(settings, bytes)))
}

fn time(text: &str, set: fn(&mut Settings, Duration)) -> Result<Change, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    Ok(Change::new(move |settings| set(settings, time)))
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
}
