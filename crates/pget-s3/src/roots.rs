//! The file of certificate roots that the settings name.

use std::path::PathBuf;

use pget_core::Error;

use crate::{cloud::aws, settings::Settings};

/// Returns the file of roots (PEM) that `settings` name for `address` instead of the platform's:
/// `AWS_CA_BUNDLE`, or the profile's `ca_bundle`.
///
/// # Errors
/// If the settings cannot be used.
pub fn roots(settings: &Settings, address: &str) -> Result<Option<PathBuf>, Error> {
    let scheme = address
        .split_once("://")
        .map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("s3" | "s3a") => aws::roots(settings),
        _ => Ok(None),
    }
}
