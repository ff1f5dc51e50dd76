# Giostra: `just up` runs a broker and three workers, `just test` passes the tests. `just --list` explains the rest.

set shell := ["bash", "-euo", "pipefail", "-c"]

# What `up` starts keeps what belongs to it here; the broker's log is in .run/log.
run := env("GIOSTRA_RUN_DIR", justfile_directory() / ".run")
bin := justfile_directory() / "target" / "release"
just := just_executable()
programs := "-p giostra-broker -p giostra-worker-cli -p giostra"

# List the recipes
default:
    @just --list --unsorted

# Build the programs, optimised
build:
    cargo build --release {{ programs }}

# Make what people install: a tarball, a Debian package, an image, a list of components (target/packages; PROFILE release: sooner)
dist profile="dist":
    @deploy/dist.sh target/packages {{ profile }}

# Make what `just dist` makes of the programs of `just build`, install it in bare roots, and have it compute (needs root)
packages-test: build _packaging
    @PROGRAMS="{{ bin }}" deploy/dist.sh target/packages-test
    @tests/packages/run.sh target/packages-test
    @tests/packages/boot.sh target/packages-test

# Run giostra scale with a real Slurm, an OpenPBS where there is one, a real sshd and two hosts, each a network namespace (minutes; needs root; docs/cluster.md)
cluster-test: _cluster
    cargo build -p giostra -p giostra-broker -p giostra-worker-cli
    @CI=true cargo test -p giostra-tests --test cluster -- --nocapture --test-threads 1

# Build OpenPBS for `just cluster-test`, which leaves it out otherwise (minutes; needs root and Debian)
openpbs prefix="/opt/pbs":
    @tests/openpbs.sh {{ prefix }}

# What the tests with a cluster need
_cluster:
    #!/usr/bin/env bash
    set -euo pipefail
    for program in slurmctld munged sshd ip; do
        if ! command -v "$program" >/dev/null; then
            apt-get install --yes --quiet --no-install-recommends slurm-wlm munge openssh-server openssh-client iproute2
            break
        fi
    done

# Check deploy/kubernetes and deploy/compose.yaml: schemas, the programs, what KEDA asks; with PACKAGES of `just dist` also run the containers (needs root and podman)
kubernetes-test *packages: build
    @tests/kubernetes/check.sh "{{ bin }}" {{ packages }}

# Make the packages again in another folder, and compare the bytes with those of `just dist`
dist-compare profile="dist":
    @deploy/compare.sh target/packages {{ profile }}

# Build the programs as they are shipped, for this host (target/dist): slower to build, a little faster to run
_dist_programs:
    cargo build --profile dist {{ programs }}

# The programs, and what drives them here: the demo, the fault hunt
_tools:
    cargo build --release --workspace

# Start a broker and three workers, show their log lines until Ctrl-C (--detach, --secure, --workers N: see giostra up --help)
[no-exit-message]
up *args: build
    @"{{ bin }}/giostra" up --dir "{{ run }}" --fresh {{ args }}

# End what `up` started
[no-exit-message]
down:
    @"{{ bin }}/giostra" down --dir "{{ run }}"

# Send COUNT random requests and check their results
[no-exit-message]
random count *args: (_giostra "random" count args)

# Ask for commands: random, an operation, status, help, exit
[no-exit-message]
prompt: (_giostra "prompt")

# Show the workers, their state and their share (--watch: again and again, --json)
[no-exit-message]
status *args: (_giostra "status" args)

# Watch the broker and its workers live, on the whole screen
[no-exit-message]
top *args: (_giostra "top" args)

# Show the broker's log, every dispatch included (-f: and follow it)
[no-exit-message]
logs *flags:
    @tail -n +1 {{ flags }} "{{ run }}/log/broker.log"

# Prove or refute from the broker's log that its promises were kept (--json, --request c1#17)
[no-exit-message]
audit *args:
    @"{{ bin }}/giostra" audit "{{ run }}/log" {{ args }}

# kill -9 worker N
[no-exit-message]
kill n: (_signal "KILL" n)

# Freeze worker N (SIGSTOP): the broker drops it when its ping replies stop
[no-exit-message]
freeze n: (_signal "STOP" n)

# Thaw worker N (SIGCONT): it registers anew
[no-exit-message]
thaw n: (_signal "CONT" n)

# Start the workers again that have ended, and wait until they are registered
[no-exit-message]
again:
    @"{{ bin }}/giostra" up --dir "{{ run }}" --again

# The whole story, unattended: a batch, a worker killed in the middle of it, the proof that nothing was lost (--jobs: a durable job, the broker killed, too; --secure: with keys)
[no-exit-message]
demo *args: _tools
    @"{{ bin }}/demo" {{ args }}

