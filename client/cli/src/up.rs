//! `giostra up` and `giostra down`: a broker, or several, and their workers on this host, started, watched and ended
//! together.
//!
//! `up` stays, as the parent of all: it shows what they say, and ends them in order. With `--detach`
//! it stays in the background, in a session of its own, where `down` finds it by its folder. What it
//! started ends with it, however it ends. It is no service manager: a worker that dies stays away
//! until `up --again`, so that a failover can be watched.

mod control;
mod detach;
pub mod folder;
mod help;
mod keys;
mod output;
mod plan;
pub mod program;
mod record;
mod supervisor;

use std::path::PathBuf;
use std::time::Duration;

use giostra_common::args::switch;
use giostra_protocol::MAX_THREADS;
use giostra_transport::endpoint::{BadEndpoint, Endpoint, parse_to_bind};

use super::common::CommonArgs;
use super::exit::Exit;
use folder::Folder;

/// The most workers: names, lines and processes stay within what a person can follow.
const MAX_WORKERS: i64 = 1000;

/// The most brokers.
const MAX_BROKERS: i64 = 16;

/// The time after which what does not end by itself is killed: somewhat longer than a worker's
/// `--grace` is by default.
const PATIENCE: Duration = Duration::from_secs(35);

/// How long the broker may take until it listens, or a worker until it is registered.
const START: Duration = Duration::from_secs(60);

/// The options of `giostra up`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::UP, next_help_heading = "Options")]
pub struct Up {
    /// Number of workers
    #[arg(long, env = "GIOSTRA_WORKERS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=MAX_WORKERS), value_name = "N")]
    workers: u32,

    /// Number of brokers, all of which the workers serve. The ports of each are 10 above those of the one
    /// before
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_BROKERS), value_name = "N")]
    brokers: u32,

    /// Number of requests that each worker computes at once
    #[arg(long, env = "GIOSTRA_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_THREADS)), value_name = "N")]
    threads: u32,

    /// Program that the workers run for each request, instead of the operations of the ready worker
    /// (giostra-worker --exec)
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,

    /// Endpoint for clients
    #[arg(long, env = "GIOSTRA_FRONTEND", default_value = "tcp://127.0.0.1:5555", value_parser = parse_first, value_name = "ENDPOINT")]
    frontend: Endpoint,

    /// Endpoint for workers
    #[arg(long, env = "GIOSTRA_BACKEND", default_value = "tcp://127.0.0.1:5556", value_parser = parse_first, value_name = "ENDPOINT")]
    backend: Endpoint,

    /// Address of the live page and the metrics, or off [default: 127.0.0.1:8080, or another port if
    /// that one is taken]
    #[arg(long, env = "GIOSTRA_HTTP", value_name = "ADDRESS:PORT")]
    http: Option<String>,

    /// Give fresh keys to all: peers without one are not served
    #[arg(long)]
    secure: bool,

    /// Folder of the store of durable jobs [default: store, beside the log]
    #[arg(long, env = "GIOSTRA_STORE", value_name = "DIR")]
    store: Option<PathBuf>,

    /// Remove the logs of earlier runs first
    #[arg(long)]
    fresh: bool,

    /// Show each dispatch and each reply, too
    #[arg(long, short)]
    verbose: bool,

    #[command(flatten)]
    place: Place,

    /// Return when all is ready, and leave it running until giostra down
    #[arg(long, short)]
    detach: bool,

    /// Show what is up, instead of starting it
    #[arg(long, group = "question", conflicts_with = "detach")]
    status: bool,

    /// Print the process id of broker (of several: broker-1), worker-1 or another, for kill
    #[arg(long, group = "question", conflicts_with = "detach", value_name = "NAME")]
    pid: Option<String>,

    /// Start the workers, or of several brokers those, again that have ended
    #[arg(long, group = "question", conflicts_with = "detach")]
    again: bool,

    /// Further options of the workers, such as -- --window 8
    #[arg(last = true, value_name = "OPTION")]
    worker_options: Vec<String>,

    /// Set by `--detach` for the process that stays.
    #[arg(long, hide = true, env = "GIOSTRA_UP_IN_BACKGROUND", value_parser = switch)]
    in_background: bool,
}

/// Parses the endpoint of the first broker, also in the list of all that clients have.
fn parse_first(text: &str) -> Result<Endpoint, BadEndpoint> {
    parse_to_bind(text.split(',').next().unwrap_or(text))
}

/// The options of `giostra down`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::DOWN, next_help_heading = "Options")]
pub struct Down {
    #[command(flatten)]
    place: Place,

    /// Kill all at once, instead of letting them finish what they hold
    #[arg(long)]
    now: bool,
}

/// Where it is kept what is up.
#[derive(Clone, Debug, clap::Args)]
struct Place {
    /// Folder for all that belongs to it; another folder is another system [default: giostra in
    /// $XDG_RUNTIME_DIR; the log and the store in $XDG_STATE_HOME, or ~/.local/state]
    #[arg(long, env = "GIOSTRA_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs `giostra up`.
pub fn up(options: &Up, common: &CommonArgs) -> anyhow::Result<Exit> {
    let folder = Folder::of(options.place.dir.as_deref())?;
    if options.status {
        return control::status(&folder, common.json);
    }
    if let Some(name) = &options.pid {
        return control::pid(&folder, name);
    }
    if options.again {
        return control::again(&folder);
    }
    if options.detach && !options.in_background {
        return detach::run(&folder, common.json);
    }
    supervisor::run(options, &common.pool, folder, common.json)
}

/// Runs `giostra down`.
pub fn down(options: &Down) -> anyhow::Result<Exit> {
    control::down(&Folder::of(options.place.dir.as_deref())?, options.now)
}
