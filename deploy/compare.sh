#!/usr/bin/env bash
# Makes the packages once more, from a clone in another folder, and compares them byte for byte.
#
# usage: deploy/compare.sh PACKAGES [PROFILE]
#
# PACKAGES is what dist.sh made of the commit that is checked out.
set -euo pipefail
packages=$(realpath "$1") profile=${2:-dist}
cd "$(dirname "$0")/.."
git diff --quiet HEAD || { echo "what is not committed would not be in the second build" >&2; exit 1; }
second=$(mktemp -d)
trap 'rm -rf "$second"' EXIT
git clone --quiet --no-local . "$second/giostra"
"$second/giostra/deploy/dist.sh" "$second/packages" "$profile" >/dev/null
if diff "$packages/SHA256SUMS" "$second/packages/SHA256SUMS"; then
    echo "the same bytes from two folders:"
    cat "$packages/SHA256SUMS"
else
    diff --recursive --brief "$packages/prefix" "$second/packages/prefix" || true
    exit 1
fi
