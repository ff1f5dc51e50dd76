#!/usr/bin/env bash
# The image: its root mounted read-only, each program process 1 of its own namespace, without a privilege.
# usage: image.sh ROOT PACKAGES, from run.sh
cd "$(dirname "$0")/../.."
source tests/packages/library.sh
root=$1
archive=$(mktemp -d)
trap 'rm -rf "$archive"' EXIT
tar -xf "$2"/giostra-*-image.tar -C "$archive"
# As OCI's layout has it: the index names the manifest, which names the rest.
blob() { echo "$archive/blobs/$(jq --raw-output "$2" "$1" | tr : /)"; }
manifest=$(blob "$archive/index.json" '.manifests[0].digest')
user=$(jq --raw-output .config.User "$(blob "$manifest" .config.digest)")
tar -xzf "$(blob "$manifest" '.layers[0].digest')" -C "$root" --numeric-owner

mkdir "$root"/{proc,dev}
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o "uid=${user%:*},gid=${user#*:},mode=750" tmpfs "$root/var/lib/giostra"
mount -o remount,bind,ro "$root"
ip link set lo up
if (: > "$root/tmp/x") 2>/dev/null; then echo "the root is to be read-only" >&2; exit 1; fi

# To process 1 of a namespace, a signal that it does not handle is none. Such a process is the child here.
terminate() { pkill -TERM --parent "$1"; }
as_one=(env -i PATH=/usr/bin unshare --pid --fork --kill-child --mount-proc --root="$root" --setuid="${user%:*}" --setgid="${user#*:}")
session /var/lib/giostra "${as_one[@]}"
