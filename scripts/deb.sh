#!/bin/sh
# Builds dist/pget_VERSION_ARCHITECTURE.deb: library, headers, program, completions, manual, notices
# and the bill of materials. Needs dpkg-deb and Python 3.
#
# LIBS is a folder with a built libpget.so, libpget.a and pget. Without LIBS, they are built.
set -eu
cd "$(dirname "$0")/.."
for file in libpget.so libpget.a pget; do
    if [ -n "${LIBS:-}" ] && [ ! -f "$LIBS/$file" ]; then
        echo "deb: $LIBS has no $file: run make lib program and set LIBS=target/release, or unset LIBS" >&2
        exit 1
    fi
done
version=$(make -s version)
architecture=$(dpkg --print-architecture)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch)
make -s install PREFIX=/usr LIBDIR="/usr/lib/$multiarch" DESTDIR="$stage" ${LIBS:+LIBS="$LIBS"}
# The debug information is three times as large as the rest; it stays in dist/, not in the package.
mkdir -p dist/debug "$stage/DEBIAN" "$stage/usr/share/doc/pget"
find "$stage" -type f -name '*.debug' -exec mv -f {} dist/debug/ \;
find "$stage" -name .debug -type d -empty -delete
find "$stage/usr/share/man" -name '*.1' -exec gzip -9n {} +
cp LICENSE "$stage/usr/share/doc/pget/copyright"
scripts/third-party.py "$stage/usr/share/doc/pget/THIRD-PARTY-NOTICES" \
    "$stage/usr/share/doc/pget/pget.cdx.json" pget-cli pget-ffi
gzip -9nc CHANGELOG.md >"$stage/usr/share/doc/pget/changelog.gz"
# The oldest C library that has all the symbols.
libc=$(find "$stage/usr" -type f \( -name 'libpget.so.*' -o -path '*/bin/pget' \) -exec objdump -T {} + |
    sed -n 's/.*(\{0,1\}GLIBC_\([0-9.]*\).*/\1/p' | sort -V | tail -1)
size=$(du -sk "$stage/usr" | cut -f1)
cat >"$stage/DEBIAN/control" <<CONTROL
Package: pget
Version: $version
Architecture: $architecture
Maintainer: The pget authors <pget@localhost>
Section: net
Priority: optional
Installed-Size: $size
Depends: libc6 (>= $libc), libgcc-s1, ca-certificates
Description: parallel reads of one large object from object storage
 Splits one object into byte ranges, fetches them over several connections, and
 delivers it in order, into memory, or into a file: one revision or an error.
 With the program pget, the library libpget, and headers for C and C++.
CONTROL
printf '#!/bin/sh\nset -e\nldconfig\n' >"$stage/DEBIAN/postinst"
cp "$stage/DEBIAN/postinst" "$stage/DEBIAN/postrm"
chmod 755 "$stage/DEBIAN/postinst" "$stage/DEBIAN/postrm"
package=dist/pget_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$stage" "$package" >/dev/null
echo "$package"
