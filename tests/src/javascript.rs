//! The examples in JavaScript (`docs/protocol/*.mjs`), as processes.
//!
//! `just test` installs what they need; [`available`] says whether it is there.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::Process;
use crate::trials::{Missing, program};

/// Whether Node 18 or newer is there, and the packages that `just _javascript` installs.
pub fn available() -> Result<()> {
    let node = program("node", "nodejs, 18 or newer")?;
    let version = Command::new(node).args(["-p", "parseInt(process.versions.node)"]).output()?;
    let version: u32 = String::from_utf8(version.stdout)?.trim().parse().context("node says no version")?;
    if version < 18 {
        return Err(Missing(format!("node is {version}; the examples need 18 or newer")).into());
    }
    let zeromq = packages().join("zeromq");
    match zeromq.is_dir() {
        true => Ok(()),
        false => Err(Missing(format!("there is no {}; `just test` installs it", zeromq.display())).into()),
    }
}

/// Starts an example from a copy in `folder`, beside which node finds the packages; `name` is what
/// its output files in there are called.
pub fn start<A: AsRef<str>>(folder: &Path, name: &str, example: &str, args: &[A]) -> Result<Process> {
    let copies = folder.join(format!("{name}-examples"));
    fs::create_dir_all(&copies)?;
    for file in ["connection.mjs", "client.mjs", "worker.mjs"] {
        fs::copy(root().join("docs/protocol").join(file), copies.join(file))?;
    }
    match symlink(packages(), copies.join("node_modules")) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let mut command = Command::new("node");
    command.arg(copies.join(example)).args(args.iter().map(AsRef::as_ref));
    Process::spawn(folder, name, command)
}

fn packages() -> PathBuf {
    root().join("target/javascript/node_modules")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests' package is in the workspace's folder")
}
