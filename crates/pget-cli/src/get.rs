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
        Address::Aistore(text)
        | Address::S3(text)
        | Address::Gcs(text)
        | Address::Azure(text)
        | Address::Http(text) => {
            // Behind the host or bucket: a name that ends there names no object.
            let path = text
                .split(['?', '#'])
                .next()
                .and_then(|text| text.split_once("://"));
            path.and_then(|(_, path)| path.split_once('/'))
                .and_then(|(_, path)| path.rsplit('/').next())
                .map(PathBuf::from)
        }
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
