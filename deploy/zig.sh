# zig as compiler and linker of all that is C or C++, in target/zig: what it links runs where the glibc
# of $glibc or a newer one is, whatever this host has. Its C++ library is linked in. To be sourced in
# the project's folder; sets `target` and `glibc` besides what Cargo reads.
# shellcheck shell=bash disable=SC2034
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

# No path of this host is in what comes out: the same source gives the same bytes in any folder.
home=${CARGO_HOME:-$HOME/.cargo}
export RUSTFLAGS="--remap-path-prefix=$PWD=giostra --remap-path-prefix=$home=cargo"
export CFLAGS="-ffile-prefix-map=$PWD=giostra -ffile-prefix-map=$home=cargo"
export CXXFLAGS="$CFLAGS"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
