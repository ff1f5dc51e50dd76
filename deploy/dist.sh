#!/usr/bin/env bash
# Makes what people install: a tarball, a Debian package, a container image, a list of components.
#
# usage: deploy/dist.sh FOLDER [PROFILE]
#
# PROGRAMS names a folder of programs that are built already; they need this host's glibc or a newer
# one. Else they are built with PROFILE (dist) for old ones: see build.sh.
set -euo pipefail
folder=$(realpath -m "${1:?usage: deploy/dist.sh FOLDER [PROFILE]}") profile=${2:-dist}
cd "$(dirname "$0")/.."
# The time of everything that has one.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
version=$(cargo pkgid -p giostra | sed 's/.*[#@]//')
machine=$(uname -m)
programs=${PROGRAMS:-$(deploy/build.sh "$profile")}

rm -rf "$folder" && mkdir -p "$folder"
prefix=$folder/prefix
deploy/stage.sh "$programs" "$prefix"
deploy/tarball.sh "$prefix" "$folder/giostra-$version-$machine-linux.tar.gz"
deploy/image.py "$prefix" "$folder/giostra-$version-$machine-image.tar" "$version"
if command -v dpkg-deb >/dev/null; then
    # Debian sorts what follows a ~ before the version without it.
    debian=${version//-/\~}-1
    deploy/deb.sh "$prefix" "$folder/giostra_${debian}_$(dpkg --print-architecture).deb" "$debian"
else
    echo "no dpkg-deb: goes on without a Debian package" >&2
fi
cp "$prefix/share/doc/giostra/giostra.cdx.json" "$folder/giostra-$version.cdx.json"
(cd "$folder" && sha256sum -- *.tar.gz *.tar *.deb *.json > SHA256SUMS && ls -l --block-size=K -- *.tar.gz *.tar *.deb *.json)
