//! Which engine the options describe, and how it is to start workers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use giostra_transport::endpoint::Endpoint;
use giostra_transport::keys::Credentials;
use nix::unistd::{User, geteuid};

use super::engine::children::{Children, Local};
use super::engine::custom::Custom;
use super::engine::pbs::Pbs;
use super::engine::slurm::Slurm;
use super::engine::ssh::{Hosts, Ssh};
use super::engine::{Engine, Launch};
use super::options::{self, Jobs, Place, Scale, Shared};
use crate::common::CommonArgs;
use crate::up::folder::Folder;
use crate::up::program::find;

/// Returns the engine that the options describe.
///
/// # Errors
/// What is wrong with the options.
pub fn engine(scale: &Scale, common: &CommonArgs) -> Result<Box<dyn Engine>, String> {
    if common.broker.contains(',') {
        return Err(format!("--broker {}: giostra scale looks after one broker: name it alone", common.broker));
    }
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
            Box::new(Slurm {
                launch: launch(shared, common, true, &times(&options.jobs)?)?,
                options: options.options(),
                threads: shared.threads,
                walltime: options.jobs.walltime,
                grace: options.jobs.grace(),
                output: output(&options.jobs)?,
                limit,
            })
        }
        Scale::Pbs(options) => {
            reachable(shared)?;
            Box::new(Pbs {
                launch: launch(shared, common, true, &times(&options.jobs)?)?,
                queue: options.queue.clone(),
                chunk: options.chunk(shared.threads),
                options: options.options(),
                walltime: options.jobs.walltime,
                output: output(&options.jobs)?,
                user: user()?,
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
        hosts: Hosts::new(places.into_iter().map(|Place { host, most }| (host, most))),
        backend,
        options: options.ssh_option.clone(),
        push,
        limit: shared.command_timeout,
        children: Children::default(),
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
        let broker_key = common.broker_key.as_deref().ok_or("--worker-keys also needs --broker-key")?;
        if keys.exists() {
            // What the workers would refuse.
            Credentials::from_flags(Some(keys), Some(broker_key)).map_err(|error| error.to_string())?;
        }
        add("--keys", absolute(keys)?);
        // A key, or the file of one.
        let is_file = Path::new(broker_key).exists();
        add("--broker-key", if is_file { absolute(Path::new(broker_key))? } else { broker_key.into() });
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

/// Returns the options by which a worker leaves before its job's time limit.
fn times(jobs: &Jobs) -> Result<[(&'static str, Duration); 2], String> {
    Ok([("--lifetime", jobs.lifetime()?), ("--grace", jobs.grace())])
}

/// Returns the name of the user whose jobs they are.
fn user() -> Result<String, String> {
    let id = geteuid();
    match User::from_uid(id) {
        Ok(Some(user)) => Ok(user.name),
        Ok(None) => Err(format!("the user {id} has no name, by which PBS lists jobs")),
        Err(error) => Err(format!("the name of the user {id}: {error}")),
    }
}

/// Returns the folder of the jobs' output.
fn output(jobs: &Jobs) -> Result<PathBuf, String> {
    let output = jobs.output.clone().map_or_else(|| Folder::of(None).map(|folder| folder.scale()), Ok);
    output.map_err(|error| error.to_string())
}

/// Returns the path as a worker in another folder finds it.
fn absolute(path: &Path) -> Result<String, String> {
    let absolute = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(absolute.display().to_string())
}
