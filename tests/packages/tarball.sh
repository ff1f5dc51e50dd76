#!/usr/bin/env bash
# The tarball: unpacked and used by an ordinary user.
# usage: tarball.sh ROOT PACKAGES, from run.sh
cd "$(dirname "$0")/../.."
source tests/packages/library.sh
root=$1
prepare "$root"
chroot "$root" useradd --create-home ada
tarball=$(basename "$2"/giostra-*-linux.tar.gz)
cp "$2/$tarball" "$root/home/ada/"
as_ada=(chroot --userspec=ada:ada "$root" env -i PATH=/home/ada/.local/bin:/usr/bin:/bin HOME=/home/ada)

commands=$(page 'A tarball' | sed "s,giostra-[^ ]*\.tar\.gz,$tarball,")
timed "$root/tmp/install" "${as_ada[@]}" bash -euxc "cd; $commands"
expect "$root/tmp/install" '^giostra [0-9]'

"${as_ada[@]}" mkdir /home/ada/run
session /home/ada/run "${as_ada[@]}"
together /home/ada/up "${as_ada[@]}"
"${as_ada[@]}" test -e /home/ada/.local/share/man/man1/giostra-random.1
