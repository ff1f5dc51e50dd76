#!/usr/bin/env bash
# The Debian package under a real systemd, booted in a container of its own: installed, started, stopped
# and upgraded under load.
#
# usage: tests/packages/boot.sh PACKAGES
#
# OLD names the package of an earlier version, with a lower number. Else it has the same files under one.
#
# Needs root, systemd-nspawn and mmdebstrap. What is done inside is in booted.sh, which a unit starts.
set -euo pipefail
packages=$(realpath "$1")
cd "$(dirname "$0")/../.."
for program in systemd-nspawn mmdebstrap; do
    command -v "$program" >/dev/null || { echo "not tested under systemd: there is no $program" >&2; [ "${CI:-}" != true ]; exit; }
done
if [ "$(id -u)" != 0 ]; then echo "not tested under systemd: that needs root" >&2; exit; fi
# That of this host: programs built here need its glibc or a newer one.
suite=${SUITE:-$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)}
tests/packages/root.sh "$suite" adduser,systemd,systemd-sysv,dbus "$suite-systemd"
root=$PWD/target/roots/booted
rm -rf "$root" && mkdir -p "$root"
tar -xf "target/roots/$suite-systemd.tar" -C "$root"

mkdir "$root/packages"
cp "$packages"/giostra_*.deb "$root/packages/new.deb"
if [ -n "${OLD:-}" ]; then
    cp "$OLD" "$root/packages/old.deb"
else
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) deploy/deb.sh "$packages/prefix" "$root/packages/old.deb" 0.0.1-1
fi
cp tests/packages/booted.sh "$root/packages/"
source tests/packages/library.sh
page 'Debian and Ubuntu' | grep systemctl > "$root/packages/page"
cat > "$root/etc/systemd/system/test.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
StandardOutput=file:/packages/output
StandardError=inherit
ExecStart=-/bin/bash /packages/booted.sh
ExecStopPost=/bin/systemctl --no-block poweroff
UNIT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -sf /etc/systemd/system/test.service "$root/etc/systemd/system/multi-user.target.wants/test.service"
status=0
timeout --kill-after=10 180 systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --private-network \
    --boot >"$root.log" 2>&1 </dev/null || status=$?
cat "$root/packages/output" || true
if [ ! -e "$root/packages/passed" ]; then
    echo "failed under systemd (systemd-nspawn: $status); its console: $root.log" >&2
    exit 1
fi
rm -rf "$root"
