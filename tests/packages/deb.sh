#!/usr/bin/env bash
# The Debian package: installed, used by its user, installed again, removed, purged.
# usage: deb.sh ROOT PACKAGES, from run.sh
cd "$(dirname "$0")/../.."
source tests/packages/library.sh
root=$1
prepare "$root"
package=$(basename "$2"/giostra_*.deb)
cp "$2/$package" "$root/tmp/"
as_root=(chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive)
as_giostra=(chroot --userspec=giostra:giostra "$root" env -i PATH=/usr/bin:/bin)

# There is no systemd in a chroot: its part is tested by boot.sh.
commands=$(page 'Debian and Ubuntu' | sed "s,giostra_[^ ]*\.deb,$package,; /systemctl/d")
timed "$root/tmp/install" "${as_root[@]}" sh -euxc "cd /tmp; sudo() { \"\$@\"; }; $commands"
expect "$root/tmp/install" '^giostra [0-9]'
[ "$("${as_root[@]}" stat -c %U:%a /var/lib/giostra)" = giostra:750 ]
# No library is missing, and the user has no shell.
"${as_root[@]}" getent passwd giostra | grep -q ':/var/lib/giostra:/usr/sbin/nologin$'

"${as_root[@]}" install -d -o giostra -g giostra /run/giostra
session /run/giostra "${as_giostra[@]}"
together /run/giostra/up "${as_giostra[@]}"

# What somebody has changed stays, and the jobs that were kept, until the purge.
"${as_giostra[@]}" touch /var/lib/giostra/kept
configuration=$root/etc/giostra/broker.toml
if [ -e "$configuration" ]; then echo '# changed' >> "$configuration"; fi
"${as_root[@]}" dpkg -i "/tmp/$package" >/dev/null
"${as_root[@]}" dpkg --remove giostra >/dev/null
if [ -e "$configuration" ]; then grep -q '# changed' "$configuration"; fi
[ -e "$root/var/lib/giostra/kept" ]
[ ! -e "$root/usr/bin/giostra" ]
"${as_root[@]}" dpkg --purge giostra >/dev/null
for path in /var/lib/giostra /var/log/giostra /etc/giostra /etc/logrotate.d/giostra /usr/share/doc/giostra; do
    if [ -e "$root$path" ]; then echo "$path is left after the purge" >&2; exit 1; fi
done
