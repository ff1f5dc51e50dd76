#!/usr/bin/env bash
# Builds OpenPBS, which no distribution has, for the tests with a cluster. Takes some minutes.
#
# usage: tests/openpbs.sh [PREFIX]
#
# Installs into PREFIX (/opt/pbs), and nothing else: no service, no /etc/pbs.conf. Needs Debian and root.
# OPENPBS_TARBALL is a copy of the source to take instead of the public one; CFLAGS and CXXFLAGS count.
set -euo pipefail
# After 23.06.06, the latest release, which does not know Python 3.11.
commit=cd7ab5edaf03dcac2f1cb9e2f42d75eb117d468a
prefix=${1:-/opt/pbs}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export DEBIAN_FRONTEND=noninteractive
# What INSTALL lists for Debian, without what draws windows and sends mail.
apt-get install --yes --quiet --no-install-recommends ca-certificates curl gcc g++ make autoconf automake libtool \
    pkg-config bison flex perl swig libhwloc-dev libx11-dev libxt-dev libxext-dev libxft-dev libedit-dev libical-dev \
    libncurses-dev libcjson-dev libexpat1-dev libssl-dev libpq-dev python3-dev tcl-dev tk-dev postgresql \
    postgresql-contrib >"$work/log" || { cat "$work/log" >&2; exit 1; }
tarball=${OPENPBS_TARBALL:-$work/openpbs.tar.gz}
if [ -z "${OPENPBS_TARBALL:-}" ]; then
    curl --fail --silent --show-error --location --retry 3 --output "$tarball" \
        "https://github.com/openpbs/openpbs/archive/$commit.tar.gz"
fi
mkdir "$work/source"
tar --extract --file "$tarball" --directory "$work/source" --strip-components 1
cd "$work/source"
echo "building OpenPBS in $work" >&2
{
    ./autogen.sh
    ./configure --prefix="$prefix"
    # Its warnings are its own business.
    make -j"$(nproc)" CFLAGS="${CFLAGS:--O1 -w}" CXXFLAGS="${CXXFLAGS:--O1 -w}"
    make install
} >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; exit 1; }
# As INSTALL says: it tells the server who a user is.
chmod 4755 "$prefix/sbin/pbs_iff" "$prefix/sbin/pbs_rcp"
"$prefix/bin/qstat" --version
