#!/bin/sh
# Checks that the library builds without what Linux alone has, with warnings denied: it takes the
# code for other systems (`cfg(pget_portable)`). Calls that no other system has are found by
# crates/pget-cli/tests/house.rs, since this check still runs on Linux.
set -eu
cd "$(dirname "$0")/.."
RUSTC_WORKSPACE_WRAPPER=$PWD/scripts/portable-rustc cargo check -q --locked -p libpget -p pget-object-store
