# What the cases share. To be sourced, in the namespaces that run.sh makes.
# shellcheck shell=bash
set -euo pipefail

# What a kernel gives to each root, and a network with a loopback device.
prepare() {
    mkdir -p "$1"/{proc,dev,tmp}
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    ip link set lo up
}

# The commands of a section of docs/install.md, which are its indented lines: page HEADING
page() {
    awk -v heading="## $1" '$0 == heading { on = 1; next } /^## / { on = 0 } on && sub(/^    /, "")' docs/install.md
}

# Fails unless a file has a line: expect FILE PATTERN
expect() {
    grep -q -- "$2" "$1" || { echo "no \"$2\" in:" >&2; cat "$1" >&2; return 1; }
}

# Runs a command with its output in a file, and says how long it took: timed FILE COMMAND ..
timed() {
    local file=$1 start=${EPOCHREALTIME/[.,]/}
    shift
    "$@" >"$file" 2>&1 || { cat "$file" >&2; return 1; }
    echo "installed in $(((${EPOCHREALTIME/[.,]/} - start) / 1000)) ms"
}

terminate() { kill -TERM "$1"; }

# A broker and three workers by hand, requests through them, the audit of what happened, and an end in
# order: session FOLDER COMMAND .., where COMMAND runs another one in its root, and FOLDER is there.
session() {
    local folder=$1 worker pid out pids
    shift
    out=$(mktemp -d)
    "$@" giostra-broker --log-dir "$folder/log" --store "$folder/store" >"$out/broker" 2>&1 &
    pids=($!)
    for worker in 1 2 3; do
        "$@" giostra-worker --name "worker-$worker" >"$out/worker-$worker" 2>&1 &
        pids=($! "${pids[@]}")
    done
    if ! "$@" giostra random 3000 --wait-workers 3 >"$out/random" 2>&1; then cat "$out"/* >&2; return 1; fi
    expect "$out/random" 'answered  *3000, all of them'
    # Workers first. Each ends by itself.
    for pid in "${pids[@]}"; do
        terminate "$pid"
        wait "$pid" || { echo "process $pid ended with $?" >&2; cat "$out"/* >&2; return 1; }
    done
    "$@" giostra audit "$folder/log" >"$out/audit"
    expect "$out/audit" '^proved'
    head -n 2 "$out/random"
    rm -rf "$out"
}

# The same by `giostra up`: together FOLDER COMMAND ..
together() {
    local folder=$1 out
    shift
    out=$(mktemp)
    "$@" giostra up --detach --workers 3 --dir "$folder"
    "$@" giostra random 3000 --wait-workers 3 >"$out" || { cat "$out" >&2; return 1; }
    expect "$out" 'answered  *3000, all of them'
    "$@" giostra up --status --dir "$folder"
    "$@" giostra down --dir "$folder"
    "$@" giostra audit "$folder/log" >"$out"
    expect "$out" '^proved'
    if pgrep giostra; then echo "these were left running" >&2; return 1; fi
    rm "$out"
}
