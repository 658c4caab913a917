#!/bin/sh
# Writes what follows from the C functions in ffi/src and from the builder in crates/pget:
# include/pget.h, the setters of numbers in include/pget.hpp and Go, and the table of
# docs/options.md.
set -eu
cd "$(dirname "$0")/.."
export PGET_WRITE_HEADER=1
cargo test -q --locked -p pget-ffi --test header the_committed_header
cargo test -q --locked -p pget-ffi --test setters
cargo test -q --locked -p pget-cli --test options_page
