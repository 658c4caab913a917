//! Numbers of descriptors: the open file that a name stands for, and numbers that the host takes
//! for its own. Called by what opens files here.
//!
//! Invariant: no file that is written to is descriptor 0, 1 or 2: where a host has closed one of
//! those and still prints to it, the text would land in the file.

#![allow(
    unsafe_code,
    reason = "a name contains a descriptor as a number, which no safe call can duplicate"
)]

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    path::{Component, Path},
};

/// Returns the number in `/dev/fd/N` and similar names, which name what this process has open
/// already.
pub(crate) fn number(target: &Path) -> Option<RawFd> {
    let mut names = target.components();
    if names.next() != Some(Component::RootDir) {
        return None;
    }
    let names: Option<Vec<&str>> = names.map(|name| OsStr::to_str(name.as_os_str())).collect();
    match names?[..] {
        ["dev", "stdin"] => Some(0),
        ["dev", "stdout"] => Some(1),
        ["dev", "stderr"] => Some(2),
        ["dev", "fd", number] | ["proc", "self" | "thread-self", "fd", number] => of_text(number),
        ["proc", process, "fd", number] if process == std::process::id().to_string() => of_text(number),
        _ => None,
    }
}

/// Digits only: a negative number does not count.
fn of_text(number: &str) -> Option<RawFd> {
    RawFd::try_from(number.parse::<u32>().ok()?).ok()
}

/// Returns another descriptor of the file that `number` is open on. The two share one position.
/// The new one is above the standard descriptors, and is closed on exec.
pub(crate) fn duplicate(number: RawFd) -> io::Result<File> {
    if number < 0 {
        return Err(nix::errno::Errno::EBADF.into());
    }
    // SAFETY: not negative, and used for the one system call that duplicates it, which says so if
    // nothing is open there. It is the caller who named it; what another thread closes and opens
    // at that moment is, as with the opening of a path, one or the other.
    let named = unsafe { BorrowedFd::borrow_raw(number) };
    named.try_clone_to_owned().map(File::from)
}

/// The same file, under a number that is no standard one.
pub(crate) fn above_stdio(file: File) -> io::Result<File> {
    const STANDARD: std::ops::RangeInclusive<RawFd> = 0..=2;
    if STANDARD.contains(&file.as_raw_fd()) {
        // A copy made by Rust never has such a number; the first is closed.
        return file.try_clone();
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_descriptors_are_told_from_others() {
        let own = format!("/proc/{}/fd/9", std::process::id());
        for (name, is) in [
            ("/dev/stdin", Some(0)),
            ("/dev/stdout", Some(1)),
            ("//dev/./stderr", Some(2)),
            ("/dev/fd/63", Some(63)),
            ("/proc/self/fd/3", Some(3)),
            ("/proc/thread-self/fd/3", Some(3)),
            (&own, Some(9)),
            ("/proc/1/fd/9", None),
            ("/dev/fd/-1", None),
            ("/dev/fd/4294967295", None),
            ("/dev/fd/x", None),
            ("/dev/fd", None),
            ("dev/fd/1", None),
            ("/dev/null", None),
            ("/a/dev/stdout", None),
        ] {
            assert_eq!(number(Path::new(name)), is, "{name}");
        }
        assert!(duplicate(RawFd::MAX).is_err(), "nothing is open there");
    }
}
