#!/bin/sh
# Tests the Python package: builds wheel and sdist, installs each into a clean virtual environment, and tests what is installed.
# PGET_FULL=1 runs the counts of issue 17 (10,000 opens, 500 interrupts, 100 exits) instead of fewer.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
mkdir -p .tools
tools=$root/.tools/python-package
if ! cmp -s python/requirements-test.txt "$tools/requirements-test.txt"; then
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install -q --disable-pip-version-check -r python/requirements-test.txt
    cp python/requirements-test.txt "$tools/requirements-test.txt"
fi
# What is built here, the other builds of the workspace have for the most part built already.
export CARGO_TARGET_DIR=$root/target
cargo build -q --locked -p pget-testkit --example serve
rm -rf target/python
"$tools/bin/maturin" build -q --release --locked -m python/Cargo.toml --out target/python/wheel
"$tools/bin/maturin" sdist -m python/Cargo.toml --out target/python/sdist
wheel=$(echo target/python/wheel/*.whl)
size=$(stat -c %s "$wheel")
[ "$size" -lt 12000000 ] || { echo "$wheel has $size bytes: too large" >&2; exit 1; }
"$tools/bin/abi3audit" "$wheel"

# The tests lie apart from the package, so that they import what is installed.
for what in wheel sdist; do
    environment=$root/target/python/of-$what
    python3 -m venv "$environment"
    "$environment/bin/pip" install -q --disable-pip-version-check maturin==1.16.0 numpy==2.4.6 pytest==9.2.0 mypy==2.4.1 uvloop==0.23.0
    # What builds the sdist looks for maturin by its name.
    PATH=$environment/bin:$PATH "$environment/bin/pip" install -q --disable-pip-version-check --no-build-isolation --no-index "$root"/target/python/$what/*
    (cd "$root/python/tests" && "$environment/bin/python" -m pytest -q -p no:cacheprovider .)
done
environment=$root/target/python/of-wheel
mypy="$environment/bin/mypy --strict --cache-dir=$root/target/python/mypy"
cd python/tests
$mypy -p pget
$mypy examples.py
"$environment/bin/stubtest" --allowlist stubtest-allow.txt --ignore-unused-allowlist pget._pget
