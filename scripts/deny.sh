#!/bin/sh
# Checks licences, origins and advisories of all dependencies with cargo-deny, by deny.toml.
# Installs the tool into .tools (or $PGET_TOOLS) in a debug build: 95 s of processor time.
# The advisories are fetched. Where that cannot be done, PGET_ADVISORIES names a folder that has
# RustSec's database, or `none`: then only the rest is checked.
set -eu
cd "$(dirname "$0")/.."
version=0.20.2
root=${PGET_TOOLS:-$PWD/.tools}/cargo-deny-$version
[ -x "$root/bin/cargo-deny" ] ||
    cargo install -q --debug --locked --root "$root" --version "$version" cargo-deny
deny() { "$root/bin/cargo-deny" --locked --workspace "$@"; }

deny check -A duplicate bans licenses sources
[ "${PGET_ADVISORIES:-}" != none ] || exit 0
if [ -z "${PGET_ADVISORIES:-}" ]; then
    deny check advisories
    exit
fi
# cargo-deny takes a database from a git repository alone, in a folder with a name that it makes of
# the database's address. It reports the name when the folder is missing.
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
sed "/^\[advisories\]/a db-path = \"$home\"" deny.toml >"$home/deny.toml"
name=$(deny --offline --config "$home/deny.toml" check advisories 2>&1 |
    sed -n "s|.*\(advisory-db-[0-9a-f]*\).*|\1|p" | head -1)
cp -r "$PGET_ADVISORIES" "$home/$name"
rm -rf "$home/$name/.git"
git -C "$home/$name" init -q
git -C "$home/$name" add -A
git -C "$home/$name" -c user.name=deny -c user.email=deny@localhost commit -q -m 'the database'
deny --offline --config "$home/deny.toml" check advisories
