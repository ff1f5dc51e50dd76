//! Questions and orders to what is up: by its record, and by signals to the process that has its lock.

use std::io::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use giostra_transport::lock::Lock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::folder::Folder;
use super::record::Record;
use super::{PATIENCE, START};
use crate::exit::Exit;
use crate::printed::stdout;

/// The time between two looks at what was asked for.
const TICK: Duration = Duration::from_millis(20);

/// How long a process that is killed may take until it is gone.
const KILLED: Duration = Duration::from_secs(10);

/// Shows what is up.
pub fn status(folder: &Folder, json: bool) -> anyhow::Result<Exit> {
    let record = what_is_up(folder)?;
    if json {
        writeln!(stdout(), "{}", serde_json::to_string(&record)?)?;
        return Ok(Exit::Success);
    }
    let mut out = stdout();
    for process in &record.processes {
        match &process.ended {
            None => writeln!(out, "{:10} process {}", process.name, process.pid)?,
            Some(how) => writeln!(out, "{:10} ended {how}", process.name)?,
        }
    }
    let page = record.page.as_deref().unwrap_or("off");
    let keys = if record.secure { "needed" } else { "none" };
    for (name, value) in [
        ("clients", record.frontend.as_str()),
        ("workers", &record.backend),
        ("page", page),
        ("keys", keys),
        ("log", &record.log),
        ("store", &record.store),
        ("variables", &record.variables),
    ] {
        writeln!(out, "{name:10} {value}")?;
    }
    Ok(Exit::Success)
}

/// Prints the id of a process that is up.
pub fn pid(folder: &Folder, name: &str) -> anyhow::Result<Exit> {
    let record = what_is_up(folder)?;
    let names = || record.processes.iter().map(|process| process.name.as_str()).collect::<Vec<_>>().join(", ");
    let process = record.process(name).with_context(|| format!("there is no {name}, but {}", names()))?;
    ensure!(process.is_alive(), "{name} does not run; giostra up --again starts it again");
    writeln!(stdout(), "{}", process.pid)?;
    Ok(Exit::Success)
}

/// Has the workers started again that have ended. Returns once they are registered.
pub fn again(folder: &Folder) -> anyhow::Result<Exit> {
    let record = what_is_up(folder)?;
    ensure!(record.ready, "it is still being started");
    let names = record.ended();
    if names.is_empty() {
        writeln!(stdout(), "all run")?;
        return Ok(Exit::Success);
    }
    kill(Pid::from_raw(record.pid as i32), Signal::SIGUSR1).context("can't tell giostra up")?;
    let until = Instant::now() + START;
    loop {
        let now = what_is_up(folder)?;
        if now.ready && now.restarts > record.restarts {
            ensure!(now.ended().is_empty(), "{names} could not be started again: giostra up shows why");
            writeln!(stdout(), "{names} registered")?;
            return Ok(Exit::Success);
        }
        ensure!(Instant::now() < until, "{names} did not register within {START:?}");
        sleep(TICK);
    }
}

/// Ends what is up, also what a killed `up` has left.
pub fn down(folder: &Folder, now: bool) -> anyhow::Result<Exit> {
    if !folder.exists() {
        writeln!(stdout(), "nothing was up")?;
        return Ok(Exit::Success);
    }
    let (lock, was_up) = match folder.lock()? {
        Ok(lock) => (lock, false),
        Err(holder) => (end(folder, holder.context("its process is not known")?, now)?, true),
    };
    let patience = if now { Duration::ZERO } else { PATIENCE };
    let left = Record::read(folder).map(|record| record.end_leftovers(patience)).unwrap_or_default();
    folder.clear(false)?;
    drop(lock);
    let what = match (was_up, left.is_empty()) {
        (true, true) => "down".into(),
        (false, true) => "nothing was up".into(),
        (_, false) => format!("down; ended what was left: {}", left.join(", ")),
    };
    writeln!(stdout(), "{what}")?;
    Ok(Exit::Success)
}

/// Ends the process that has the lock. Returns the lock.
fn end(folder: &Folder, holder: u32, now: bool) -> anyhow::Result<Lock> {
    let up = Pid::from_raw(holder as i32);
    let signal = if now { Signal::SIGKILL } else { Signal::SIGTERM };
    kill(up, signal).with_context(|| format!("can't end process {holder}"))?;
    let _ = kill(up, Signal::SIGCONT);
    // The workers, then the broker.
    let until = Instant::now() + if now { KILLED } else { 2 * PATIENCE + KILLED };
    loop {
        if let Ok(lock) = folder.lock()? {
            return Ok(lock);
        }
        if Instant::now() > until {
            bail!("process {holder} does not end; giostra down --now kills it, and all that it has started");
        }
        sleep(TICK);
    }
}

fn what_is_up(folder: &Folder) -> anyhow::Result<Record> {
    // Not by the lock: one who only looks is not to be in the way of one who starts.
    match Record::read(folder).filter(Record::is_up) {
        Some(record) => Ok(record),
        None => bail!("nothing is up in {}; giostra up starts it", folder.name().display()),
    }
}
