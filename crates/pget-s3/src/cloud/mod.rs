//! Credentials, and requests that carry them, for each cloud.
//!
//! - [`contract`]: what a source asks of a cloud ([`contract::Cloud`]);
//! - [`keys`]: what a cloud's chain of providers found, as secrets that no output shows;
//! - [`search`]: what was looked for on the way;
//! - [`context`]: the environment, files, programs and HTTP as providers see them;
//! - [`service`]: addresses, JSON and times of services that issue credentials;
//! - [`aws`], [`google`], [`azure`]: the clouds.

use pget_core::Error;
use pget_http::Client;

use crate::{
    address::{self, Address},
    settings::Settings,
};
use contract::Cloud;

pub(crate) mod aws;
pub(crate) mod azure;
#[cfg(test)]
mod compared;
pub(crate) mod context;
pub(crate) mod contract;
pub(crate) mod google;
pub(crate) mod keys;
pub(crate) mod search;
pub(crate) mod service;

/// Returns the cloud of an address, by what the settings say; sends nothing.
pub(crate) fn open(address: Address, settings: &Settings, client: Client) -> Result<Box<dyn Cloud>, Error> {
    Ok(match address.cloud {
        address::Cloud::Aws => Box::new(aws::Aws::new(address, settings, client)?),
        address::Cloud::Google => Box::new(google::Google::new(address, settings, client)?),
        address::Cloud::Azure => Box::new(azure::Azure::new(address, settings, client)?),
    })
}
