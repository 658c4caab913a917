#!/bin/sh
# Compares the CPU time of the C ABI with that of the Rust program. Builds both.
#
# Arguments go to the comparison, for example --most 1.05.
set -eu
cd "$(dirname "$0")/.."
make -s lib
cargo build -q --release --locked -p pget-cli
cc -O2 -Wall -Wextra -Iinclude benches/c/discard.c -o target/release/discard -Ltarget/release -lpget -Wl,-rpath,"$PWD/target/release"
exec cargo run -q --release --locked -p pget-bench --bin c_abi -- --pget target/release/pget --discard target/release/discard "$@"
