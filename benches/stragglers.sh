#!/bin/sh
# What one slow connection in eight costs a read of 1 GiB in order, at a server that limits each connection: builds, and prints the table. Arguments go to the comparison,
# e.g. --others (curl, reqwest), --program OLDER/pget, --least 0.85.
set -eu
cd "$(dirname "$0")/.."
exec cargo run -q --release --locked -p pget-bench --bin stragglers -- "$@"
