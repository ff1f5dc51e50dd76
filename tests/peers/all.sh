#!/usr/bin/env bash
# all.sh OUT [BINARIES]: each peer in turn, four runs (5 ms and nothing; as it is, and with the server killed by -9), each bounded to 5 minutes;
# appends a line a run to OUT, and errors to OUT.errors. BINARIES: the folder of Giostra's programs (default: target/dist).
# SLEEP5 (10000) and NOTHING (100000): the numbers of jobs; RUN: "giostra hyperqueue gearman celery rq".
# Where the run as it is did not end in time, the server is killed in a smaller one: an eighth of the results that there were.
here=$(cd "$(dirname "$0")" && pwd)
folder=${PEERS:-$here/../../target/peers}
out=${1:?all.sh OUT [BINARIES]} binaries=${2:-$here/../../target/dist}
sleep5=${SLEEP5:-10000} nothing=${NOTHING:-100000}
mkdir -p "$folder/run"
echo "# $(date -u +%FT%TZ) cores=$(nproc) cpu=$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1 | tr ' ' _) load=$(cut -d' ' -f1 /proc/loadavg) $(python3 "$here/disk.py" "$folder/run")" >> "$out"
for peer in ${RUN:-giostra hyperqueue gearman celery rq}; do
    for kind in sleep5 nothing; do
        jobs=${!kind}
        line=$(timeout -k 20 300 python3 "$here/run.py" "$peer" "$jobs" "$kind" plain "$binaries" 2>> "$out.errors") || true
        echo "${line:-peer=$peer jobs=$jobs kind=$kind run=plain error=no-line}" >> "$out"
        if [[ $line != *end=complete* ]]; then
            results=$(sed -n 's/.* results=\([0-9]*\).*/\1/p' <<< "$line")
            jobs=$(( ${results:-0} / 8 ))
            [ "$jobs" -ge 200 ] || jobs=200
        fi
        line=$(timeout -k 20 300 python3 "$here/run.py" "$peer" "$jobs" "$kind" killed "$binaries" 2>> "$out.errors") || true
        echo "${line:-peer=$peer jobs=$jobs kind=$kind run=killed error=no-line}" >> "$out"
    done
done
echo "# $(date -u +%FT%TZ) load=$(cut -d' ' -f1 /proc/loadavg) $(python3 "$here/disk.py" "$folder/run")" >> "$out"
