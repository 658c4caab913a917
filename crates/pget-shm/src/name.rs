//! Names of segments: POSIX names, which are files of `/dev/shm`, and descriptors of a process.

use pget_core::{Error, ErrorKind};

/// Where the C library's `shm_open` keeps what it makes, on Linux.
pub(crate) const FOLDER: &str = "/dev/shm";

/// What a companion's name has after that of its data.
pub(crate) const SUFFIX: &str = ".pget";

/// The longest file name that Linux takes.
const LONGEST: usize = 255;

/// The name of a file in [`FOLDER`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Posix(String);

impl Posix {
    /// `name` with or without the slash that `shm_open` wants at its start.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if it cannot name a segment.
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        let invalid = |what: &str| {
            let message = format!("shared memory cannot be named {name:?}: {what}");
            Err(Error::new(ErrorKind::InvalidArgument, "", message))
        };
        let file = name.strip_prefix('/').unwrap_or(name);
        if file.is_empty() || file == "." || file == ".." {
            return invalid("that is no name");
        }
        if file.chars().any(|c| c == '/' || c.is_control()) {
            return invalid("slashes within and control characters are not allowed");
        }
        if file.ends_with(SUFFIX) {
            return invalid("names that end in .pget belong to what stands beside a segment");
        }
        if file.len() > LONGEST - SUFFIX.len() {
            return invalid("it is too long");
        }
        Ok(Self(file.to_owned()))
    }

    /// The segment whose companion has this file name.
    pub(crate) fn of_companion(file: &str) -> Option<Self> {
        file.strip_suffix(SUFFIX).and_then(|name| Self::new(name).ok())
    }

    pub(crate) fn data(&self) -> &str {
        &self.0
    }

    pub(crate) fn companion(&self) -> String {
        format!("{}{SUFFIX}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_segment() {
        assert_eq!(
            Posix::new("/a").expect("a name"),
            Posix::new("a").expect("a name")
        );
        assert_eq!(Posix::new("a").expect("a name").companion(), "a.pget");
        assert_eq!(Posix::of_companion("a.pget"), Posix::new("a").ok());
        assert_eq!(Posix::of_companion("a.txt"), None);
        let long = "n".repeat(LONGEST);
        for name in ["", "/", ".", "/..", "a/b", "//a", "a\0", "a\n", "a.pget", &long] {
            let error = Posix::new(name).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }
}
