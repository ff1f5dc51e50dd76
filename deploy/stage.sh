#!/usr/bin/env bash
# Lays out a prefix (bin, share/man, share/doc ..) from built programs, as it is below /usr or
# ~/.local.
#
# usage: deploy/stage.sh PROGRAMS PREFIX
#
# PROGRAMS is a folder with the three programs. PREFIX is made anew.
set -euo pipefail
programs=$(realpath "$1")
rm -rf "$2" && mkdir -p "$2"
prefix=$(realpath "$2")
cd "$(dirname "$0")/.."
umask 022
doc=$prefix/share/doc/giostra
mkdir -p "$prefix"/{bin,share/man/man1,share/zsh/site-functions} "$doc/deploy"
mkdir -p "$prefix"/share/{bash-completion/completions,fish/vendor_completions.d}

for name in giostra giostra-broker giostra-worker; do
    strip --strip-all --remove-section=.comment -o "$prefix/bin/$name" "$programs/$name"
    if [ "$name" = giostra ]; then
        print() { "$programs/giostra" completions "$1"; }
        "$programs/giostra" man --dir "$prefix/share/man/man1" >/dev/null
    else
        print() { "$programs/$name" --completions "$1"; }
        "$programs/$name" --man > "$prefix/share/man/man1/$name.1"
    fi
    print bash > "$prefix/share/bash-completion/completions/$name"
    print zsh > "$prefix/share/zsh/site-functions/_$name"
    print fish > "$prefix/share/fish/vendor_completions.d/$name.fish"
done

# What the repository has, and no more: a folder may have files of whoever works in it.
git ls-files -- README.md CHANGELOG.md 'LICENSE-*' docs | while read -r file; do
    install -D -m 644 "$file" "$doc/$file"
done
for part in systemd broker.toml worker.toml logrotate kubernetes compose.yaml; do
    if [ -e "deploy/$part" ]; then cp -r "deploy/$part" "$doc/deploy/"; fi
done
# Built by zig, if it stands where zig.sh puts it beside the programs.
zig=()
for folder in "${programs%/*/*}"/zig/lib/python3*/site-packages/ziglang; do
    if [ -e "$folder/zig" ]; then zig=(--zig "$folder"); fi
done
deploy/third_party.py "$doc" "${zig[@]}"
chmod -R u=rwX,go=rX "$prefix"
