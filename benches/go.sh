#!/bin/sh
# Compares the CPU time of an in-order copy through the Go package with the Rust program and
# net/http.
#
# Builds all of them. Arguments go to the comparison, for example -rounds 9 -most-of-rust 1.1
# -most-of-http 0.5.
set -eu
cd "$(dirname "$0")/.."
make -s lib
cargo build -q --release --locked -p pget-cli
go -C go build -tags pget_workspace -o ../target/release/go-bench ./bench
exec target/release/go-bench "$@"
