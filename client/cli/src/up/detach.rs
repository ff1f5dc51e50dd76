//! `up --detach`: starts another `up` in the background, and waits until it is ready.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use giostra_common::signals::{self, unmasked};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::folder::{Folder, cannot};
use super::record::Record;
use super::supervisor;
use crate::exit::Exit;
use crate::printed::stdout;

/// The variable that tells the process in the background what it is.
pub const IN_BACKGROUND: &str = "GIOSTRA_UP_IN_BACKGROUND";

/// The time between two looks whether it is ready.
const TICK: Duration = Duration::from_millis(20);

/// Starts this program again with the same options, in the background. Returns once all is ready.
pub fn run(folder: &Folder, json: bool) -> anyhow::Result<Exit> {
    folder.create()?;
    supervisor::refuse_second(folder)?;
    let path = folder.output();
    let output = File::create(&path).with_context(|| cannot("write", &path))?;
    let shutdown = signals::shutdown().context("can't listen for signals")?;
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).env(IN_BACKGROUND, "true");
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let mut child = unmasked(|| command.spawn()).context("can't start it in the background")?;
    loop {
        if shutdown.requested() {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?;
            child.wait()?;
            return Ok(Exit::Interrupted);
        }
        if let Some(record) = Record::read(folder).filter(|record| record.pid == child.id() && record.ready) {
            if json {
                writeln!(stdout(), "{}", serde_json::to_string(&record)?)?;
            } else {
                write!(stdout(), "{}", supervisor::ready(&record, "giostra down"))?;
            }
            return Ok(Exit::Success);
        }
        if child.try_wait()?.is_some() {
            let said = fs::read_to_string(&path).unwrap_or_default();
            let last: Vec<_> = said.lines().rev().take(20).collect();
            bail!("it did not start:\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        thread::sleep(TICK);
    }
}
