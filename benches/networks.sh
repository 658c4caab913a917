#!/bin/sh
# Measures pget on the networks N1 to N8 of the testkit's shaped server.
#
# pget runs without options and over a grid of fixed settings. The bare loop and the installed peers
# run for comparison. All of them run in turn, round after round.
#
# The script prints a table and writes target/figures/networks.json: medians of seconds, of CPU
# seconds per GiB and of peak MiB, and the server's counters. Variables choose the measurements:
#
# - ROUNDS (default 5).
# - NETWORKS (default "N1 ... N8"). Settings such as "rate=50MB,latency=10ms" are allowed too.
# - GRID, pairs such as "16x1MiB 128x2MiB".
# - PEERS_PYTHON (default python3), an interpreter for the peers boto3 (with and without awscrt) and
#   obstore. The other peers are curl, aria2c and s5cmd on the PATH.
set -eu
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p pget-testkit --example shaped
cargo build -q --release --locked -p pget-cli
cargo build -q --release --locked -p pget-bench --bin bare
exec python3 benches/networks.py "$@"
