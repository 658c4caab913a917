#!/bin/sh
# What an in-order copy through the Go package costs beside the Rust program and beside net/http: builds all, and compares their CPU time. Arguments go to
# the comparison, e.g. -rounds 9 -most-of-rust 1.1 -most-of-http 0.5.
set -eu
cd "$(dirname "$0")/.."
make -s lib
cargo build -q --release --locked -p pget-cli
go -C go build -tags pget_workspace -o ../target/release/go-bench ./bench
exec target/release/go-bench "$@"
