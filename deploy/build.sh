#!/usr/bin/env bash
# Builds the programs as they are shipped (see zig.sh), and prints the folder that has them.
#
# usage: deploy/build.sh [PROFILE]
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-dist}
source deploy/zig.sh
cargo zigbuild --locked --profile "$profile" --target "$target.$glibc" \
    -p giostra -p giostra-broker -p giostra-worker-cli >&2
echo "$PWD/target/$target/$profile"
