//! `giostra status`: prints the workers with their state and load.

mod by_host;
mod jobs;
mod lines;

use std::time::Duration;

use giostra_client::{Client, Error};

use super::common::CommonArgs;
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

/// Prints the status. Succeeds if the broker answers.
pub fn run(client: &mut Client, options: &Status, common: &CommonArgs) -> anyhow::Result<Exit> {
    if options.by_host { show(ByHost, client, options, common) } else { show(Broker, client, options, common) }
}

fn show(mut of: impl Watched, client: &mut Client, options: &Status, common: &CommonArgs) -> anyhow::Result<Exit> {
    if let Some(interval) = options.watch {
        return of.watch(client, interval, common);
    }
    of.print(client, common)?;
    Ok(Exit::Success)
}

/// The broker's status.
struct Broker;

impl Watched for Broker {
    type Seen = giostra_client::Status;

    fn ask(&mut self, client: &mut Client) -> Result<Self::Seen, Error> {
        client.status()
    }

    fn lines(seen: &Self::Seen, room: Room) -> Vec<String> {
        lines(seen, room)
    }

    fn json(seen: &Self::Seen) -> serde_json::Result<String> {
        serde_json::to_string(seen)
    }
}
