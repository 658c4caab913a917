#!/bin/sh
# What `pget cat > /dev/null` costs over TLS beside a bare loop on rustls' unbuffered API and beside curl: builds, and compares their
# CPU time. Arguments go to the comparison, e.g. --rounds 9 --concurrency 1 --chunk-kib 1024; --concurrency 0 sets no option of pget.
set -eu
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p pget-cli
exec cargo run -q --release --locked -p pget-bench --bin tls -- --program target/release/pget "$@"
