#!/usr/bin/env bash
# Packs a prefix as a Debian package, the same bytes for the same files.
#
# usage: deploy/deb.sh PREFIX FILE VERSION
#
# What goes to /etc is taken from PREFIX/share/doc/giostra/deploy, as far as it is there.
set -euo pipefail
prefix=$(realpath "$1") file=$(realpath -m "$2") version=$3
maintainer=${MAINTAINER:-The Giostra authors <giostra@localhost>}
cd "$(dirname "$0")"
umask 022
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
mkdir -p "$root"/{usr,etc,DEBIAN}
cp -r "$prefix"/. "$root/usr"
doc=$root/usr/share/doc/giostra

# Debian's places.
if [ -d "$doc/deploy/systemd" ]; then
    mkdir -p "$root/usr/lib/systemd"
    mv "$doc/deploy/systemd" "$root/usr/lib/systemd/system"
fi
for name in broker worker; do
    install -D -m 644 "$doc/deploy/$name.toml" "$root/etc/giostra/$name.toml"
done
# Where the unit has folders for them.
sed -i 's,^#log-dir = .*,log-dir = "/var/log/giostra",; s,^#store = .*,store = "/var/lib/giostra/store",' \
    "$root/etc/giostra/broker.toml"
if [ -d "$doc/deploy/logrotate" ]; then mv "$doc/deploy/logrotate" "$root/etc/logrotate.d"; fi
rm -rf "$doc/deploy" "$doc"/LICENSE-*
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"

mit=$(sed 's/^$/./; s/^/ /' ../LICENSE-MIT)
awk -v text="$mit" '$0 == "@MIT@" { print text; next } { print }' debian/copyright.in > "$doc/copyright"
mv "$doc/CHANGELOG.md" "$doc/changelog"
date=$(date --utc --rfc-email --date="@${SOURCE_DATE_EPOCH:?}")
printf 'giostra (%s) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$date" > "$doc/changelog.Debian"
gzip -9n "$doc"/changelog "$doc"/changelog.Debian "$doc"/THIRD-PARTY.txt "$root"/usr/share/man/man1/*
install -D -m 644 debian/lintian-overrides "$root/usr/share/lintian/overrides/giostra"

# What the programs are linked to, by Debian's names, and the newest of glibc's symbols that they use.
glibc=$(objdump -T "$root"/usr/bin/* | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
depends="libc6 (>= ${glibc#GLIBC_})"
needed=$(objdump -p "$root"/usr/bin/* | awk '$1 == "NEEDED" { print $2 }' | sort -u)
for library in $needed; do
    case $library in
        libstdc++.so.6) depends+=", libstdc++6" ;;
        libgcc_s.so.1) depends+=", libgcc-s1" ;;
        libc.so.6 | libm.so.6 | libdl.so.2 | libpthread.so.0 | librt.so.1 | libutil.so.1 | ld-linux*) ;;
        *) echo "no Debian package is known for $library" >&2; exit 1 ;;
    esac
done
size=$(du --apparent-size --summarize --block-size=1024 "$root/usr" | cut -f 1)
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$(dpkg --print-architecture)/" \
    -e "s/@MAINTAINER@/$maintainer/; s/@SIZE@/$size/; s/@DEPENDS@/$depends/" debian/control.in > "$root/DEBIAN/control"
install -m 755 debian/{postinst,prerm,postrm} "$root/DEBIAN"
(cd "$root" && find etc -type f -printf '/%p\n' | sort > DEBIAN/conffiles)
[ -s "$root/DEBIAN/conffiles" ] || rm "$root/DEBIAN/conffiles"
find "$root/etc" -type d -empty -delete
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
dpkg-deb --root-owner-group -Zxz --build "$root" "$file" >/dev/null
