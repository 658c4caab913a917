#!/bin/sh
# Tests the Go package and its example: formatted, vetted, with the race detector, with every check
# of what is handed to C, and linked in each way that go/README.md names.
set -eu
cd "$(dirname "$0")/.."
make -s lib
# The servers of its tests, which each test program starts.
cargo build -q --locked -p pget-testkit --example serve
# What Go has built or tested before it takes from its cache, and what is not Go's own it does not
# look at: the library, the header, where pkg-config says that they are. So tests run again
# (-count=1), and what counts is named where Go does look.
CGO_CPPFLAGS=-DPGET_HEADER=$(cksum <include/pget.h | cut -d ' ' -f 1)
export CGO_CPPFLAGS
cd go
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "gofmt: $unformatted" >&2; exit 1; }
for module in . examples/untar; do
    (cd "$module" && go vet -tags pget_workspace ./... && go test -count=1 -race -tags pget_workspace ./...)
done
GOEXPERIMENT=cgocheck2 go test -count=1 -short -tags pget_workspace .

prefix=$PWD/../target/go-install
rm -rf "$prefix"
make -s -C .. install PREFIX="$prefix" LIBS=target/release
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig" CGO_CPPFLAGS="$CGO_CPPFLAGS -DPGET_PREFIX=$prefix"
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
