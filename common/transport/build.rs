//! Refuses to compile with crates.io's `zmq-sys`, and says which two lines are missing.
//!
//! Without this it would not compile, either: for want of names that say nothing to the user of a
//! crate that depends on this one.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // What the build script of common/zmq-sys has printed; see the links key in Cargo's manual.
    println!("cargo::rerun-if-env-changed=DEP_ZMQ_GIOSTRA");
    if env::var_os("DEP_ZMQ_GIOSTRA").is_some() {
        return;
    }
    let lines = [
        "zmq-sys is the one of crates.io, which builds libzmq without keys (CURVE) and without the",
        "notices of broken connections. Add to the Cargo.toml of your package, or of its workspace:",
        "",
        "    [patch.crates-io]",
        &format!("    zmq-sys = {}", source()),
    ];
    lines.iter().for_each(|line| println!("cargo::error={line}"));
}

/// Returns where the other `zmq-sys` is, in the syntax of a dependency.
fn source() -> String {
    let here = env::var("CARGO_MANIFEST_DIR").expect("set by Cargo");
    match Path::new(&here).parent().map(|common| common.join("zmq-sys")) {
        // A checkout of Cargo's: the folder has another name after each update.
        Some(_) if here.contains("/git/checkouts/") => "{ git = \"..\" }    # as for giostra".into(),
        Some(beside) if beside.join("Cargo.toml").is_file() => format!("{{ path = \"{}\" }}", beside.display()),
        _ => "{ path = \"../giostra/common/zmq-sys\" }    # in a clone of Giostra's repository".into(),
    }
}
