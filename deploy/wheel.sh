#!/usr/bin/env bash
# Makes the wheel of the Python package for every glibc since 2.17 (manylinux2014): see zig.sh.
#
# usage: deploy/wheel.sh MATURIN FOLDER [PROFILE]
set -euo pipefail
maturin=$(realpath -s "$1") folder=$(realpath -m "$2") profile=${3:-dist}
cd "$(dirname "$0")/.."
source deploy/zig.sh
# The texts of the licences go into the wheel with the package's own (license-files in pyproject.toml).
deploy/third_party.py target/wheel-licences --package giostra-python --zig "$(echo "$tools"/lib/python3*/site-packages/ziglang)"
cp target/wheel-licences/THIRD-PARTY.txt python/LICENSE-THIRD-PARTY
"$maturin" build --locked --zig --profile "$profile" --target "$target" --compatibility manylinux2014 \
    --manifest-path python/Cargo.toml --out "$folder"