# Do what the README and the pages in docs/ say, and compare what comes out with what they show
[no-exit-message]
docs *pages: _tools _package
    @"{{ bin }}/docs" --project "{{ justfile_directory() }}" {{ pages }}

# Run all tests
test: _python _programs _javascript
    cargo build --workspace
    cargo test --workspace
    @"{{ just }}" _python_tests

# Make the wheel of the Python package, for glibc 2.17 and newer (target/wheels; PROFILE release: sooner)
wheel profile="dist": _python
    @deploy/wheel.sh target/python/bin/maturin target/wheels {{ profile }}

# Package the crates for a registry: target/crates/package (--check: and build a program that depends on them)
crates *args:
    deploy/crates.sh {{ args }}

# Drive the broker's core through SEEDS seeded runs of crashes, freezes, partitions and restarts; then with it the conversations of real workers and clients with one to three brokers
simulate seeds="3000" first="0":
    SIMULATION_SEEDS={{ seeds }} SIMULATION_FIRST_SEED={{ first }} cargo test --release -p giostra-core --test simulation promises -- --nocapture
    SIMULATION_SEEDS={{ seeds }} SIMULATION_FIRST_SEED={{ first }} cargo test --release -p giostra-tests --test simulation every_request -- --nocapture

# Fuzz each decoder for SECONDS seconds, on from what earlier runs have found (common/fuzz/corpus)
fuzz seconds="60":
    #!/usr/bin/env bash
    set -euo pipefail
    command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
    rustup toolchain list | grep ^nightly >/dev/null || rustup toolchain install nightly --profile minimal
    export CARGO_TARGET_DIR="{{ justfile_directory() }}/target/fuzz"
    cd "{{ justfile_directory() }}/common/fuzz"
    cargo +nightly run --quiet --example seeds corpus
    for target in $(cargo fuzz list); do
        echo "== $target"
        cargo +nightly fuzz run "$target" -- -max_total_time={{ seconds }} -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
    done

# Hunt for faults with real processes: kill, freeze and restart them under load; seed 0: a random one; --brokers N: several, known to all; --keep: keep the logs; --secure: with keys
[no-exit-message]
chaos seconds="30" seed="0" *args: _tools
    @"{{ bin }}/chaos" {{ seconds }} {{ seed }} {{ args }}

# A long run: REQUESTS requests, up to WORKERS workers that come and go, and the broker's memory watched meanwhile
[no-exit-message]
endurance requests="50000000" workers="1000": _tools
    @ulimit -n "$(ulimit -Hn)" && "{{ bin }}/endurance" {{ requests }} {{ workers }}

# Measure: beside the bare zmq_proxy (some minutes; or SCENARIO.., --rounds N), the core alone, the memory of pending requests
[no-exit-message]
bench *args:
    cargo build --profile dist --workspace
    @ulimit -n "$(ulimit -Hn)" && cargo bench --profile dist -p giostra-tests --bench performance -- {{ args }}
    cargo bench --profile dist -p giostra-tests --bench memory
    cargo bench --profile dist -p giostra-core --bench core

# The same jobs with GNU parallel, gearman and Giostra, in turns (docs/comparison.md; JOBS ROUNDS)
[no-exit-message]
compare *args: _dist_programs
    @tests/compare.sh {{ args }}

# Take the docs' pictures of the live page anew (docs/page*.png)
[no-exit-message]
screenshots: _tools _programs
    @"{{ bin }}/screenshots"

# Check formatting, and clippy without warnings
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo check --manifest-path common/fuzz/Cargo.toml --all-targets --target-dir target/fuzz

# Check the licences and sources of all that the programs are built from, and known advisories (needs the network, or --offline)
deny *args:
    command -v cargo-deny >/dev/null || cargo install cargo-deny --locked
    cargo deny {{ args }} check

# Format the code
fmt:
    cargo fmt --all

# What CI runs
ci:
    @.ci/run

# Have an interpreter, target/python/bin/python, with what the examples in Python need; without one their tests are ignored (in CI: fail)
_python:
    #!/usr/bin/env bash
    set -euo pipefail
    cd "{{ justfile_directory() }}"
    wanted=tests/python/requirements.txt
    folder=target/python
    if cmp -s "$wanted" "$folder/installed"; then exit; fi
    command -v python3 >/dev/null || { echo "no python3: goes on without" >&2; exit; }
    rm -rf "$folder" && mkdir -p "$folder/bin"
    install=(-m pip install --quiet --disable-pip-version-check --requirement "$wanted")
    if python3 -m venv "$folder" >/dev/null 2>&1; then
        "$folder/bin/python" "${install[@]}" || { echo "no pyzmq: goes on without" >&2; exit; }
    else
        # Some systems have Python without venv.
        rm -rf "$folder" && mkdir -p "$folder/bin"
        python3 "${install[@]}" --target "$folder/packages" || { echo "no pyzmq: goes on without" >&2; exit; }
        printf '#!/bin/sh\nPYTHONPATH="%s" exec python3 "$@"\n' "$PWD/$folder/packages" > "$folder/bin/python"
        chmod +x "$folder/bin/python"
    fi
    cp "$wanted" "$folder/installed"

