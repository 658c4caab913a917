#!/bin/sh
# Passes all tests: installs what they need (servers built by Go and Python packages into .tools;
# nginx, compilers and their tools by apt), builds, runs. From a fresh machine with Rust, Go, Python
# 3 and a C compiler.
set -eu
cd "$(dirname "$0")/.."
scripts/test-tools.sh
scripts/python-env.sh
# Without the optional transports the library must still build, and pull in no TLS.
cargo check -q --locked -p libpget --no-default-features
for transport in aistore file http s3; do
    cargo check -q --locked -p libpget --no-default-features --features "$transport"
done
if cargo tree -q --locked -p libpget --no-default-features -e normal | grep -E 'rustls|reqwest|object_store'; then
    echo "the base feature set pulls in what it should not" >&2
    exit 1
fi
# The library for other systems than Linux.
scripts/portable.sh
cargo test --workspace --locked
# Ring, fence, budget and wake-ups through many interleavings.
cargo test -q --locked -p pget-core --features model --lib model
scripts/go-test.sh
# Wheel and sdist, each in a clean environment.
scripts/python-test.sh
# Whole programs at real sizes: gigabytes through a debug build would only test patience. Of the two
# servers that are slow with 64 GiB (two minutes), the windows at its end are read here; all of it
# is read without the skips, and every place is filled over every transport with PGET_BIG=all.
cargo test --release --locked -p pget-cli --test big -- --ignored --test-threads=1 --skip sixty_four_gibibytes_from_nginx --skip sixty_four_gibibytes_from_s3
# The driver over a simulated network, in a release build: 200,000 downloads, and a thousand, in
# every way of reading, that are left at each poll. A million (`a_million -- --ignored`) takes 100 s
# of processor time: it is run after changes to the schedule or the driver.
PGET_SEEDS=200000 cargo test --release --locked -p pget-core --test simulation random -- --nocapture
cargo test --release --locked -p pget-core --test simulation in_every_way -- --ignored
