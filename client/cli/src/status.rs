//! `giostra status`: prints the workers with their state and load.

mod by_host;
mod jobs;
mod lines;

use std::time::Duration;

use giostra_client::{Client, Error, Shutdown};
use serde_json::Value;

use super::common::CommonArgs;
use super::each::Each;
use super::exit::Exit;
use super::help;
use super::live::interval;
use super::table::Room;
use super::watch::Watched;

use by_host::ByHost;
pub use jobs::{done, table as jobs_table};
use lines::lines;
pub use lines::{LONG_WAIT_MS, in_flight, oldest, state, time};

/// The options of `giostra status`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::STATUS)]
pub struct Status {
    /// Repeat at this interval [default: 1s] until Ctrl-C; with --json an object per line
    #[arg(long, num_args = 0..=1, default_missing_value = "1s", value_parser = interval, value_name = "DURATION")]
    pub watch: Option<Duration>,

    /// A line for each host instead of each worker, hosts in trouble first
    #[arg(long)]
    pub by_host: bool,
}

/// Prints the status, of several brokers that of each. Succeeds if all answer.
pub fn run(client: &mut Client, options: &Status, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    match options.by_host {
        true => show(ByHost, client, options, common, shutdown),
        false => show(Broker, client, options, common, shutdown),
    }
}

fn show<W: Watched + Copy + Send>(
    mut of: W,
    client: &mut Client,
    options: &Status,
    common: &CommonArgs,
    shutdown: &Shutdown,
) -> anyhow::Result<Exit>
where
    W::Seen: Send,
{
    if common.has_several() {
        return Each::new(&common.options("status", shutdown)?, || of)?.show(client, options.watch, common);
    }
    match options.watch {
        Some(interval) => of.watch(client, interval, common),
        None => of.print(client, common).map(|_| Exit::Success),
    }
}

/// The broker's status.
#[derive(Clone, Copy)]
struct Broker;

impl Watched for Broker {
    type Seen = giostra_client::Status;

    fn ask(&mut self, client: &mut Client) -> Result<Self::Seen, Error> {
        client.status()
    }

    fn lines(seen: &Self::Seen, room: Room) -> Vec<String> {
        lines(seen, room)
    }

    fn json(seen: &Self::Seen) -> serde_json::Result<Value> {
        serde_json::to_value(seen)
    }
}
