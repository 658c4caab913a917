#!/bin/sh
# Tests the Python package: builds wheel and sdist, installs each into a clean virtual environment,
# and tests the installed package.
# PGET_FULL=1 runs the counts of issues 17 and 18 (10,000 opens, 500 interrupts, 1,000 replaced
# objects) instead of fewer.
set -eu
cd "$(dirname "$0")/.."
root=$PWD

# An environment with the packages of a requirements file, made again when the file changes.
environment() {
    if ! cmp -s "$2" "$1/requirements.txt"; then
        rm -rf "$1"
        python3 -m venv "$1"
        "$1/bin/python" -m pip install -q --disable-pip-version-check -r "$2"
        cp "$2" "$1/requirements.txt"
    fi
}
mkdir -p .tools
tools=$root/.tools/python-build
packages=$root/.tools/python-test
environment "$tools" python/requirements-build.txt
environment "$packages" python/requirements-test.txt

"$tools/bin/ruff" check -q python
"$tools/bin/ruff" format -q --check python/pget python/tests

# Most of the build here is shared with the other builds of the workspace.
export CARGO_TARGET_DIR=$root/target
cargo build -q --locked -p pget-testkit --example serve
rm -rf target/python
mkdir -p target/python
# What the wheel and the sdist hold as `licenses/`; maturin writes the bill of materials itself.
scripts/third-party.py python/THIRD-PARTY-NOTICES target/python/sbom.json pget-python
"$tools/bin/maturin" build -q --release --locked -m python/Cargo.toml --out target/python/wheel
"$tools/bin/maturin" sdist -m python/Cargo.toml --out target/python/sdist
wheel=$(echo target/python/wheel/*.whl)
size=$(stat -c %s "$wheel")
[ "$size" -lt 12000000 ] || { echo "$wheel has $size bytes: too large" >&2; exit 1; }
"$tools/bin/python" -m abi3audit "$wheel"

for what in wheel sdist; do
    made=$root/target/python/of-$what
    python3 -m venv "$made"
    # The packages that the tests need, without another download; pget is not among them.
    (cd "$packages"/lib/python3*/site-packages && pwd) > "$(echo "$made"/lib/python3*/site-packages)/tests.pth"
    # The build of the sdist looks for maturin by its name.
    PATH=$tools/bin:$PATH PYTHONPATH=$(echo "$tools"/lib/python3*/site-packages) "$made/bin/pip" install \
        -q --disable-pip-version-check --no-build-isolation --no-deps --no-index "$root"/target/python/$what/*
    # The tests are in a folder apart from the package, so that they import the installed one.
    tests=.
    [ $what = wheel ] || tests="test_reads.py test_examples.py"
    (cd "$root/python/tests" && "$made/bin/python" -m pytest -q -p no:cacheprovider $tests)
done

python=$root/target/python/of-wheel/bin/python
mypy="$python -m mypy --strict --config-file $root/python/pyproject.toml --cache-dir=$root/target/python/mypy"
cd python/tests
$mypy -p pget
$mypy examples.py examples_with.py
MYPYPATH='' "$python" -m mypy.stubtest --allowlist stubtest-allow.txt --ignore-unused-allowlist pget._pget
