//! Real sizes: digests, windows, memory.
//!
//! All tests are ignored by default, because a debug build would be too slow for gigabytes.
//! `scripts/test.sh` runs them with `--release -- --ignored --test-threads=1`. They run one at a
//! time, because they measure memory and share two cores with their servers.

mod content;
mod memory;
mod places;
mod sizes;

#[allow(dead_code, reason = "the tests of the program use all of it")]
#[path = "../program/run.rs"]
mod run;
#[allow(dead_code, reason = "the tests of the program use all of it")]
#[path = "../program/servers.rs"]
mod servers;
