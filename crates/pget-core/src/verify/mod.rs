//! Integrity: the checksum that a source publishes for the whole object, compared with the bytes
//! that came.
//!
//! Pure: no I/O, clock or task. [`Published`] is what a source says, [`Verify`] what the caller
//! wants, [`Verification`] what came of it; a [`Hasher`] computes.
//!
//! Invariants: only the *whole object's* checksum is ever compared, and only with the whole
//! object's bytes; what cannot be compared is said (in [`Stats`](crate::Stats)), never taken for
//! compared.

mod digest;
mod hasher;
mod passing;
mod placed;

use std::fmt;

pub use digest::{Algorithm, Digest};
pub use hasher::Hasher;

pub(crate) use passing::Passing;
pub(crate) use placed::Placed;

/// Whether the bytes are compared with the checksum that the source publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verify {
    /// If the whole object is read and its source publishes a checksum that can be computed.
    #[default]
    Auto,
    /// As [`Auto`](Self::Auto), and a download without a published checksum fails before its first
    /// byte.
    Require,
    /// Never; saves the computing, and the request where a source must be asked for the checksum.
    Off,
}

impl Verify {
    /// Returns the mode of this name: `auto`, `require` or `off`.
    ///
    /// # Examples
    /// ```
    /// use pget_core::Verify;
    /// assert_eq!(Verify::from_name("require"), Some(Verify::Require));
    /// assert_eq!(Verify::from_name("perhaps"), None);
    /// ```
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "auto" => Self::Auto,
            "require" => Self::Require,
            "off" => Self::Off,
            _ => return None,
        })
    }

    /// `auto`, `require` or `off`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Require => "require",
            Self::Off => "off",
        }
    }
}

/// The checksum of the whole object as a source publishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Published {
    /// The checksum of the object's bytes.
    Whole(Digest),
    /// A checksum of the checksums of the parts that the object was put in (S3's `COMPOSITE`);
    /// which parts those were is not reported.
    Composite(Algorithm),
}

impl Published {
    /// Whether `later`, of another reply, is of other content.
    #[must_use]
    pub(crate) fn contradicts(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Whole(was), Self::Whole(is)) => was.algorithm() == is.algorithm() && was != is,
            _ => false,
        }
    }
}

/// The result of a download's verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verification {
    /// No reply has arrived yet.
    #[default]
    Unknown,
    /// Under way.
    Pending(Algorithm),
    /// All bytes came and have the published checksum.
    Verified(Algorithm),
    /// All bytes came and do not have it.
    Mismatch(Algorithm),
    /// All bytes came, not in their order, and the destination cannot give them back for a checksum
    /// that goes from beginning to end.
    Unreadable(Algorithm),
    /// Not wanted.
    Off,
    /// A part of the object was asked for, and checksums are of the whole.
    Part,
    /// The source publishes none that is known here.
    Unpublished,
    /// The published one is of parts; see [`Published::Composite`].
    Composite(Algorithm),
}

impl Verification {
    /// The algorithm by which the object was verified.
    #[must_use]
    pub const fn verified(self) -> Option<Algorithm> {
        match self {
            Self::Verified(algorithm) => Some(algorithm),
            _ => None,
        }
    }

    /// One word: `unknown`, `pending`, `verified`, `mismatch`, `unreadable`, `off`, `part`,
    /// `unpublished`, `composite`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Pending(_) => "pending",
            Self::Verified(_) => "verified",
            Self::Mismatch(_) => "mismatch",
            Self::Unreadable(_) => "unreadable",
            Self::Off => "off",
            Self::Part => "part",
            Self::Unpublished => "unpublished",
            Self::Composite(_) => "composite",
        }
    }

    /// The algorithm that it is about.
    #[must_use]
    pub const fn algorithm(self) -> Option<Algorithm> {
        match self {
            Self::Pending(algorithm)
            | Self::Verified(algorithm)
            | Self::Mismatch(algorithm)
            | Self::Unreadable(algorithm)
            | Self::Composite(algorithm) => Some(algorithm),
            Self::Unknown | Self::Off | Self::Part | Self::Unpublished => None,
        }
    }
}

impl fmt::Display for Verification {
    /// `verified crc32c`, `part`, …
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.algorithm() {
            Some(algorithm) => write!(f, " {algorithm}"),
            None => Ok(()),
        }
    }
}

/// Returns the checksum to compare the bytes with, or the reason why that is not possible.
///
/// `published` is that of the first reply.
pub(crate) fn plan(wish: Verify, whole: bool, published: Option<&Published>) -> Result<Digest, Verification> {
    if wish == Verify::Off {
        return Err(Verification::Off);
    }
    if !whole {
        return Err(Verification::Part);
    }
    match published {
        Some(Published::Whole(digest)) => Ok(*digest),
        Some(Published::Composite(algorithm)) => Err(Verification::Composite(*algorithm)),
        None => Err(Verification::Unpublished),
    }
}

/// Why `require` cannot be met.
pub(crate) fn unmet(why: Verification) -> String {
    match why {
        Verification::Composite(algorithm) => {
            format!("the {algorithm} that is published for it is a composite one, of its parts")
        }
        Verification::Part => "checksums are of whole objects, and a part of one is read".into(),
        Verification::Unreadable(algorithm) => {
            format!("its destination cannot give bytes back for the {algorithm}")
        }
        _ => "no checksum of a known kind is published for it".into(),
    }
}
