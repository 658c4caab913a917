//! Which version this is: of the crate, and of the ABI.

use std::ffi::c_char;

use crate::text;

/// The version of the ABI that this header describes; it changes when something is added.
pub const PGET_ABI_VERSION: u32 = 1;
/// First number of the version that this header came with.
pub const PGET_VERSION_MAJOR: u32 = 0;
/// Second number of the version that this header came with.
pub const PGET_VERSION_MINOR: u32 = 1;
/// Third number of the version that this header came with.
pub const PGET_VERSION_PATCH: u32 = 0;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// The version of the ABI that the loaded library has: at least PGET_ABI_VERSION of the header that
/// a program was compiled with, or the library is too old for it.
///
/// Any thread, also after fork. Cannot fail. Since ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_abi_version() -> u32 {
    PGET_ABI_VERSION
}

/// The version of the loaded library, as in "0.1.0".
///
/// The text is static: never freed, always valid. Any thread, also after fork. Cannot fail. Since
/// ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn pget_version() -> *const c_char {
    text::static_text(VERSION)
}
