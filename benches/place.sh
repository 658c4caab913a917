#!/bin/sh
# What it costs to receive an object straight into memory, shared memory, a file in memory and a file on a disk, beside the bare limit of each: builds, and compares their CPU time. Arguments go to
# the comparison, e.g. --rounds 9 --kinds tmpfs,disk --most-of-bare 1.15.
set -eu
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p pget-cli
exec cargo run -q --release --locked -p pget-bench --bin place -- --program target/release/pget "$@"
