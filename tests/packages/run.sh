#!/usr/bin/env bash
# Installs what `just dist` made in bare Debian roots, as docs/install.md says, and has it compute.
#
# usage: tests/packages/run.sh PACKAGES [deb|tarball|image|contents ..]
#
# PACKAGES is the folder that `just dist` wrote. The roots are made by mmdebstrap, once, and kept in
# target/roots. Needs root, for namespaces: with another user it says so, and does nothing.
set -euo pipefail
packages=$(realpath "$1")
shift
cases=("$@")
if [ ${#cases[@]} = 0 ]; then cases=(contents deb tarball image); fi
cd "$(dirname "$0")/../.."
if [ "$(id -u)" != 0 ] || ! unshare --mount --pid --net --fork true; then
    echo "packages are not tested: that needs root and namespaces" >&2
    exit
fi
roots=$PWD/target/roots
# That of this host: programs built here need its glibc or a newer one.
suite=${SUITE:-$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)}
tests/packages/root.sh "$suite" adduser "$suite"

for case in "${cases[@]}"; do
    start=$SECONDS
    root=$roots/$case
    rm -rf "$root" && mkdir -p "$root"
    # The image is a root of its own; `contents` looks at the files alone.
    case $case in deb | tarball) tar -xf "$roots/$suite.tar" -C "$root" ;; esac
    # A network of its own: the usual ports are free. Whatever is left ends with the namespace.
    unshare --mount --pid --net --ipc --uts --fork --kill-child --mount-proc \
        "tests/packages/$case.sh" "$root" "$packages" </dev/null
    rm -rf "$root"
    echo "== $case: $((SECONDS - start)) s"
done
