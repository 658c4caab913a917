#!/bin/sh
# Runs the micro-benchmarks of benches/micro.
#
# `benches/micro.sh save` saves what it measures as the baseline; `benches/micro.sh compare` prints
# the change since then, with its confidence. Further arguments go to criterion, e.g. a part of a
# name: `benches/micro.sh compare checksum`. Baselines stay in target/micro, and are of one machine.
# Needs nginx.
set -eu
cd "$(dirname "$0")/micro"
target=${CARGO_TARGET_DIR:-$(cd ../.. && pwd)/target/micro}
export CARGO_TARGET_DIR="$target"
case ${1:-} in
    save) option=--save-baseline ;;
    compare)
        option=--baseline-lenient
        if [ -z "$(find "$target/criterion" -type d -name saved 2>/dev/null)" ]; then
            echo "micro: there is no baseline; run 'make bench-baseline' before the change" >&2
            exit 1
        fi
        ;;
    *)
        echo "usage: benches/micro.sh save|compare [CRITERION'S ARGUMENTS]" >&2
        exit 2
        ;;
esac
shift
exec cargo bench --quiet --locked -- "$option" saved "$@"
