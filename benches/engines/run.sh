#!/bin/sh
# Compares DataFusion's queries through a bare HttpStore, through PgetStore and from AIStore.
#
# usage: benches/engines/run.sh [ROWS]
#
# ROWS of the largest table: 6,000,000 by default, which are 1.0 GB of CSV. The script prints tables
# and fails if two results differ, or if streams hold more than their budget. The first build takes
# 20 to 40 minutes of two cores. Variables:
#
# - ROUNDS (3), and FORMATS ("parquet csv").
# - NETWORK, settings of the shaped server ("latency=20ms,rate=50MB"). An empty one has no limits.
# - RUNTIME=own, which sends the requests of PgetStore on a thread of their own.
# - PGET_ENGINES_QUERIES, names of queries such as "Q1 Q6".
# - ENGINES_DATA, a folder for the data; the default is the temporary folder.
# - AIS_ENDPOINT, a real AIStore with a bucket `engines`, instead of the stand-in.
# On a machine with other work, the processors decide, and `nice` may not help. docs/benchmarks.md
# has a command that does.
set -eu
cd "$(dirname "$0")"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-../../target/engines}" CARGO_INCREMENTAL=0
cargo build --quiet --release --locked
exec "$CARGO_TARGET_DIR/release/pget-engines" "$@"
