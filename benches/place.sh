#!/bin/sh
# Compares the CPU time of a read into each kind of destination with the bare limit of that kind.
#
# The destinations are memory, shared memory, a file in memory and a file on a disk. The script
# builds the programs. Arguments go to the comparison, for example --rounds 9 --kinds tmpfs,disk
# --most-of-bare 1.15.
set -eu
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p pget-cli
exec cargo run -q --release --locked -p pget-bench --bin place -- --program target/release/pget "$@"
