#!/bin/sh
# Rehearses a release without a registry: packages all crates, the .deb, the wheel and the Go
# module, and builds a program in each language against nothing but what was packaged.
# docs/releasing.md describes the steps. Leaves everything in dist/.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
version=$(make -s version)
rm -rf dist
mkdir -p dist/crates dist/try
step() { printf '\n== %s\n' "$1"; }

step 'crates: packaged in the order of their dependencies, each built from its package'
private=$(grep -l '^publish.workspace' */Cargo.toml crates/*/Cargo.toml | xargs sed -n 's/^name = "\(pget-[a-z-]*\)"$/--exclude \1/p' | sort -u)
# shellcheck disable=SC2086
cargo package -q --workspace --locked $private
cp target/package/*-"$version".crate dist/crates/
for crate in dist/crates/*.crate; do tar -xzf "$crate" -C dist/crates; done

step 'a Rust program, from the packages'
mkdir -p dist/try/rust/src
cat >dist/try/rust/Cargo.toml <<TOML
[package]
name = "try-pget"
edition = "2024"
[workspace]
[dependencies]
libpget = { version = "$version", default-features = false, features = ["file"] }
[patch.crates-io]
TOML
for folder in dist/crates/*-"$version"; do
    name=$(basename "$folder" "-$version")
    echo "$name = { path = \"$root/$folder\" }" >>dist/try/rust/Cargo.toml
done
cat >dist/try/rust/src/main.rs <<'RUST'
fn main() -> Result<(), pget::Error> {
    let path = std::env::args().nth(1).expect("a path");
    let mut reader = pget::builder(&path).open_blocking()?;
    let mut bytes = 0;
    while let Some(lease) = reader.next_lease()? {
        bytes += lease.len();
    }
    println!("{bytes}");
    Ok(())
}
RUST
size=$(wc -c <include/pget.h)
test "$(cargo run -q --manifest-path dist/try/rust/Cargo.toml --target-dir target/try -- include/pget.h)" = "$size"

step 'the Debian package, and a C program against what it holds'
package=$(scripts/deb.sh)
deb=$root/dist/try/deb
dpkg-deb -x "$package" "$deb"
pkgconfig=$(dirname "$(find "$deb" -name pget.pc)")
lib=$(dirname "$pkgconfig")
export PKG_CONFIG_SYSROOT_DIR="$deb" PKG_CONFIG_PATH="$pkgconfig"
# shellcheck disable=SC2046
cc -o dist/try/cat examples/c/cat.c $(pkg-config --cflags --libs pget)
LD_LIBRARY_PATH=$lib dist/try/cat "$root/include/pget.h" | cmp - include/pget.h
"$deb/usr/bin/pget" cat include/pget.h | cmp - include/pget.h
"$deb/usr/bin/pget" --version
find "$deb/usr/share" -type f | sed "s|$deb||"

step 'a Go program, from the module as its tag would have it'
mkdir -p dist/try/go
git archive HEAD go | tar -x -C dist/try/go
(cd dist/try/go/go/examples/untar && go build -o "$root/dist/try/untar" .)
tar -czf dist/try/archive.tar.gz include
LD_LIBRARY_PATH=$lib dist/try/untar dist/try/archive.tar.gz dist/try/untarred
cmp dist/try/untarred/include/pget.h include/pget.h
unset PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_PATH

step 'the wheel, in an environment of its own'
python3 -m venv dist/try/venv
build=.tools/python-build
if [ ! -x "$build/bin/maturin" ]; then
    python3 -m venv "$build"
    "$build/bin/pip" install -q --disable-pip-version-check -r python/requirements-build.txt
fi
"$build/bin/maturin" build -q --release --locked -m python/Cargo.toml --out dist
dist/try/venv/bin/pip install -q --no-index dist/libpget-*.whl
dist/try/venv/bin/python - <<PY
import pget
data = pget.read("$root/include/pget.h")
assert bytes(data) == open("$root/include/pget.h", "rb").read()
PY

step 'sizes'
du -h dist/*.deb dist/*.whl dist/crates/*.crate "$lib"/libpget.so.*.* "$deb/usr/bin/pget" dist/debug/* target/release/libpget.so target/release/pget
