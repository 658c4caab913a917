#!/bin/sh
# Serves 29 lies to pget and to other readers, and prints the result of each reader as a table.
#
# Needs curl, aria2c and Python 3. Installs the Python readers into an environment of its own.
set -eu
cd "$(dirname "$0")"
tools=${PGET_TOOLS:-$(cd ../.. && pwd)/.tools}
for program in curl aria2c python3; do
    command -v "$program" >/dev/null 2>&1 || { echo "lies: $program is needed" >&2; exit 1; }
done
environment=$tools/lies
if ! cmp -s requirements.txt "$environment/requirements.txt"; then
    python3 -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
    cp requirements.txt "$environment/requirements.txt"
fi
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-../../target/lies}"
exec cargo run --quiet --locked -- "$environment/bin/python" readers.py
