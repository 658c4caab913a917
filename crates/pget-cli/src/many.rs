//! `pget get` of several objects: from the command line, from a list, or both.
//!
//! All names are known and different before anything is fetched. Each object is fetched as if it
//! were the only one: it appears under its name when it is complete, and a failure is reported on a
//! line of its own and ends no other. They share the process's connections, its budget of memory,
//! and what it has learned of a host.

use std::{
    collections::HashSet,
    io::{self, BufRead as _, BufReader},
    path::{Component, Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use pget::{Address, Error, ErrorKind, Stats};

use crate::{
    args::Get,
    get::{in_folder, name_of, settings},
    report::{Reports, Totals},
    status::status,
};

/// An object and the name of its file.
#[derive(Debug, PartialEq)]
struct Item {
    address: String,
    name: PathBuf,
}

/// Fetches all objects of the command line and of the list, reports each failure, and returns the
/// exit status: the highest one of all failures.
///
/// # Errors
/// If nothing was fetched, because the command line or the list cannot be used.
pub(crate) fn run(get: &Get) -> Result<u8, Error> {
    if get.output.is_some() {
        return Err(invalid(
            "-o names the file of one object; use --dir DIR for several",
        ));
    }
    let items = items(get)?;
    let of_others = properties_of_others(get, &items);
    let (reports, began) = (Reports::begin(&get.show, items.len()), Instant::now());
    let totals = Mutex::new(Totals::default());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = fetch(get, item, &of_others, &reports);
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(stats) => totals.add(&stats),
                Err(error) => {
                    reports.line(&format!("pget: {}", error.to_line()));
                    totals.failed.push(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..usize::from(get.jobs).min(items.len()) {
            // Where no more threads can be had, those that there are do all.
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.end(&totals, began.elapsed());
    Ok(totals.failed.iter().map(status).max().unwrap_or(0))
}

/// The properties that are of some of the addresses and not of others, which are read without them.
/// A property of no address is refused for each.
fn properties_of_others(get: &Get, items: &[Item]) -> Vec<String> {
    let parsed = items.iter().map(|item| Address::parse(&item.address));
    let addresses: Vec<_> = parsed.filter_map(Result::ok).collect();
    let is_meant = |name: &String| addresses.iter().any(|address| address.has_property(name));
    settings(get).properties.into_keys().filter(is_meant).collect()
}

fn fetch(get: &Get, item: &Item, of_others: &[String], reports: &Reports) -> Result<Stats, Error> {
    let target = in_folder(get, &item.name)?;
    let mut settings = settings(get);
    if let Ok(address) = Address::parse(&item.address) {
        let is_foreign = |name: &String| of_others.contains(name) && !address.has_property(name);
        settings.properties.retain(|name, _| !is_foreign(name));
    }
    let builder = pget::builder(&item.address).settings(settings);
    let (report, builder) = reports.add(&item.name, builder);
    let result = builder.blocking().and_then(|object| object.get_file(&target));
    report.end();
    result
}

/// Returns the objects of the command line, then those of the list.
fn items(get: &Get) -> Result<Vec<Item>, Error> {
    let mut items = Vec::new();
    for address in &get.addresses {
        items.push(item(address, None)?);
    }
    if let Some(path) = &get.input_file {
        let failed = |cause| {
            let object = path.display().to_string();
            Error::with_cause(ErrorKind::InvalidArgument, object, "cannot read the list", cause)
        };
        let lines: Box<dyn io::BufRead> = if path.as_os_str() == "-" {
            Box::new(io::stdin().lock())
        } else {
            Box::new(BufReader::new(std::fs::File::open(path).map_err(failed)?))
        };
        for (number, line) in lines.lines().enumerate() {
            let line = line.map_err(failed)?;
            let Some((address, name)) = parsed(&line) else {
                continue;
            };
            // The line itself is not shown: it may hold a credential.
            items.push(item(address, name).map_err(|error| {
                let place = format!("{}, line {}", path.display(), number + 1);
                Error::with_cause(error.kind(), place, error.to_line(), error)
            })?);
        }
    }
    let mut names = HashSet::new();
    for item in &items {
        let parts: PathBuf = item
            .name
            .components()
            .filter(|part| *part != Component::CurDir)
            .collect();
        if !names.insert(parts) {
            let message = format!(
                "two objects would have the name {}; name one in the list",
                item.name.display()
            );
            return Err(invalid(&message));
        }
    }
    Ok(items)
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "", message)
}

/// Returns address and name of a line. A tab separates them. A line without a tab is split at its
/// first space, so an address that contains spaces must be followed by a tab.
fn parsed(line: &str) -> Option<(&str, Option<&str>)> {
    let line = line.trim_matches([' ', '\r']);
    if line.trim().is_empty() || line.starts_with('#') {
        return None;
    }
    let (address, name) = line
        .split_once('\t')
        .or_else(|| line.split_once(' '))
        .unwrap_or((line, ""));
    let name = name.trim();
    Some((address.trim(), (!name.is_empty()).then_some(name)))
}

/// A name of the list stays in the folder: it is relative, and has no `..`.
fn item(address: &str, name: Option<&str>) -> Result<Item, Error> {
    let address_parsed = Address::parse(address)?;
    let name = match name {
        None => name_of(&address_parsed)?,
        Some(name) => {
            let path = Path::new(name);
            let stays = |part| matches!(part, Component::Normal(_) | Component::CurDir);
            if !path.components().all(stays) || path.file_name().is_none() || name.ends_with('/') {
                return Err(invalid(&format!(
                    "the name {name:?} does not stay in the folder, or names none"
                )));
            }
            path.to_owned()
        }
    };
    Ok(Item {
        address: address.to_owned(),
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_list() {
        for (line, read) in [
            ("s3://b/k", Some(("s3://b/k", None))),
            ("  s3://b/k \r", Some(("s3://b/k", None))),
            ("s3://b/k name", Some(("s3://b/k", Some("name")))),
            ("s3://b/k\tname of it", Some(("s3://b/k", Some("name of it")))),
            ("ais://b/a b\t", Some(("ais://b/a b", None))),
            ("ais://b/a b\tdir/x", Some(("ais://b/a b", Some("dir/x")))),
            ("", None),
            (" \t ", None),
            ("# s3://b/k", None),
        ] {
            assert_eq!(parsed(line), read, "{line:?}");
        }
    }

    #[test]
    fn a_name_stays_in_the_folder() {
        for name in ["../x", "/etc/x", "a/../../x", "a/..", "..", ".", "a/"] {
            assert!(item("s3://b/k", Some(name)).is_err(), "{name}");
        }
        for name in ["x", "./x", "a/b/x", "..x"] {
            assert!(item("s3://b/k", Some(name)).is_ok(), "{name}");
        }
        assert!(item("https://h/", None).is_err());
    }
}
