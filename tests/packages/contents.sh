#!/usr/bin/env bash
# What the files have in them, without running any.
# usage: contents.sh ROOT PACKAGES, from run.sh
cd "$(dirname "$0")/../.."
source tests/packages/library.sh
packages=$2
if command -v shellcheck >/dev/null; then
    shellcheck --external-sources deploy/*.sh tests/packages/*.sh deploy/debian/{postinst,prerm,postrm}
fi
(cd "$packages" && sha256sum --check --quiet SHA256SUMS)
if command -v lintian >/dev/null; then lintian --allow-root --fail-on error,warning "$packages"/*.deb; fi

# Of the libraries of C, those that Cargo does not know, too.
bill=$packages/prefix/share/doc/giostra/giostra.cdx.json
notices=$packages/prefix/share/doc/giostra/THIRD-PARTY.txt
for name in libzmq libsodium sqlite rusqlite zmq; do
    jq --exit-status --arg name "$name" 'any(.components[]; .name == $name and .version != "")' "$bill" >/dev/null
    expect "$notices" "^$name [0-9]"
done
expect "$notices" 'Mozilla Public License'
