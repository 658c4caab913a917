//! The names of a target's part and journal.
//!
//! They are the target's name with a suffix. Where that is longer than the file system takes, they
//! are its first bytes, a digest of the whole name, and the suffix.
//!
//! Invariant: the names depend on nothing but the target and the longest name that its file system
//! takes, so that a later download finds them.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use nix::errno::Errno;
use pget_core::Error;
use sha2::{Digest, Sha256};

use crate::failure::destination;

/// The suffix of a part's name.
pub(crate) const PART: &str = ".pget-part";
/// The suffix of a journal's name.
pub(crate) const JOURNAL: &str = ".pget-journal";

/// Bytes of a name that nearly every file system takes.
const LONGEST: usize = 255;
/// Bytes of a long name that its short form keeps. The short form fits in 143 bytes, which is the
/// longest name of an encrypted folder (eCryptfs).
const KEPT: usize = 100;
/// Hexadecimal digits of the digest.
const DIGITS: usize = 16;

/// Where a file grows before it has its name, and where its progress is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The file that grows.
    pub part: PathBuf,
    /// The record of what has landed in it.
    pub journal: PathBuf,
}

impl Names {
    /// Returns the names for `target`.
    ///
    /// # Errors
    /// If the target's own name is longer than its file system takes.
    pub fn of(target: &Path) -> Result<Self, Error> {
        if let Err(cause) = fs::symlink_metadata(target)
            && is_too_long(&cause)
        {
            return Err(destination(target, "has a name that is too long", cause));
        }
        let plain = Self {
            part: beside(target, PART),
            journal: beside(target, JOURNAL),
        };
        let fits = |path: &Path| {
            path.file_name().is_none_or(|name| name.len() <= LONGEST)
                && !matches!(fs::symlink_metadata(path), Err(error) if is_too_long(&error))
        };
        if fits(&plain.part) && fits(&plain.journal) {
            return Ok(plain);
        }
        let Some(name) = target.file_name() else {
            return Ok(plain);
        };
        Ok(Self {
            part: folder_of(target).join(short(name, PART)),
            journal: folder_of(target).join(short(name, JOURNAL)),
        })
    }
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENAMETOOLONG as i32)
}

/// `target` with a suffix.
fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The short form of `name`, with a suffix.
fn short(name: &OsStr, suffix: &str) -> OsString {
    let name = name.as_bytes();
    let mut hasher = Sha256::new();
    hasher.update(name);
    // Some file systems take nothing but UTF-8, so a name in UTF-8 is not cut within a character.
    let kept = match str::from_utf8(name) {
        Ok(text) => text.floor_char_boundary(KEPT),
        Err(_) => KEPT.min(name.len()),
    };
    let mut short = name[..kept].to_vec();
    short.push(b'~');
    short.extend_from_slice(&hex::encode(hasher.finalize()).as_bytes()[..DIGITS]);
    short.extend_from_slice(suffix.as_bytes());
    OsString::from_vec(short)
}

/// The folder that `target` is in.
pub(crate) fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_121_long_names_have_short_parts_that_do_not_clash() {
        let folder = tempfile::tempdir().expect("a folder");
        let of = |name: &[u8]| Names::of(&folder.path().join(OsStr::from_bytes(name)));
        let name = |path: &Path| path.file_name().expect("a name").as_bytes().to_vec();
        for length in [1, 240, 242] {
            let names = of(&vec![b'n'; length]).expect("it fits");
            let both = [name(&names.part).len(), name(&names.journal).len()];
            assert_eq!(both, [length + PART.len(), length + JOURNAL.len()], "as ever");
        }
        let mut seen = Vec::new();
        // Of the same length, and equal except for their ends; in characters of two to four bytes;
        // no text.
        let wide = ["é", "字", "😀"].map(|letter| {
            let mut text = letter.repeat(255 / letter.len());
            text.push_str(&"x".repeat(255 - text.len()));
            text.into_bytes()
        });
        let long = (243..=255).map(|length| vec![b'n'; length]);
        let ends = (b'a'..=b'm').map(|end| [&[b'n'; 254][..], &[end]].concat());
        for long in long.chain(ends).chain(wide).chain([vec![0xff; 255]]) {
            let names = of(&long).expect("the target fits");
            assert_eq!(Some(&names), of(&long).ok().as_ref(), "the same each time");
            for path in [names.part, names.journal] {
                let short = name(&path);
                assert!(short.len() <= 143, "{}", short.len());
                assert_eq!(str::from_utf8(&short).is_ok(), str::from_utf8(&long).is_ok());
                fs::write(&path, "").expect("a name that can be used");
                assert!(!seen.contains(&short), "{path:?}");
                seen.push(short);
            }
        }
        let error = of(&[b'n'; 256]).expect_err("not even the target");
        assert!(error.to_string().contains("name that is too long"), "{error}");
    }
}
