#!/usr/bin/env bash
# The same jobs with GNU parallel, with gearman and with Giostra, each with eight slots: `just compare [JOBS] [ROUNDS]`. What is run by each stands
# below, in functions of its own. A job sleeps for 5 ms, so that the slots, and not the cores, are what there is little of.
set -euo pipefail
jobs=${1:-10000} rounds=${2:-3}
slots=8
bin=$(cd "$(dirname "$0")/../target/dist" && pwd)
for program in parallel gearman gearmand; do
    command -v $program >/dev/null || { echo "there is no $program; Debian: apt-get install parallel gearman-job-server gearman-tools" >&2; exit 1; }
done
folder=$(mktemp -d)
cd "$folder"
children=()
trap 'kill "${children[@]}" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
seq "$jobs" | sed 's/.*/0.005/' > lines

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
gearman=$(free_port) front=$(free_port) back=$(free_port)
export GIOSTRA_FRONTEND=tcp://127.0.0.1:$front GIOSTRA_BACKEND=tcp://127.0.0.1:$back

gearmand --listen 127.0.0.1 --port "$gearman" --log-file "$folder/gearmand.log" & children+=($!)
"$bin/giostra-broker" --log-dir log --stderr-level off & children+=($!)
"$bin/giostra-worker" --threads $slots --pool programs --exec sleep --log-level off & children+=($!)
"$bin/giostra-worker" --threads $slots --log-level off & children+=($!)
sleep 1
for _ in $(seq $slots); do
    gearman -w -h 127.0.0.1 -p "$gearman" -f nap -- sh -c 'read -r time; exec sleep "$time"' & children+=($!)
done

with_xargs() { xargs -P $slots -n 1 sleep < lines; }
with_parallel() { parallel -j $slots sleep < lines; }
with_gearman() { split -n r/$slots --filter="gearman -h 127.0.0.1 -p $gearman -f nap -n >/dev/null" lines; }
with_programs() { "$bin/giostra" map sleep --pool programs --quiet < lines > /dev/null; }
with_function() { "$bin/giostra" map sleep --quiet < lines > /dev/null; }

for round in $(seq "$rounds"); do
    for way in xargs parallel gearman programs function; do
        begin=$(date +%s%N)
        "with_$way"
        end=$(date +%s%N)
        echo "$(((end - begin) / 1000000))" >> "$way.ms"
    done
done

echo "$jobs jobs of 5 ms, $slots at a time; rounds: $rounds, in turns, medians; $(nproc) cores: $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)"
median() { sort -n "$1" | sed -n "$(((rounds + 1) / 2))p"; }
ideal=$((jobs * 5 / slots))
printf '%-42s %8s %10s %8s\n' "" seconds "of ideal" "a job"
row() {
    local ms
    ms=$(median "$2.ms")
    printf '%-42s %8.2f %10.2f %5.2f ms\n' "$1" "${ms}e-3" "$(echo "$ms $ideal" | awk '{print $1 / $2}')" "$(echo "$ms $jobs $slots" | awk '{print $1 * $3 / $2}')"
}
row "xargs -P $slots, a process each" xargs
row "GNU parallel $(parallel --version | awk 'NR == 1 {print $3}'), a process each" parallel
row "gearman $(gearmand --version | awk 'NF {print $2; exit}'), a process each" gearman
row "Giostra, a process each (--exec)" programs
row "Giostra, an operation (sleep)" function
