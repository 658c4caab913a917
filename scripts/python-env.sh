#!/bin/sh
# Makes the Python environment of the tests and prints the path of its interpreter. Quick when it is
# there already. It lives in $PGET_TOOLS/python, by default .tools/python in the repository; what is
# in it: requirements.txt beside this.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tools=${PGET_TOOLS:-$here/../.tools}
wanted=$here/requirements.txt
mkdir -p "$tools"
environment=$(cd "$tools" && pwd)/python

# One at a time: several tests may ask at once.
exec 9>"$tools/python.lock"
flock 9
if ! cmp -s "$wanted" "$environment/requirements.txt"; then
    rm -rf "$environment"
    python3 -m venv "$environment" >&2
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted" >&2
    # Last: an environment without it is incomplete.
    cp "$wanted" "$environment/requirements.txt"
fi
echo "$environment/bin/python"
