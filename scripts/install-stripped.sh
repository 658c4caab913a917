#!/bin/sh
# Installs a program or a shared library without its debug information, which goes beside it, where
# debuggers look: `.debug/NAME.debug`. What objcopy does not know is installed as it is.
# usage: install-stripped.sh FILE DESTINATION
set -eu
file=$1 destination=$2
install -m 755 "$file" "$destination"
if ! command -v objcopy >/dev/null || ! objcopy --only-keep-debug "$file" /dev/null 2>/dev/null; then
    exit 0
fi
folder=$(dirname "$destination")/.debug
debug=$folder/$(basename "$destination").debug
install -d "$folder"
objcopy --only-keep-debug "$file" "$debug"
chmod 644 "$debug"
strip --strip-unneeded "$destination"
objcopy --remove-section=.gnu_debuglink --add-gnu-debuglink="$debug" "$destination"
