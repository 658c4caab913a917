#!/bin/sh
# Writes the public items of each published crate to docs/api/CRATE.txt.
# usage: api.sh [--check]
# --check fails if the files are not up to date, or if items that the last release had were removed
# or changed and the minor version (before 1.0; then the major one) is still the same.
set -eu
cd "$(dirname "$0")/.."
# The packages that are published and have a library for others, as PACKAGE=LIBRARY.
crates=
for manifest in crates/*/Cargo.toml; do
    grep -q '^publish = true' "$manifest" || continue
    grep -q '^doc = false' "$manifest" && continue
    package=$(sed -n 's/^name = "\(.*\)"/\1/p' "$manifest" | head -1)
    library=$(sed -n '/^\[lib\]/,/^\[/s/^name = "\(.*\)"/\1/p' "$manifest")
    crates="$crates $package=$(echo "${library:-$package}" | tr - _)"
done
export RUSTDOC="$PWD/scripts/api/rustdoc" RUSTDOCFLAGS='-Z unstable-options --output-format json'
for crate in $crates; do
    # Its default is one version of object_store. Elsewhere, features of tests would come along.
    features=
    [ "${crate%=*}" != pget-object-store ] || features=--all-features
    cargo doc -q --locked --no-deps --lib -p "${crate%=*}" $features
done
unset RUSTDOC RUSTDOCFLAGS
cargo build -q --locked --manifest-path scripts/api/Cargo.toml --target-dir target/api
new=target/api/new
rm -rf "$new"
mkdir -p "$new" docs/api
for crate in $crates; do
    target/api/debug/pget-api "target/doc/${crate#*=}.json" >"$new/${crate%=*}.txt"
done
if [ "${1:-}" != --check ]; then
    rm -f docs/api/*.txt
    cp "$new"/*.txt docs/api/
    exit
fi
diff -ru docs/api "$new" || {
    echo 'api: public items have changed; run scripts/api.sh, and look at the difference' >&2
    exit 1
}
# A version's part that is raised when something is removed: 0.MINOR, or MAJOR.
part() { echo "$1" | sed -E 's/^v?(0\.[0-9]+|[1-9][0-9]*)\..*/\1/'; }
last=$(git describe --tags --match 'v[0-9]*' --abbrev=0 2>/dev/null) || exit 0
if [ "$(part "$last")" = "$(part "$(make -s version)")" ] &&
    git diff --unified=0 "$last" -- docs/api | grep -E '^-[^-]'; then
    echo "api: these items of $last are gone, and the version is still $(part "$last")" >&2
    exit 1
fi
