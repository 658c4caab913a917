//! `pget get`: an object into a file.

use std::path::{Path, PathBuf};

use pget::{Address, Error, ErrorKind};

use crate::{args::Get, report::Report};

pub(crate) fn run(get: &Get) -> Result<(), Error> {
    let target = match &get.output {
        Some(path) => path.clone(),
        None => name_of(&Address::parse(&get.object.address)?)?,
    };
    let mut builder = get.read.apply(get.object.builder());
    builder = builder.resume(get.resume).sync(get.sync);
    if let Some(interval) = get.journal_interval {
        builder = builder.journal_interval(interval);
    }
    let (report, builder) = Report::begin(&get.show, builder);
    match builder.get_file_blocking(&target) {
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

/// The last part of the address.
fn name_of(address: &Address) -> Result<PathBuf, Error> {
    let name = match address {
        Address::File(path) => path.file_name().map(PathBuf::from),
        // Literal to its end.
        Address::Aistore(text) => last_part(text),
        // Only a version may follow the key.
        Address::S3(text) | Address::Gcs(text) | Address::Azure(text) => {
            text.split('?').next().and_then(last_part)
        }
        Address::Http(text) => text.split(['?', '#']).next().and_then(last_part),
        _ => None,
    };
    name.filter(|name| !name.as_os_str().is_empty() && name != Path::new("..") && name != Path::new("."))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                "",
                "the address ends in no name; give one with -o FILE",
            )
        })
}

/// What follows the last slash behind the host or bucket: a name that ends there names no object.
fn last_part(text: &str) -> Option<PathBuf> {
    let (_, place) = text.split_once("://")?;
    let (_, path) = place.split_once('/')?;
    path.rsplit('/').next().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_the_object_as_its_transport_reads_the_address() {
        for (address, name) in [
            ("s3://b/dir/k", "k"),
            ("s3://b/k#1", "k#1"),
            ("s3://b/dir/x#y/z", "z"),
            ("s3://b/dir/k?versionId=a/b", "k"),
            ("gs://b/k#1?generation=5", "k#1"),
            ("az://c/k#1", "k#1"),
            ("ais://b/o?1", "o?1"),
            ("ais://b/x?y/o#2", "o#2"),
            ("ais://@alias#ns/b/o", "o"),
            ("https://h/dir/x?a=/b#c/d", "x"),
            ("https://h/x#a/b", "x"),
            ("file:///dir/a%23b?c", "a#b?c"),
            ("dir/x#y", "x#y"),
        ] {
            let parsed = Address::parse(address).expect(address);
            assert_eq!(name_of(&parsed).expect(address), Path::new(name), "{address}");
        }
        for address in [
            "https://h",
            "https://h/",
            "https://h/?x=/y",
            "ais://b/o/",
            "ais://b/..",
        ] {
            let parsed = Address::parse(address).expect(address);
            assert!(name_of(&parsed).is_err(), "{address}");
        }
    }
}
