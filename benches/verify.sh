#!/bin/sh
# Measures the CPU seconds per GiB of each checksum algorithm, in order and into memory.
#
# The figures of verify=off are printed for comparison. All figures are medians of rounds in turn.
# Arguments go to the comparison, for example --rounds 9.
set -eu
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p pget-bench --bin verify
exec target/release/verify "$@"
