#!/bin/sh
# Tests the Go package and its example: formatted, vetted, with the race detector, with every check of what is handed to C, and linked in each way that README names.
set -eu
cd "$(dirname "$0")/.."
make -s lib
# The servers of its tests, which each test program starts.
cargo build -q --locked -p pget-testkit --example serve
cd go
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "gofmt: $unformatted" >&2; exit 1; }
for module in . examples/untar; do
    (cd "$module" && go vet -tags pget_workspace ./... && go test -race -tags pget_workspace ./...)
done
GOEXPERIMENT=cgocheck2 go test -short -tags pget_workspace .

prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
make -s -C .. install PREFIX="$prefix" LIBS=target/release
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
(cd examples/untar && go build -o "$prefix/shared" . && go build -tags pget_static -o "$prefix/static" . && go build -tags pget_workspace,pget_static -o "$prefix/workspace" .)
tar -czf "$prefix/archive.tar.gz" -C .. include
for way in shared static workspace; do
    LD_LIBRARY_PATH=$prefix/lib "$prefix/$way" "$prefix/archive.tar.gz" "$prefix/of-$way"
    cmp "$prefix/of-$way/include/pget.h" ../include/pget.h
done
if ldd "$prefix/static" "$prefix/workspace" | grep libpget; then
    echo "a static program needs libpget.so" >&2
    exit 1
fi
ldd "$prefix/shared" | grep -q libpget.so.0
