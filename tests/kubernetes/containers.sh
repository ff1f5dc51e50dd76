#!/usr/bin/env bash
# Runs broker, workers and client as the manifests say, by podman instead of a cluster: user, root,
# capabilities, secrets and config maps as mounted. A worker is stopped in the middle of a batch.
#
# usage: tests/kubernetes/containers.sh PACKAGES MANIFEST
#
# PACKAGES is the folder that `just dist` wrote, MANIFEST what kustomize built of base and client.
# Needs root and podman with runc.
set -euo pipefail
packages=$(realpath "$1") manifest=$(realpath "$2")
cd "$(dirname "$0")/../.."
unset "${!GIOSTRA_@}"
python=${PYTHON:-target/kubernetes/bin/python}
work=$(mktemp -d)
# Limits that root of a container may have everywhere.
printf '[containers]\ndefault_ulimits = ["nofile=16384:16384", "nproc=4096:4096"]\n[engine]\nruntime = "runc"\n' > "$work/containers.conf"
export CONTAINERS_CONF=$work/containers.conf
network=giostra-test-$$
started=()
end() {
    status=$?
    if [ "$status" != 0 ]; then for name in "${started[@]}"; do echo "== $name" && podman logs "$name" | tail -20; done; fi >&2 2>&1
    for name in "${started[@]}"; do podman rm --force --time 0 "$name"; done >/dev/null 2>&1
    podman network rm --force "$network" >/dev/null 2>&1
    rm -rf "$work"
}
trap end EXIT
quiet() { "$@" 2> >(grep -v 'failed to connect to syslog' >&2); }

quiet podman load --quiet --input "$packages"/giostra-*-image.tar >/dev/null
# A service's name and address stay while its pod is replaced. For that the broker has fixed ones
# here, and a fixed MAC address: else the others go on sending to the old one, for up to 45 s.
quiet podman network create --disable-dns "$network" >/dev/null
service=$(quiet podman network inspect --format '{{(index .Subnets 0).Subnet}}' "$network" | sed 's/\.[0-9]*\/.*/.250/')
known=(--add-host "giostra-broker:$service")
tool() { quiet podman run --rm --network none --volume "$work/keys:/var/lib/giostra/keys" --user 0:0 "$image" giostra "$@"; }
image=$(sed -n 's/^ *\(- \)\?image: //p' "$manifest" | head -1)
mkdir "$work/keys"
for name in broker worker client admin; do tool keys new "$name" >/dev/null; done
tool keys allow keys/worker.key --role worker >/dev/null
tool keys allow keys/client.key --role client >/dev/null
tool keys allow keys/admin.key --role client --role admin >/dev/null
"$python" tests/kubernetes/pods.py "$work/pods" "$manifest" "$work/keys"

# start NAME POD [OPTION ..]: a container as the pod's, of that name
start() {
    local name=giostra-test-$$-$1 words
    mapfile -t words < <(sed "s/=NAME\$/=$1/" "$work/pods/$2.args")
    started+=("$name")
    quiet podman run --name "$name" --hostname "$1" --network "$network" "${@:3}" "${words[@]}"
}
said() { podman logs "giostra-test-$$-$1" 2>&1; }
# until_said NAME TEXT
until_said() {
    for _ in $(seq 100); do
        if said "$1" | grep --quiet --fixed-strings -- "$2"; then return; fi
        sleep 0.1
    done
    echo "$1 does not say: $2" >&2
    exit 1
}

start broker giostra-broker --detach --ip "$service" --mac-address 02:00:00:00:00:fa >/dev/null
until_said broker "listening"
for worker in worker-1 worker-2; do start "$worker" giostra-worker --detach "${known[@]}" >/dev/null; done
for worker in worker-1 worker-2; do until_said "$worker" "registered"; done
start random giostra-random "${known[@]}"

echo "== a worker is stopped in the middle of a batch"
sed 's/^3000$/200000/' "$work/pods/giostra-random.args" > "$work/pods/giostra-batch.args"
start batch giostra-batch "${known[@]}" > "$work/batch" 2>&1 &
batch=$!
dispatched() { wc -l < "$work/pods/giostra-broker/log/broker.log"; }
before=$(dispatched)
for _ in $(seq 100); do if [ "$(dispatched)" -gt $((before + 500)) ]; then break; fi; sleep 0.05; done
podman kill --signal TERM "giostra-test-$$-worker-1" >/dev/null
if ! kill -0 "$batch" 2>/dev/null; then echo "the batch was over before the signal" >&2; exit 1; fi
wait "$batch"
cat "$work/batch"
said worker-1 | tail -2
[ "$(quiet podman wait "giostra-test-$$-worker-1")" = 0 ]
if said broker | grep 'refuse '; then echo "somebody was refused" >&2; exit 1; fi

echo "== the broker is stopped in the middle of a batch, and another takes its volumes"
start batch-2 giostra-batch "${known[@]}" > "$work/batch" 2>&1 &
batch=$!
before=$(dispatched)
for _ in $(seq 100); do if [ "$(dispatched)" -gt $((before + 500)) ]; then break; fi; sleep 0.05; done
quiet podman restart "giostra-test-$$-broker" >/dev/null
if ! kill -0 "$batch" 2>/dev/null; then echo "the batch was over before the signal" >&2; exit 1; fi
wait "$batch"
cat "$work/batch"
quiet podman exec "giostra-test-$$-broker" giostra audit /var/log/giostra
