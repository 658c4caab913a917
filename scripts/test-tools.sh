#!/bin/sh
# Installs what pget's tests need beside Rust and Python: nginx from the system's packages, and two S3 servers built by Go
# into .tools/bin (or $PGET_TOOLS/bin). Run it as often as you like: what is there stays.
set -eu

versitygw=github.com/versity/versitygw/cmd/versitygw@v1.8.0
gofakes3=github.com/johannesboyne/gofakes3/cmd/gofakes3@v1.2.0

tools=${PGET_TOOLS:-$(cd "$(dirname "$0")/.." && pwd)/.tools}
PATH=$PATH:/usr/sbin:/usr/local/sbin

need() {
    command -v "$1" >/dev/null 2>&1 || { echo "test-tools: $1 is needed: $2" >&2; exit 1; }
}

if ! command -v nginx >/dev/null 2>&1; then
    need apt-get "install nginx with this system's package manager and run this again"
    root=
    [ "$(id -u)" = 0 ] || { need sudo "or run this as root"; root=sudo; }
    # nginx-light starts a service on port 80 where a service manager runs; the tests start their own instead.
    $root apt-get update -q
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends nginx-light
fi
need python3 "install Python 3"

# The version that a Go program in $tools/bin was built from must be the one named above.
install_go() {
    name=$1 package=${2%@*} version=${2#*@}
    need go "install Go 1.26 or newer"
    if [ -x "$tools/bin/$name" ]; then
        go version -m "$tools/bin/$name" | awk -v v="$version" '$1 == "mod" && $3 == v { f = 1 } END { exit !f }' && return
    fi
    mkdir -p "$tools/bin"
    GOBIN=$tools/bin go install "$package@$version"
}
install_go versitygw "$versitygw"
install_go gofakes3 "$gofakes3"
echo "test-tools: ready in $tools/bin"
