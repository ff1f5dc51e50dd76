//! The examples in Python (`docs/protocol`), as processes.
//!
//! `just test` installs the interpreter with what they need; [`available`] says whether it is
//! there.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use giostra_transport::keys::{PUBLIC_SUFFIX, SECRET_SUFFIX};

use crate::process::Process;
use crate::trials::Missing;

/// Whether the interpreter that `just _python` makes is there, new enough for the examples, and has
/// their libraries.
pub fn available() -> Result<()> {
    let needs = "import sys, msgpack, zmq; sys.exit(sys.version_info < (3, 10))";
    let interpreter = interpreter();
    let asked = Command::new(&interpreter).args(["-c", needs]).output();
    let Ok(output) = asked else {
        let what = format!(
            "there is no {}; install python3 and python3-venv, and `just test` makes it",
            interpreter.display()
        );
        return Err(Missing(what).into());
    };
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let what = format!("no Python 3.10 with pyzmq and msgpack in {}: {}", interpreter.display(), complaint.trim());
        return Err(Missing(what).into());
    }
    Ok(())
}

/// Starts an example; `name` is what its output files in `folder` are called.
pub fn start<A: AsRef<OsStr>>(folder: &Path, name: &str, example: &str, args: &[A]) -> Result<Process> {
    let mut command = Command::new(interpreter());
    // -B: the examples' folder stays as it is.
    command.arg("-B").arg(root().join("docs/protocol").join(example)).args(args);
    Process::spawn(folder, name, command)
}

/// Starts a program of one's own, which may import the examples; the same otherwise.
pub fn start_code<A: AsRef<OsStr>>(folder: &Path, name: &str, code: &str, args: &[A]) -> Result<Process> {
    let mut command = Command::new(interpreter());
    let preamble = format!("import sys; sys.path.insert(0, {:?})\n", root().join("docs/protocol"));
    command.arg("-Bc").arg(preamble + code).args(args);
    Process::spawn(folder, name, command)
}

/// Has pyzmq make certificates, `NAME.key` and `NAME.key_secret`, in a folder. Unlike pyzmq it
/// leaves the secret one to its owner alone.
pub fn make_keys(folder: &Path, name: &str) -> Result<()> {
    make_exposed_keys(folder, name)?;
    let secret = folder.join(format!("{name}.{SECRET_SUFFIX}"));
    Ok(fs::set_permissions(secret, Permissions::from_mode(0o600))?)
}

/// The same, the secret one as pyzmq leaves it under the usual umask: readable by all.
pub fn make_exposed_keys(folder: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    let code = "import os, sys, zmq.auth; os.umask(0o022); zmq.auth.create_certificates(*sys.argv[1:])";
    let output = Command::new(interpreter()).args(["-c", code]).arg(folder).arg(name).output()?;
    ensure!(output.status.success(), "pyzmq makes no keys: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(folder.join(format!("{name}.{PUBLIC_SUFFIX}")).is_file(), "pyzmq calls its files otherwise");
    Ok(())
}

fn interpreter() -> PathBuf {
    root().join("target/python/bin/python")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests' package is in the workspace's folder")
}
