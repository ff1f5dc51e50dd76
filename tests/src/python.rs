//! The examples in Python (`docs/examples`), as processes.
//!
//! `just test` installs the interpreter with what they need; [`available`] says whether it is there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::Process;

/// Whether the interpreter that `just _python` makes is there, new enough for the examples, and has their libraries.
pub fn available() -> Result<()> {
    let needs = "import sys, msgpack, zmq; sys.exit(sys.version_info < (3, 10))";
    let interpreter = interpreter();
    let asked = Command::new(&interpreter).args(["-c", needs]).output();
    let output = asked.with_context(|| format!("there is no {}, which `just test` makes", interpreter.display()))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "no Python 3.10 with pyzmq and msgpack: {}", complaint.trim());
    Ok(())
}

/// Starts an example; `name` is what its output files in `folder` are called.
pub fn start<A: AsRef<OsStr>>(folder: &Path, name: &str, example: &str, args: &[A]) -> Result<Process> {
    let mut command = Command::new(interpreter());
    // -B: the examples' folder stays as it is.
    command.arg("-B").arg(root().join("docs/examples").join(example)).args(args);
    Process::spawn(folder, name, command)
}

fn interpreter() -> PathBuf {
    root().join("target/python/bin/python")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests' package is in the workspace's folder")
}
