#!/bin/sh
# Fuzzes: scripts/fuzz.sh [-s SECONDS] [-r SEED] [TARGET...]; by default every target for 60 s, as
# many at a time as there are processors. What is found is in fuzz/artifacts/TARGET; give it to
# target/fuzz/HOST/fuzz/TARGET to see it again. New inputs that reach something new gather in
# target/fuzz/corpus/TARGET. With a SEED, the inputs of a fresh clone come in the same order again,
# so a run that failed elsewhere can be had here. Longer: `scripts/fuzz.sh -s 36000 head`. After a
# long run, the smallest set of inputs that reaches as much: `scripts/fuzz.sh -m head`, to be
# committed.
set -eu
cd "$(dirname "$0")/.."
seconds=60 seed=0 minimise=
while getopts s:r:m option; do
    case $option in
        s) seconds=$OPTARG ;;
        r) seed=$OPTARG ;;
        m) minimise=1 ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
all=$(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"|\1|p' fuzz/Cargo.toml)
[ $# -gt 0 ] || set -- $all

# libFuzzer's view of the code, by options of the stable compiler. `--cfg fuzzing` lets the crates
# show their parsers.
flags='--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters'
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
host=$(rustc -vV | sed -n 's/^host: //p')
bins=
for target in "$@"; do bins="$bins --bin $target"; done
# With --target, build scripts and macros are built without the flags.
RUSTFLAGS=$flags cargo build --locked --profile fuzz -p pget-fuzz --target "$host" --target-dir target/fuzz $bins
programs=target/fuzz/$host/fuzz

# One target: its name, for `seconds`. The committed corpus is read, what is new goes beside.
fuzz() {
    mkdir -p "target/fuzz/corpus/$1" "fuzz/artifacts/$1"
    dictionary=fuzz/dictionaries/$1
    [ -f "$dictionary" ] && dictionary=-dict=$dictionary || dictionary=
    # A limit on time (of the clock, and others may have the processors) and memory for each input,
    # and one for the whole in case libFuzzer itself hangs.
    timeout $((seconds + 120)) "$programs/$1" -seed="$seed" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=1024 -max_len=70000 $dictionary \
        -artifact_prefix="fuzz/artifacts/$1/" "target/fuzz/corpus/$1" "fuzz/corpus/$1" >"target/fuzz/$1.log" 2>&1 || {
        tail -n 60 "target/fuzz/$1.log" >&2
        echo "fuzz: $1 failed; its input is in fuzz/artifacts/$1" >&2
        return 1
    }
    echo "fuzz: $1: $(sed -n 's/^Done //p' "target/fuzz/$1.log"), $(grep -o 'cov: [0-9]* ft: [0-9]*' "target/fuzz/$1.log" | tail -n 1)"
}

if [ -n "$minimise" ]; then
    for target in "$@"; do
        rm -rf "target/fuzz/minimal/$target"
        mkdir -p "target/fuzz/minimal/$target" "target/fuzz/corpus/$target"
        "$programs/$target" -merge=1 -max_len=2000 "target/fuzz/minimal/$target" "fuzz/corpus/$target" "target/fuzz/corpus/$target" 2>/dev/null
        echo "fuzz: $target: $(ls "target/fuzz/minimal/$target" | wc -l) inputs in target/fuzz/minimal/$target"
    done
    exit
fi
# As many at a time as there are processors, each lane taking every so-manieth target.
lanes=$(nproc)
lane=0 running=
while [ "$lane" -lt "$lanes" ]; do
    (
        failed=0 index=0
        for target in "$@"; do
            if [ $((index % lanes)) = "$lane" ]; then fuzz "$target" || failed=1; fi
            index=$((index + 1))
        done
        exit "$failed"
    ) &
    running="$running $!"
    lane=$((lane + 1))
done
failed=0
for lane in $running; do wait "$lane" || failed=1; done
exit "$failed"
