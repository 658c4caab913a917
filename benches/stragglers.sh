#!/bin/sh
# Measures the cost of one slow connection in eight for an in-order read of 1 GiB.
#
# The server limits each connection. The script builds the programs and prints a table. Arguments go
# to the comparison, for example --others (curl, reqwest), --program OLDER/pget, --least 0.85.
set -eu
cd "$(dirname "$0")/.."
exec cargo run -q --release --locked -p pget-bench --bin stragglers -- "$@"
