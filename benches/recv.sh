#!/bin/sh
# What `pget cat > /dev/null` costs beside a bare loop of recv and beside reqwest: builds, and compares their CPU time. Arguments go to the comparison,
# e.g. --rounds 9 --workers 2 --most-of-bare 1.0 --most-of-reqwest 0.7.
set -eu
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p pget-cli
exec cargo run -q --release --locked -p pget-bench --bin recv -- --program target/release/pget "$@"
