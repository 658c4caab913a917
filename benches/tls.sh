#!/bin/sh
# Compares the CPU time of `pget cat > /dev/null` over TLS with a bare loop and with curl.
#
# The bare loop uses rustls' unbuffered API. The script builds the programs. Arguments go to the
# comparison, for example --rounds 9 --concurrency 1 --chunk-kib 1024. With --concurrency 0, pget
# gets no options.
set -eu
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p pget-cli
exec cargo run -q --release --locked -p pget-bench --bin tls -- --program target/release/pget "$@"
