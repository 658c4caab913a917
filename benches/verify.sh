#!/bin/sh
# What verification costs: CPU seconds a GiB, each algorithm beside verify=off, in order and into memory; medians of rounds in turn. Arguments go to the comparison: --rounds 9.
set -eu
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p pget-bench --bin verify
exec target/release/verify "$@"
