//! `pget get` of one object into a file.
//!
//! A name that comes from an address is decoded, except for what would be harmful in a name.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use pget::{Address, Builder, Error, ErrorKind, Settings};

use crate::{args::Get, report::Report};

/// The names of standard output.
const STANDARD_OUTPUT: [&str; 4] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"];

/// Fetches the object at `address`, the only one.
pub(crate) fn run(get: &Get, address: &str) -> Result<(), Error> {
    let target = match &get.output {
        // A file of that name is `./-`.
        Some(path) if path.as_os_str() == "-" => STANDARD_OUTPUT[0].into(),
        Some(path) => path.clone(),
        None => in_folder(get, &name_of(&Address::parse(address)?)?)?,
    };
    let (report, builder) = Report::begin(&get.show, builder(get, address));
    match builder.blocking().and_then(|object| object.get_file(&target)) {
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

/// Returns how to read the object, without what reports on it.
pub(crate) fn builder(get: &Get, address: &str) -> Builder {
    pget::builder(address).settings(settings(get))
}

pub(crate) fn settings(get: &Get) -> Settings {
    let mut settings = Settings::default();
    get.reach.fill(&mut settings);
    get.read.fill(&mut settings);
    get.file.fill(&mut settings);
    if let Some(interval) = get.journal_interval {
        settings.file.journal_interval = interval;
    }
    settings
}

/// Returns the path of a file in the folder that `--dir` names, and makes the folders that are
/// missing.
pub(crate) fn in_folder(get: &Get, name: &Path) -> Result<PathBuf, Error> {
    let path = get.dir.as_deref().unwrap_or_else(|| Path::new("")).join(name);
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => {
            std::fs::create_dir_all(folder).map_err(|cause| {
                let object = folder.display().to_string();
                Error::with_cause(ErrorKind::Destination, object, "cannot create the folder", cause)
            })?;
        }
        _ => {}
    }
    Ok(path)
}

/// Whether the object goes to standard output.
pub(crate) fn is_to_standard_output(get: &Get) -> bool {
    let path = get.output.as_deref().map(Path::as_os_str);
    path.is_some_and(|path| STANDARD_OUTPUT.map(OsStr::new).contains(&path))
}

/// The last part of the address.
pub(crate) fn name_of(address: &Address) -> Result<PathBuf, Error> {
    let name = match address {
        Address::File(path) => path.file_name().map(PathBuf::from),
        // Literal to its end.
        Address::Aistore(text) => last_part(text).map(PathBuf::from),
        // Only a version may follow the key.
        Address::S3(text) | Address::Gcs(text) | Address::Azure(text) => {
            text.split('?').next().and_then(last_part).map(decoded)
        }
        Address::Http(text) => text.split(['?', '#']).next().and_then(last_part).map(decoded),
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

/// The text after the last slash that follows the host or bucket. A name that ends there does not
/// name an object.
fn last_part(text: &str) -> Option<&str> {
    let (_, place) = text.split_once("://")?;
    let (_, path) = place.split_once('/')?;
    path.rsplit('/').next()
}

/// `name` with its `%XX` decoded, for a file in the current folder.
///
/// These stay encoded: a slash, a control character, a character that changes the direction of a
/// text, bytes that are not UTF-8, and a dot that would make the file a hidden one.
fn decoded(name: &str) -> PathBuf {
    let mut text = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        // The longest run of escapes: a character may take up to four of them.
        let mut bytes = Vec::new();
        while let Some(byte) = escaped(&rest[3 * bytes.len()..]) {
            bytes.push(byte);
        }
        if bytes.is_empty() {
            text.push('%');
            rest = &rest[1..];
            continue;
        }
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                let length = 3 * character.len_utf8();
                if is_harmless(character) && !(text.is_empty() && character == '.') {
                    text.push(character);
                } else {
                    text.push_str(&rest[..length]);
                }
                rest = &rest[length..];
            }
            let length = 3 * chunk.invalid().len();
            text.push_str(&rest[..length]);
            rest = &rest[length..];
        }
    }
    text.push_str(rest);
    PathBuf::from(text)
}

/// The byte that `text` begins with as `%XX`.
fn escaped(text: &str) -> Option<u8> {
    let digits = text.strip_prefix('%')?.get(..2)?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(digits, 16).ok())?
}

fn is_harmless(character: char) -> bool {
    let redirects = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character != '/' && !character.is_control() && !redirects
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
            ("dir/x%20y", "x%20y"),
            ("file:///dir/x%20y", "x y"),
            ("ais://b/x%20y", "x%20y"),
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

    #[test]
    fn case_125_a_name_is_decoded_except_for_what_is_harmful() {
        for (written, name) in [
            ("c%20d.bin", "c d.bin"),
            ("%C3%A4%f0%9f%98%80", "ä😀"),
            ("100%", "100%"),
            ("100%2", "100%2"),
            ("%zz%25", "%zz%"),
            ("%2520", "%20"),
            ("a+b", "a+b"),
            ("a%2Fb", "a%2Fb"),
            ("%2e%2e%2fetc%2Fpasswd", "%2e.%2fetc%2Fpasswd"),
            ("%2e", "%2e"),
            ("%2ebashrc", "%2ebashrc"),
            ("a%2eb", "a.b"),
            ("a%00b", "a%00b"),
            ("a%0Ab%1b%5B31m%7f", "a%0Ab%1b[31m%7f"),
            ("a%c2%85b", "a%c2%85b"),
            ("a%e2%80%aeb", "a%e2%80%aeb"),
            ("%ff%C3%A4%c3", "%ffä%c3"),
            ("%-1", "%-1"),
            ("%é", "%é"),
            ("-rf", "-rf"),
        ] {
            for scheme in ["s3://b", "gs://b", "az://b", "https://h", "http://h/d"] {
                let address = format!("{scheme}/{written}");
                let parsed = Address::parse(&address).expect(written);
                assert_eq!(name_of(&parsed).expect(written), Path::new(name), "{address}");
            }
        }
        let none = Address::parse("https://h/a/..").expect("an address");
        name_of(&none).expect_err("it would leave the folder");
    }
}
