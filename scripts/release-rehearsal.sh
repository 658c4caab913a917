#!/bin/sh
# Rehearses a release without a registry: packages all crates, the .deb, the wheel and the Go
# module, and builds a program in each language against nothing but what was packaged.
# docs/releasing.md describes the steps. Leaves everything in dist/. The last lines are one for each
# step, with its seconds, and the sizes before and after stripping.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
version=$(make -s version)
rm -rf dist target/package
mkdir -p dist/crates dist/try
passed=
step=
# Notes the seconds of the step that has ended.
ended() {
    [ -z "$step" ] || passed="$passed$(printf 'passed %5d s  %s' $(($(date +%s) - began)) "$step")
"
    step=
}
step() {
    ended
    step=$1 began=$(date +%s)
    printf '\n== %s\n' "$step"
}
trap '[ -z "$step" ] || printf "\n%sfailed          %s\n" "$passed" "$step"' EXIT

step 'crates: packaged in the order of their dependencies, each built from its package'
# Packages, builds, and stops before the upload. With one target folder and the profile of the
# workspace, each crate finds what it depends on built already.
CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=line-tables-only \
    cargo publish -q --workspace --locked --dry-run --target-dir target
# A dry run leaves the packages where the version of Cargo likes.
find target/package -name "*-$version.crate" -exec cp {} dist/crates/ \;

step 'a Rust program, from a registry folder that has the packages'
registry=$root/dist/registry
# The crates of others come with their checksums; ours are unpacked beside them.
cargo vendor -q --locked --versioned-dirs "$registry" >/dev/null
for crate in dist/crates/*.crate; do
    tar -xzf "$crate" -C "$registry"
    checksum=$(sha256sum "$crate" | cut -d ' ' -f 1)
    echo "{\"files\":{},\"package\":\"$checksum\"}" \
        >"$registry/$(basename "$crate" .crate)/.cargo-checksum.json"
done
mkdir -p dist/try/rust/src dist/try/rust/.cargo
cat >dist/try/rust/.cargo/config.toml <<TOML
[source.crates-io]
replace-with = "rehearsal"
[source.rehearsal]
directory = "$registry"
TOML
cat >dist/try/rust/Cargo.toml <<TOML
[package]
name = "try-pget"
edition = "2024"
[workspace]
[dependencies]
libpget = { version = "=$version", default-features = false, features = ["file"] }
TOML
cat >dist/try/rust/src/main.rs <<'RUST'
fn main() -> Result<(), pget::Error> {
    let path = std::env::args().nth(1).expect("a path");
    let mut reader = pget::builder(&path).blocking()?.reader()?;
    let mut bytes = 0;
    while let Some(lease) = reader.next_lease()? {
        bytes += lease.len();
    }
    println!("{bytes}");
    Ok(())
}
RUST
size=$(wc -c <include/pget.h)
# Cargo reads its configuration from the folder that it is started in.
read=$(cd dist/try/rust && CARGO_PROFILE_DEV_DEBUG=0 cargo run -q --offline --target-dir "$root/target/try" -- "$root/include/pget.h")
test "$read" = "$size"
# `cargo install` reads no configuration of a folder.
CARGO_PROFILE_DEV_DEBUG=0 cargo install -q --offline --debug --target-dir target/try --root dist/try/cargo \
    --config 'source.crates-io.replace-with="rehearsal"' \
    --config "source.rehearsal.directory='$registry'" --version "$version" pget-cli
dist/try/cargo/bin/pget cat include/pget.h | cmp - include/pget.h

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
scripts/third-party.py python/THIRD-PARTY-NOTICES dist/pget-python.cdx.json pget-python
"$build/bin/maturin" build -q --release --locked -m python/Cargo.toml --out dist
"$build/bin/maturin" sdist -m python/Cargo.toml --out dist
dist/try/venv/bin/pip install -q --no-index dist/libpget-*.whl
dist/try/venv/bin/python - <<PY
import pget
data = pget.read("$root/include/pget.h")
assert bytes(data) == open("$root/include/pget.h", "rb").read()
PY

for kind in licenses/LICENSE licenses/THIRD-PARTY-NOTICES sboms; do
    python3 -m zipfile --list dist/libpget-*.whl | grep -F ".dist-info/$kind"
done

step 'sizes'
du -h dist/*.deb dist/*.whl dist/*.tar.gz dist/crates/*.crate dist/debug/*
# row FILE BUILT INSTALLED prints their sizes in MB.
row() { awk -v b="$(stat -c %s "$2")" -v a="$(stat -c %s "$3")" -v f="$1" \
    'BEGIN { printf "%-24s %6.1f MB as built  %6.1f MB stripped\n", f, b / 1e6, a / 1e6 }'; }
row libpget.so target/release/libpget.so "$lib/libpget.so.$version"
row pget target/release/pget "$deb/usr/bin/pget"
ended
printf '\n%s' "$passed"
