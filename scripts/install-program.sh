#!/bin/sh
# Installs the program, its manual and its completions, which it writes itself.
# usage: install-program.sh PROGRAM PREFIX
set -eu
program=$1 prefix=$2
share=$prefix/share
install -d "$prefix/bin" "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
"$(dirname "$0")/install-stripped.sh" "$program" "$prefix/bin/pget"
"$prefix/bin/pget" completions bash >"$share/bash-completion/completions/pget"
"$prefix/bin/pget" completions zsh >"$share/zsh/site-functions/_pget"
"$prefix/bin/pget" completions fish >"$share/fish/vendor_completions.d/pget.fish"
"$prefix/bin/pget" man-pages "$share/man/man1"
