#!/usr/bin/env bash
# Makes a bare Debian root, once: target/roots/NAME.tar.
# usage: root.sh SUITE PACKAGES NAME
set -euo pipefail
cd "$(dirname "$0")/../.."
file=target/roots/$3.tar
if [ -e "$file" ]; then exit; fi
mkdir -p target/roots
mmdebstrap --quiet --variant=minbase --include="$2" "$1" "$file.part.tar" </dev/null
mv "$file.part.tar" "$file"
