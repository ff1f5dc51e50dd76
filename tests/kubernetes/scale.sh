#!/usr/bin/env bash
# Asks a live broker what KEDA would ask it, by a real Prometheus, and of /status.json by GJSON: with
# requests and no worker, with workers that compute, when all is done, and when there is no broker.
#
# usage: tests/kubernetes/scale.sh BUILT PYTHON
#
# BUILT has keda.yaml and keda-status.yaml, which kustomize built. The programs are found by PATH.
set -euo pipefail
built=$(realpath "$1") python=$2
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
pids=()
end() {
    kill "${pids[@]}" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap end EXIT
until_true() {
    for _ in $(seq 100); do if "$@" 2>/dev/null; then return; fi; sleep 0.1; done
    echo "not within 10 s: $*" >&2
    exit 1
}
giostra-broker --frontend 'tcp://127.0.0.1:*' --backend 'tcp://127.0.0.1:*' --http 127.0.0.1:0 --log-dir "$work/log" 2> "$work/broker" &
broker=$!
pids+=("$broker")
until_true grep -q 'watch http' "$work/broker"
frontend=$(sed -n 's/.*frontend=\(\S*\).*/\1/p' "$work/broker") backend=$(sed -n 's/.*backend=\(\S*\).*/\1/p' "$work/broker")
page=$(sed -n 's|.*watch http://\(.*\)/|\1|p' "$work/broker")
printf '%s\n' 'global: { scrape_interval: 1s, scrape_timeout: 1s }' \
    "scrape_configs: [{ job_name: giostra, static_configs: [{ targets: ['$page'] }] }]" > "$work/prometheus.yml"
# Prometheus says no port that the system picked.
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
prometheus --config.file "$work/prometheus.yml" --storage.tsdb.path "$work/tsdb" --web.listen-address "127.0.0.1:$port" 2> "$work/prometheus" &
pids+=("$!")

# asked: what the ScaledObjects of both overlays get, as "PROMETHEUS STATUS"; - where KEDA gets an error
asked() { "$python" tests/kubernetes/asked.py "$built" "http://127.0.0.1:$port" "http://$page"; }
expect() {
    local got
    for _ in $(seq 100); do
        got=$(asked)
        if [ "$got" = "$1" ]; then echo "$2: $got" && return; fi
        sleep 0.2
    done
    echo "$2: $got instead of $1" >&2
    exit 1
}
expect "0 0" "a broker of which nobody has asked anything"
# The only work of another pool, which has no worker: no request of this one.
giostra --broker "$frontend" map sleep --pool other < <(echo 1) > /dev/null 2>&1 &
pids+=("$!")
until_true grep -q ' accept .*other' "$work"/log/*
expect "0 0" "a request to another pool"
giostra --broker "$frontend" map sleep < <(printf '%s\n' 6 6 6 6 15 15) > "$work/results" 2>/dev/null &
map=$!
expect "6 6" "6 requests and no worker"
for name in worker-1 worker-2; do
    giostra-worker --broker "$backend" --name "$name" 2>/dev/null &
    pids+=("$!")
done
until_true grep -q 'joined worker-2' "$work/broker"
expect "6 6" "all pending or in flight, none answered"
# The last ones: nothing is pending, and pending alone would end the workers that compute them.
expect "2 2" "the last two, in flight"
wait "$map"
expect "0 0" "all answered"
kill "$broker"
expect "- -" "no broker"
