#!/bin/sh
# Measures every figure that has a goal, one after the other, and then prints a table.
#
# A row of the table contains the goal, the measured figure, and whether the figure reaches the
# goal. The script exits with 1 if a goal was missed. It writes target/figures/figures.json and the
# chart docs/benchmarks.svg. ROUNDS (default 5) applies to all parts. The output of each part is in
# target/figures/. lies/run.sh installs the other readers that some parts compare pget with.
set -eu
cd "$(dirname "$0")"
rounds=${ROUNDS:-5}
out=${FIGURES:-$(cd .. && pwd)/target/figures}
tools=${PGET_TOOLS:-$(cd .. && pwd)/.tools}
lies=${CARGO_TARGET_DIR:-$(cd .. && pwd)/target}/lies
mkdir -p "$out"
rm -f "$out"/*

# run NAME COMMAND... shows and keeps the command's output. If the command fails, its figures are
# missing in the table, and the next part runs.
run() {
    name=$1
    shift
    echo "== $name: $*"
    "$@" >"$out/$name" 2>"$out/$name.errors" || echo "$name failed: $(tail -n 3 "$out/$name.errors")"
    cat "$out/$name"
}

run load uptime
run lies env CARGO_TARGET_DIR="$lies" ./lies/run.sh
run recv ./recv.sh --rounds "$rounds"
run tls_1 ./tls.sh --rounds "$rounds" --concurrency 1
run tls_4 ./tls.sh --rounds "$rounds" --concurrency 4
run tls ./tls.sh --rounds "$rounds" --concurrency 0
run place ./place.sh --rounds "$rounds" --mib 512
run c_abi ./c_abi.sh --rounds "$rounds"
run go ./go.sh -rounds "$rounds"
run stragglers ./stragglers.sh --rounds "$rounds" --others \
    --other "object_store=exec $lies/debug/pget-lies object_store" \
    --other "AIStore client=exec $tools/lies/bin/python $PWD/lies/readers.py aistore \"\$ENDPOINT\" /dev/null"
run verify ./verify.sh --rounds "$rounds"
uptime >>"$out/load"

# Each goal: the name of the figure, at most or at least, the bound.
cat >"$out/.goals" <<'END'
recv: pget / bare|<=|1.0
recv: pget / reqwest|<=|0.7
tls, 1 connections: pget / bare|<=|1.1
tls, 4 connections: pget / bare|<=|1.1
tls, no options: pget / bare|<=|1.1
tls, 1 connections: pget / curl|<=|1.0
tls, 4 connections: pget / curl|<=|1.0
tls, no options: pget / curl|<=|1.0
place, tmpfs: pget / bare|<=|1.15
place, disk: pget / bare|<=|1.15
place, memory: pget / bare|<=|1.15
place, memory-reused: pget / bare|<=|1.15
place, shared: pget / bare|<=|1.15
place, shared-reused: pget / bare|<=|1.15
c_abi: parallel_get / pget cat|<=|1.05
go: Go / pget cat|<=|1.1
go: Go / net/http|<=|0.5
stragglers, slow: share of the throughput without|>=|0.85
stragglers, stalls: share of the throughput without|>=|0.85
stragglers, never answers: share of the throughput without|>=|0.85
lies: wrong bytes from pget|<=|0
lies: hangs and panics of pget|<=|0
END
cat "$out"/* | awk -F '|' -v goals="$out/.goals" '
    # The columns of pget come first. Their names begin with "pget".
    /^\| case \| lie / { for (i = 4; i <= NF; i++) if ($i ~ /^ pget/) columns = i }
    function count(row,  i, sum) { for (i = 4; i <= columns; i++) { gsub(/[* ]/, "", $i); sum += $i } return sum }
    /^\| \| wrong bytes / { measured["lies: wrong bytes from pget"] = count() }
    /^\| \| hangs and / { measured["lies: hangs and panics of pget"] = count() }
    /^figure / { split($0, words, " "); name = $0; sub(/^figure [^ ]* /, "", name); measured[name] = words[2] }
    END {
        print "| figure | goal | measured | reached |\n|---|---|---|---|"
        while ((getline line < goals) > 0) {
            split(line, goal, "|")
            value = goal[1] in measured ? measured[goal[1]] : "not measured"
            good = value != "not measured" && (goal[2] == "<=" ? value + 0 <= goal[3] + 0 : value + 0 >= goal[3] + 0)
            missed += !good
            printf "| %s | %s %s | %s | %s |\n", goal[1], goal[2] == "<=" ? "≤" : "≥", goal[3], value, good ? "yes" : "**no**"
        }
        exit missed > 0
    }' && status=0 || status=$?
sed 's/^/load: /' "$out/load"
./chart.py "$out" "$out/figures.json" ../docs/benchmarks.svg
echo "figures: $out/figures.json; chart: docs/benchmarks.svg"
exit $status
