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

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use giostra_client::Client;
use giostra_transport::endpoint::Endpoint;
use giostra_transport::lock::{Error, Lock};
use giostra_transport::service;
use log::info;

use super::common::CommonArgs;
use super::exit::Exit;
use super::failure::report_error;
use super::printed::stdout;
use super::up::folder::{Folder, cannot};
use super::up::program::find;
use demand::Estimator;
use engine::children::{Children, Local};
use engine::custom::Custom;
use engine::slurm::Slurm;
use engine::ssh::Ssh;
use engine::{Engine, Launch};
pub use help::SCALE;
pub use options::Scale;
use options::{Place, Shared};
use policy::{Limits, Policy};
use scaler::{Scaler, Told};

/// How long what a killed predecessor was about to start may take to be listed.
const SETTLING: Duration = Duration::from_secs(10);

/// Runs the command. `client` connects to the broker.
pub fn run<'a>(
    scale: &Scale,
    common: &CommonArgs,
    client: impl FnOnce() -> anyhow::Result<&'a mut Client>,
) -> anyhow::Result<Exit> {
    let shared = scale.shared();
    let mut engine = match engine(scale, common) {
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
    let name = shared.name(&common.pool).map_err(anyhow::Error::msg)?;
    let path = folder.join(format!("{name}.lock"));
    let was_killed = path.exists();
    let _lock = match Lock::take(&path) {
        Ok(lock) => lock,
        Err(Error::InUse(_, holder)) => {
            let process = holder.map(|pid| format!(" (process {pid})")).unwrap_or_default();
            bail!("giostra scale runs already under this name{process}: --name takes another one")
        }
        Err(error) => return Err(error.into()),
    };
    let client = client()?;
    // Without a broker it fails as the other commands do; later it waits for one.
    client.status()?;
    engine.check().map_err(anyhow::Error::msg)?;
    let limits = Limits {
        min: shared.min,
        max: shared.max,
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
    if was_killed && scaler.engine.outlives() {
        info!("an earlier one was killed: waiting for {SETTLING:?} for what it was about to start");
        if let Err(error) = scaler.client.next_reply(Some(SETTLING)) {
            return exit_after(error);
        }
    }
    service::ready("scaling");
    let Err(ended) = scaler.run();
    service::stopping(Duration::from_secs(40), "ending");
    engine.end();
    exit_after(ended)
}

/// A signal is how it is meant to end.
fn exit_after(error: giostra_client::Error) -> anyhow::Result<Exit> {
    match error {
        giostra_client::Error::Interrupted => Ok(Exit::Success),
        error => Err(error.into()),
    }
}

/// Returns the engine that the options describe.
///
/// # Errors
/// What is wrong with the options.
fn engine(scale: &Scale, common: &CommonArgs) -> Result<Box<dyn Engine>, String> {
    let shared = scale.shared();
    if shared.min > shared.max {
        return Err(format!("--min {} is more than --max {}", shared.min, shared.max));
    }
    let limit = shared.command_timeout;
    Ok(match scale {
        Scale::Local(_) => {
            let mut launch = launch(shared, common, true, &[])?;
            if shared.worker.is_none() {
                // Their lines come among those of this program, which says who comes and goes.
                launch.options.splice(0..0, ["--log-level", "warn"].map(String::from));
            }
            Box::new(Local { launch, ends_with_this: shared.worker.is_none(), children: Children::default() })
        }
        Scale::Custom(options) => {
            let options::Custom { start, list, stop, .. } = options.clone();
            Box::new(Custom { launch: launch(shared, common, true, &[])?, start, list, stop, limit })
        }
        Scale::Slurm(options) => {
            reachable(shared)?;
            let lifetime = options.lifetime()?;
            let times = [("--lifetime", lifetime), ("--grace", options.grace())];
            Box::new(Slurm {
                launch: launch(shared, common, true, &times)?,
                options: options.options(),
                threads: shared.threads,
                walltime: options.walltime,
                grace: options.grace(),
                output: options
                    .output
                    .clone()
                    .map_or_else(|| Folder::of(None).map(|it| it.scale()), Ok)
                    .map_err(|e| e.to_string())?,
                limit,
            })
        }
        Scale::Ssh(options) => ssh(options, common)?,
    })
}

fn ssh(options: &options::Ssh, common: &CommonArgs) -> Result<Box<dyn Engine>, String> {
    let shared = &options.shared;
    let mut places = options.host.clone();
    if let Some(path) = &options.hosts {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        places.extend(options::places(&text).map_err(|wrong| format!("{}: {wrong}", path.display()))?);
    }
    let backend = match shared.endpoint() {
        Some(Endpoint::Tcp(host, port)) => format!("{host}:{port}"),
        Some(Endpoint::Ipc(path)) if !path.starts_with('@') => path,
        _ => return Err(format!("--backend {}: ssh makes no tunnel to it", shared.backend)),
    };
    let mut launch = launch(shared, common, false, &[])?;
    let mut push = None;
    if shared.worker.is_none() {
        launch.program = vec!["giostra-worker".into()];
        if options.push {
            push = Some(beside("giostra-worker")?);
            launch.program = vec![format!(".cache/giostra/giostra-worker-{}", env!("CARGO_PKG_VERSION"))];
        }
    }
    Ok(Box::new(Ssh {
        launch,
        hosts: places.into_iter().map(|Place { host, most }| (host, most)).collect(),
        backend,
        options: options.ssh_option.clone(),
        push,
        limit: shared.command_timeout,
        children: Children::default(),
        places: BTreeMap::new(),
        pushed: Vec::new(),
    }))
}

/// Returns how a worker is started.
fn launch(
    shared: &Shared,
    common: &CommonArgs,
    with_broker: bool,
    times: &[(&str, Duration)],
) -> Result<Launch, String> {
    let program = match &shared.worker {
        Some(words) => shlex::split(words).filter(|words| !words.is_empty()).ok_or("--worker: a quote is open")?,
        None => vec![beside("giostra-worker")?],
    };
    let mut options: Vec<String> = Vec::new();
    let mut add = |name: &str, value: String| options.extend([name.to_string(), value]);
    if with_broker {
        add("--broker", shared.backend.clone());
    }
    add("--pool", common.pool.clone());
    add("--threads", shared.threads.to_string());
    if let Some(keys) = &shared.worker_keys {
        let broker_key = common.broker_key.clone().ok_or("--worker-keys also needs --broker-key")?;
        add("--keys", keys.display().to_string());
        add("--broker-key", broker_key);
    }
    for (name, time) in times {
        add(name, humantime::format_duration(*time).to_string().replace(' ', ""));
    }
    if shared.min == 0 {
        // Should this program end before them.
        add("--idle-timeout", humantime::format_duration(shared.idle_timeout()).to_string().replace(' ', ""));
    }
    options.extend(shared.worker_options.iter().cloned());
    Ok(Launch { program, options, name: shared.name(&common.pool)? })
}

/// Checks that workers on other hosts can reach the broker.
fn reachable(shared: &Shared) -> Result<(), String> {
    if shared.endpoint().is_none_or(|endpoint| endpoint.is_local()) {
        return Err(format!(
            "workers on other hosts can't reach {}, an address of this host alone: start the broker with \
             --backend tcp://ADDRESS:5556 and with keys (docs/cluster.md), and say --backend tcp://HOST:5556 here; or \
             use giostra scale ssh, whose workers come through a tunnel",
            shared.backend
        ));
    }
    Ok(())
}

fn beside(program: &str) -> Result<String, String> {
    find(program).map(|path| path.display().to_string()).map_err(|error| error.to_string())
}
