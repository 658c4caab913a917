#!/bin/sh
# What the C ABI costs beside the Rust program: builds both, and compares their CPU time. Arguments go to the comparison, e.g. --most 1.05.
set -eu
cd "$(dirname "$0")/.."
make -s lib
cargo build -q --release --locked -p pget-cli
cc -O2 -Wall -Wextra -Iinclude benches/c/discard.c -o target/release/discard -Ltarget/release -lpget -Wl,-rpath,"$PWD/target/release"
exec cargo run -q --release --locked -p pget-bench --bin c_abi -- --pget target/release/pget --discard target/release/discard "$@"
