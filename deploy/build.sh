#!/usr/bin/env bash
# Builds the programs as they are shipped, and prints the folder that has them.
#
# usage: deploy/build.sh [PROFILE]
#
# zig, as compiler and linker of all that is C or C++, knows the symbols of every glibc: what it links
# runs where that of GLIBC or a newer one is, whatever this host has. Its C++ library is linked in.
# The same source gives the same bytes, in whatever folder it is.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-dist}
glibc=${GLIBC:-2.17}
target=$(rustc -vV | sed -n 's/^host: //p')
tools=$PWD/target/zig

if ! cmp -s deploy/requirements.txt "$tools/installed"; then
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --requirement deploy/requirements.txt
    cp deploy/requirements.txt "$tools/installed"
fi

export PATH="$tools/bin:$PATH"
export ZIG_GLOBAL_CACHE_DIR="$tools/cache" CARGO_ZIGBUILD_CACHE_DIR="$tools/cache"
# No path of this host is in what comes out.
home=${CARGO_HOME:-$HOME/.cargo}
export RUSTFLAGS="--remap-path-prefix=$PWD=giostra --remap-path-prefix=$home=cargo"
export CFLAGS="-ffile-prefix-map=$PWD=giostra -ffile-prefix-map=$home=cargo"
export CXXFLAGS="$CFLAGS"
cargo zigbuild --locked --profile "$profile" --target "$target.$glibc" \
    -p giostra -p giostra-broker -p giostra-worker-cli >&2
echo "$PWD/target/$target/$profile"
