#!/usr/bin/env bash
# Packages the crates for a registry: target/crates/package/*.crate. With --check, a package that depends on them by their versions alone,
# as after `cargo add giostra-worker`, is built from what they hold.
#
# A registry's crate can't bring a patch along, so what depended on ours would have to patch zmq-sys. Therefore the packages are made in a
# copy, where zmq-sys has a name of its own, and so has crate zmq, whose source is as published: giostra-zmq-sys and giostra-zmq.
set -euo pipefail
cd "$(dirname "$0")/.."

check=
case "${1:-}" in
    "") ;;
    --check) check=yes ;;
    *) echo "usage: deploy/crates.sh [--check]" >&2; exit 2 ;;
esac

out="$PWD/target/crates"
copy="$out/workspace"
rm -rf "$out"
mkdir -p "$copy/common/zmq"
git ls-files -z | xargs -0 cp --parents -t "$copy"

# Crate zmq as published, but for its name and the package that its zmq-sys is.
manifest=$(cargo metadata --format-version 1 --locked | grep -o '"manifest_path":"[^"]*/zmq-[0-9.]*/Cargo.toml"' | cut -d'"' -f4)
zmq=$(dirname "$manifest")
version=${zmq##*/zmq-}
cp -r "$zmq"/{src,build.rs,README.md,LICENSE-APACHE,LICENSE-MIT} "$copy/common/zmq"
cat > "$copy/common/zmq/Cargo.toml" <<EOF
[package]
name = "giostra-zmq"
version = "$version"
edition = "2018"
description = "Crate zmq $version, unchanged, with the libzmq that Giostra needs in the place of zmq-sys"
license = "MIT OR Apache-2.0"
readme = "README.md"
repository = "https://github.com/erickt/rust-zmq"

[lib]
name = "zmq"
doctest = false

[features]
default = ["zmq_has"]
zmq_has = []

[dependencies]
bitflags = "1.0"
libc = "0.2.15"
zmq-sys.workspace = true
EOF

sed -i \
    -e "s|^zmq = .*|zmq = { package = \"giostra-zmq\", path = \"common/zmq\", version = \"=$version\" }|" \
    -e 's|^zmq-sys = "=\(.*\)"|zmq-sys = { package = "giostra-zmq-sys", path = "common/zmq-sys", version = "=\1" }|' \
    -e '/^\[patch.crates-io\]/,/^$/d' \
    -e 's|^    "python",$|    "common/zmq",|' -e '/^    "tests",$/d' "$copy/Cargo.toml"
sed -i -e 's|^name = "zmq-sys"|name = "giostra-zmq-sys"|' -e '/^publish = false/d' -e '/^\[dependencies\]/i [lib]\nname = "zmq_sys"\n' \
    "$copy/common/zmq-sys/Cargo.toml"

for folder in broker broker/core broker/store client client/audit client/cli common common/{protocol,signals,transport,zmq-sys} worker worker/program; do
    cp LICENSE-APACHE LICENSE-MIT "$copy/$folder"
done

# Cargo warns of each test that is not in a package, and of the repository's address, which has none yet: only errors are shown.
(cd "$copy" && cargo package --quiet --workspace --no-verify --target-dir "$out") 2>&1 | { grep -E '^error|^Caused|^  ' || true; } >&2
crates=("$out"/package/*.crate)
echo "${#crates[@]} crates in ${out#"$PWD"/}/package"
[ -n "$check" ] || exit 0

user="$out/user"
mkdir -p "$user/src"
cat > "$user/Cargo.toml" <<'EOF'
[package]
name = "user"
version = "0.1.0"
edition = "2024"

[workspace]

[dependencies]
giostra-client = "0.1"
giostra-worker = "0.1"

# In the place of the registry.
[patch.crates-io]
EOF
for crate in "${crates[@]}"; do
    tar -C "$user" -xzf "$crate"
    name=$(basename "$crate" .crate)
    echo "${name%-*} = { path = \"$name\" }" >> "$user/Cargo.toml"
done
cat > "$user/src/main.rs" <<'EOF'
fn main() -> Result<(), Box<dyn std::error::Error>> {
    giostra_client::Client::connect(giostra_client::Options::default())?;
    giostra_worker::Worker::new("tcp://127.0.0.1:5556")
        .operation("shout", |text: String| -> Result<_, String> { Ok(text.to_uppercase()) });
    println!("a program that depends on the crates alone runs");
    Ok(())
}
EOF
cp Cargo.lock "$user"
cargo run --quiet --manifest-path "$user/Cargo.toml" --target-dir "$out/target"
