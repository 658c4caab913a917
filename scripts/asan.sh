#!/bin/sh
# Runs the C test programs with a libpget.so that AddressSanitizer watches: all of its Rust code but
# the standard library. Takes minutes to build, in target/asan.
set -eu
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
runtime=$(rustc --print target-libdir)/librustc-stable_rt.asan.a
# The pinned compiler has the sanitizer, but only lets the nightly one ask for it; this says that we
# know.
RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address -Cdebuginfo=line-tables-only' \
    cargo build --locked -p pget-ffi --target "$host" --target-dir target/asan
PGET_TEST_LIBS=$PWD/target/asan/$host/debug
nm -D "$PGET_TEST_LIBS/libpget.so" | grep -q __asan_report || { echo "asan: the sanitizer is not in the library" >&2; exit 1; }
# The runtime belongs into the program, whole, and seen by the library.
PGET_TEST_LINK="-Wl,--export-dynamic -Wl,--whole-archive $runtime -Wl,--no-whole-archive -lrt -lm -lresolv"
export PGET_TEST_LIBS PGET_TEST_LINK
cargo test --locked -p pget-ffi --test c_programs -- --test-threads=1 every_function cancel_and_close aistore
# That one looks at signal handlers, so the sanitizer must leave them alone; and a forked child
# cannot look for leaks.
ASAN_OPTIONS=handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0:detect_leaks=0 \
    cargo test --locked -p pget-ffi --test c_programs -- --test-threads=1 fork_signals
