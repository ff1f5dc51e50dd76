//! `up --detach`: starts another `up` in the background, and waits until it is ready.

use std::env;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use giostra_common::signals::{self, unmasked};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::folder::{Folder, cannot};
use super::program::IN_BACKGROUND;
use super::record::Record;
use super::supervisor;
use crate::exit::Exit;
use crate::failure;
use crate::printed::stdout;

/// The number of lines that are shown if it does not start.
const LAST_LINES: usize = 20;

/// The time between two looks whether it is ready.
const TICK: Duration = Duration::from_millis(20);

/// Starts this program again with the same options, in the background. Returns once all is ready.
pub fn run(folder: &Folder, json: bool) -> anyhow::Result<Exit> {
    folder.create()?;
    supervisor::refuse_second(folder)?;
    let path = folder.starting(std::process::id());
    let create = || File::options().read(true).write(true).create(true).truncate(true).open(&path);
    let mut said = create().with_context(|| cannot("write", &path))?;
    let output = said.try_clone()?;
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
            let mut text = Vec::new();
            let _ = said.rewind().and_then(|()| said.read_to_end(&mut text).map(drop));
            let _ = fs::remove_file(&path);
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(LAST_LINES)..].iter().for_each(|line| failure::report_more(line));
            bail!("it did not start; above is what it says");
        }
        thread::sleep(TICK);
    }
}