# Have the Python package in target/python, built as the tests are
_package: _python
    #!/usr/bin/env bash
    set -euo pipefail
    cd "{{ justfile_directory() }}"
    python=target/python/bin/python wheels=target/python/wheels
    [ -x target/python/bin/maturin ] || { echo "no Python with venv: goes on without its package" >&2; exit; }
    rm -rf "$wheels"
    target/python/bin/maturin build --locked --quiet --manifest-path python/Cargo.toml --out "$wheels" --interpreter "$python"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-index --force-reinstall "$wheels"/*.whl

# The tests of the Python package, beside the programs of target/debug; without Python they are left out (in CI: fail)
_python_tests: _package
    #!/usr/bin/env bash
    set -euo pipefail
    cd "{{ justfile_directory() }}"
    if [ ! -x target/python/bin/maturin ]; then
        echo "the tests of the Python package are left out: there is no Python with venv" >&2
        [ "${CI:-}" != true ]
        exit
    fi
    GIOSTRA_BIN="$PWD/target/debug" GIOSTRA_WHEELS="$PWD/target/python/wheels" target/python/bin/python -m pytest --quiet -p no:cacheprovider python/tests

# Have target/javascript/node_modules with what the examples in JavaScript need; without node their tests are ignored (in CI: fail)
_javascript:
    #!/usr/bin/env bash
    set -euo pipefail
    cd "{{ justfile_directory() }}"
    wanted=tests/javascript/package-lock.json
    folder=target/javascript
    if cmp -s "$wanted" "$folder/installed"; then exit; fi
    command -v npm >/dev/null || { echo "no npm: goes on without" >&2; exit; }
    rm -rf "$folder" && mkdir -p "$folder" && cp tests/javascript/package*.json "$folder"
    # Its binaries come with zeromq; the install script would build others.
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent || { echo "no zeromq: goes on without" >&2; exit; }
    cp "$wanted" "$folder/installed"

# Have the programs of others that tests need: a browser, Prometheus, tcpdump, shells, groff, npm, systemd-analyze, logrotate; without them these are ignored (in CI: fail)
_programs:
    #!/usr/bin/env bash
    set -uo pipefail
    missing=()
    command -v chromium chromium-browser google-chrome >/dev/null || missing+=(chromium)
    command -v chromedriver >/dev/null || missing+=(chromium chromium-driver)
    command -v promtool >/dev/null || missing+=(prometheus)
    command -v npm >/dev/null || missing+=(nodejs npm)
    command -v systemd-analyze >/dev/null || missing+=(systemd)
    PATH="$PATH:/usr/sbin" command -v logrotate >/dev/null || missing+=(logrotate)
    for program in tcpdump zsh fish groff; do command -v "$program" >/dev/null || missing+=("$program"); done
    if [ ${#missing[@]} = 0 ]; then exit 0; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then echo "no ${missing[*]}: goes on without" >&2; exit 0; fi
    # Debian starts a server where it installs one, unless this says no.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod +x "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    (timeout 300 apt-get update && timeout 900 apt-get install -y --no-install-recommends "${missing[@]}") >/dev/null || echo "no ${missing[*]}: goes on without" >&2

# Have the programs of others that `packages-test` needs; without them it leaves out what they are for (in CI: fails)
_packaging:
    #!/usr/bin/env bash
    set -uo pipefail
    missing=()
    for program in mmdebstrap lintian jq shellcheck; do command -v "$program" >/dev/null || missing+=("$program"); done
    command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
    command -v objdump >/dev/null || missing+=(binutils)
    command -v ip >/dev/null || missing+=(iproute2)
    if [ ${#missing[@]} = 0 ]; then exit 0; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then echo "no ${missing[*]}: goes on without" >&2; exit 0; fi
    export DEBIAN_FRONTEND=noninteractive
    (timeout 300 apt-get update && timeout 900 apt-get install -y --no-install-recommends "${missing[@]}") >/dev/null || echo "no ${missing[*]}: goes on without" >&2

# The command line, for what is up: its ports, and its keys if it has any
[no-exit-message]
_giostra *args:
    @if [ -e "{{ run }}/env" ]; then source "{{ run }}/env"; fi; exec "{{ bin }}/giostra" {{ args }}

# Send worker N a signal
[no-exit-message]
_signal signal n:
    @pid=$("{{ bin }}/giostra" up --dir "{{ run }}" --pid worker-{{ n }}) && kill -{{ signal }} "$pid" && echo "SIG{{ signal }} to worker-{{ n }}"
