//! `giostra scale`: starts and ends workers by what there is to compute, on an engine that people have.
//!
//! It is a process of its own beside the broker, which it asks for its status: it is not needed for
//! anything but the number of workers, and may end and come back at any time. [`policy`] decides,
//! [`engine`] acts, [`scaler`] goes round.

mod command;
mod demand;
mod engine;
mod help;
mod options;
mod policy;
mod scaler;
mod setup;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use giostra_client::{Client, Error};
use giostra_transport::lock::{self, Lock};
use giostra_transport::service;

use super::common::CommonArgs;
use super::exit::Exit;
use super::failure::report_error;
use super::printed::stdout;
use super::up::folder::{Folder, cannot};
use demand::Estimator;
pub use help::SCALE;
pub use options::Scale;
use policy::{Limits, Policy};
use scaler::{Scaler, Told};

/// Runs the command. `client` connects to the broker.
pub fn run<'a>(
    scale: &Scale,
    common: &CommonArgs,
    client: impl FnOnce() -> anyhow::Result<&'a mut Client>,
) -> anyhow::Result<Exit> {
    let shared = scale.shared();
    let engine = shared.name(&common.pool).and_then(|name| Ok((name, setup::engine(scale, common)?)));
    let (name, mut engine) = match engine {
        Ok(engine) => engine,
        Err(wrong) => {
            report_error(wrong);
            return Ok(Exit::Usage);
        }
    };
    if shared.print {
        write!(stdout(), "{}", engine.script())?;
        return Ok(Exit::Success);
    }
    let folder = Folder::of(None)?.scale();
    fs::create_dir_all(&folder).with_context(|| cannot("make", &folder))?;
    let path = folder.join(format!("{name}.lock"));
    let was_killed = path.exists();
    let _lock = if shared.dry_run { None } else { Some(take(&path)?) };
    let client = client()?;
    // Without a broker it fails as the other commands do; later it waits for one.
    client.status()?;
    engine.check().map_err(anyhow::Error::msg)?;
    let limits = Limits {
        min: shared.min,
        max: shared.max.min(engine.most()),
        threads: shared.threads,
        horizon: shared.horizon,
        cool_down: shared.cool_down,
        listed_within: engine.listed_within(),
    };
    let mut scaler = Scaler {
        engine: &mut *engine,
        policy: Policy::new(limits),
        client,
        endpoint: &common.broker,
        pool: &common.pool,
        interval: shared.interval,
        estimator: Estimator::default(),
        told: Told::default(),
    };
    if shared.dry_run {
        let lines = scaler.rehearse()?;
        writeln!(stdout(), "{}", lines.join("\n"))?;
        return Ok(Exit::Success);
    }
    let ended = scaler.settle(was_killed).and_then(|()| scaler.run());
    service::stopping(Duration::from_secs(40), "ending");
    engine.end();
    match ended {
        // A signal is how it is meant to end.
        Err(Error::Interrupted) => Ok(Exit::Success),
        Err(error) => Err(error.into()),
    }
}

/// Takes the right to be the one of this name.
fn take(path: &Path) -> anyhow::Result<Lock> {
    match Lock::take(path) {
        Ok(lock) => Ok(lock),
        Err(lock::Error::InUse(_, holder)) => {
            let process = holder.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            bail!("giostra scale runs already under this name{process}: --name takes another one")
        }
        Err(error) => Err(error.into()),
    }
}
