#!/usr/bin/env bash
# What the files have in them, without running any.
# usage: contents.sh ROOT PACKAGES, from run.sh
cd "$(dirname "$0")/../.."
source tests/packages/library.sh
packages=$2
(cd "$packages" && sha256sum --check --quiet SHA256SUMS)
if command -v lintian >/dev/null; then lintian --allow-root --fail-on error,warning "$packages"/*.deb; fi

# No path of the host that built them.
for program in "$packages"/prefix/bin/*; do
    if [ "${REPRODUCIBLE:-}" = yes ] && grep -aoE "($PWD|${CARGO_HOME:-$HOME/.cargo})/[^ ]*" "$program" | head -n 3 | grep .; then
        echo "$program has paths of this host" >&2
        exit 1
    fi
done
bill=$packages/prefix/share/doc/giostra/giostra.cdx.json
notices=$packages/prefix/share/doc/giostra/THIRD-PARTY.txt
for name in libzmq libsodium sqlite rusqlite zmq; do
    jq --exit-status --arg name "$name" 'any(.components[]; .name == $name and .version != "")' "$bill" >/dev/null
    expect "$notices" "^$name [0-9]"
done
expect "$notices" 'Mozilla Public License'
