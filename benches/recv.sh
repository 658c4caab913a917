#!/bin/sh
# Compares the CPU time of `pget cat > /dev/null` with a bare loop of recv and with reqwest.
#
# The script builds the programs. Arguments go to the comparison, for example --rounds 9 --workers 2
# --most-of-bare 1.0 --most-of-reqwest 0.7.
set -eu
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p pget-cli
exec cargo run -q --release --locked -p pget-bench --bin recv -- --program target/release/pget "$@"
