#!/usr/bin/env bash
# What boot.sh has done inside its container. Leaves /packages/passed if all went well.
set -euo pipefail
cd /packages
fail() { echo "failed: $*"; journalctl --no-pager -n 100; exit 1; }
trap 'fail "line $LINENO"' ERR
has() { grep -qE "$2" "$1" || { cat "$1"; fail "no \"$2\" in $1"; }; }

# Installed, nothing runs; one command starts it, and it comes back with the system.
dpkg -i old.deb >dpkg.log 2>&1
if systemctl is-enabled --quiet giostra-broker || systemctl is-active --quiet giostra-broker; then fail "it starts by itself"; fi
sudo() { "$@"; }
# shellcheck source=/dev/null
source page
systemctl is-active giostra-broker giostra-worker@1
systemctl start giostra-worker@{2,3}
giostra random 3000 --wait-workers 3
giostra audit /var/log/giostra | grep -x proved
[ -d /var/lib/giostra/store ]
systemctl status --no-pager --lines 3 giostra-broker

# An upgrade under load: the broker is another process afterwards, the clients have lost nothing.
load() {
    until [ -e enough ]; do
        giostra random 300000 >random.log 2>&1 || { cat random.log; exit 1; }
        has random.log 'answered +300000, all of them'
        cat random.log >>randoms.log
    done
}
before=$(systemctl show --property MainPID --value giostra-broker)
load &
client=$!
until [ -s randoms.log ]; do sleep 0.1; done
dpkg -i new.deb >>dpkg.log 2>&1
systemctl is-active giostra-broker
after=$(systemctl show --property MainPID --value giostra-broker)
[ "$before" != "$after" ] || fail "the broker was not restarted"
sleep 1
touch enough
wait "$client" || fail "requests were lost"
echo "$(grep -c answered randoms.log) batches of 300000, all answered, while $(dpkg-query --show giostra | tr '\t' ' ') was installed"
giostra random 3000 --wait-workers 3 >random.log

# A stop drains: what a worker computes is answered first.
giostra random 2000000 >random.log 2>&1 &
client=$!
sleep 0.5
systemctl stop giostra-worker@1
wait "$client"
has random.log 'answered +2000000, all of them'
systemctl stop giostra-worker@{2,3} giostra-broker
[ "$(systemctl show --property Result --value giostra-broker)" = success ]
[ "$(systemctl show --property Result --value giostra-worker@1)" = success ]

# Removed while it runs: it is stopped. Purged: its state is gone.
systemctl start giostra-broker
dpkg --purge giostra >>dpkg.log 2>&1
if find /proc -maxdepth 2 -name exe -lname '/usr/bin/giostra*' 2>/dev/null | grep .; then fail "it goes on running"; fi
[ ! -e /var/lib/giostra ]
touch passed
