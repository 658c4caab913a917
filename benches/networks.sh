#!/bin/sh
# Measures pget on the networks N1 to N8 of the testkit's shaped server, without options and over a grid of fixed
# settings, beside the bare loop and the peers that are installed.
#
# Prints a table, and writes target/figures/networks.json: medians of seconds, CPU seconds per GiB, peak MiB, and the
# server's counters. ROUNDS (5), NETWORKS ("N1 ... N8"; also settings such as "rate=50MB,latency=10ms") and GRID (pairs
# such as "16x1MiB 128x2MiB") choose what runs. The ways run in turn, round after round.
set -eu
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p pget-testkit --example shaped
cargo build -q --release --locked -p pget-cli
cargo build -q --release --locked -p pget-bench --bin bare
exec python3 benches/networks.py "$@"
