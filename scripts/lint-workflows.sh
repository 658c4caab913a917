#!/bin/sh
# Lints .github/workflows with actionlint. Needs Go.
set -eu
cd "$(dirname "$0")/.."
exec go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 "$@"
