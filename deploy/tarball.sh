#!/usr/bin/env bash
# Packs a prefix as a tarball, the same bytes for the same files.
#
# usage: deploy/tarball.sh PREFIX FILE
#
# The one folder in it is called as FILE is.
set -euo pipefail
name=$(basename "$2" .tar.gz)
tar --create --directory "$1" --sort=name --format=posix --pax-option=delete=atime,delete=ctime \
    --mtime="@${SOURCE_DATE_EPOCH:?}" --owner=0 --group=0 --numeric-owner --transform="s,^\.,$name," . |
    gzip -9n > "$2"
