#!/bin/sh
# Installs what pget's tests need beside Rust and Python: nginx, C compilers and their tools from
# the system's packages, and two S3 servers and toxiproxy built by Go into .tools/bin (or
# $PGET_TOOLS/bin). Run it as often as you like: what is there stays.
set -eu

versitygw=github.com/versity/versitygw/cmd/versitygw@v1.8.0
gofakes3=github.com/johannesboyne/gofakes3/cmd/gofakes3@v1.2.0
toxiproxy=github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0

tools=${PGET_TOOLS:-$(cd "$(dirname "$0")/.." && pwd)/.tools}
PATH=$PATH:/usr/sbin:/usr/local/sbin

need() {
    command -v "$1" >/dev/null 2>&1 || { echo "test-tools: $1 is needed: $2" >&2; exit 1; }
}

# Packages of Debian that are missing: nginx-light; for the tests of C and Go compilers, valgrind,
# CMake and pkg-config; zstd for archives; openssl for a key.
packages=
for pair in nginx=nginx-light gcc=gcc g++=g++ clang=clang valgrind=valgrind cmake=cmake make=make pkg-config=pkgconf zstd=zstd openssl=openssl; do
    command -v "${pair%%=*}" >/dev/null 2>&1 || packages="$packages ${pair#*=}"
done
# Without the symbols of the C library, valgrind refuses to start.
case $packages in *valgrind*) packages="$packages libc6-dbg" ;; esac
if [ -n "$packages" ]; then
    need apt-get "install$packages with this system's package manager and run this again"
    root=
    [ "$(id -u)" = 0 ] || { need sudo "or run this as root"; root=sudo; }
    # nginx-light starts a service on port 80 where a service manager runs; the tests start their
    # own instead.
    $root apt-get update -q
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
fi
need python3 "install Python 3"

# The version that a Go program in $tools/bin was built from must be the one named above.
install_go() {
    name=$1 package=${2%@*} version=${2#*@}
    need go "install Go 1.26 or newer"
    if [ -x "$tools/bin/$name" ]; then
        go version -m "$tools/bin/$name" | awk -v v="$version" '$1 == "mod" && $3 == v { f = 1 } END { exit !f }' && return
    fi
    mkdir -p "$tools/bin" "$tools/build"
    GOBIN=$tools/build go install "$package@$version"
    # Go names a program after its folder.
    mv "$tools/build/${package##*/}" "$tools/bin/$name"
}
install_go versitygw "$versitygw"
install_go gofakes3 "$gofakes3"
install_go toxiproxy-server "$toxiproxy"
echo "test-tools: ready in $tools/bin"
