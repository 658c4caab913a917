#!/bin/sh
# Writes include/pget.h from the functions of ffi/src.
set -eu
cd "$(dirname "$0")/.."
PGET_WRITE_HEADER=1 cargo test -q --locked -p pget-ffi --test header the_committed_header
