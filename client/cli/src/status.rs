//! `giostra status`: prints the workers with their state and load.

mod lines;
mod watch;

use std::io::Write;
use std::time::Duration;

use giostra_client::Client;
use giostra_common::stdio::stdout;

use super::common::CommonArgs;
use super::exit::Exit;
use super::help;
use super::live::interval;
use super::table::Room;

use lines::lines;
pub use lines::{LONG_WAIT_MS, in_flight, oldest, state, time};

/// The options of `giostra status`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::STATUS)]
pub struct Status {
    /// Repeat at this interval [default: 1s] until Ctrl-C; with --json an object per line
    #[arg(long, num_args = 0..=1, default_missing_value = "1s", value_parser = interval, value_name = "DURATION")]
    pub watch: Option<Duration>,
}

/// Prints the status. Succeeds if the broker answers.
pub fn run(client: &mut Client, options: &Status, common: &CommonArgs) -> anyhow::Result<Exit> {
    if let Some(interval) = options.watch {
        return watch::run(client, interval, common);
    }
    let status = client.status()?;
    if common.json {
        writeln!(stdout(), "{}", serde_json::to_string(&status)?)?;
    } else {
        writeln!(stdout(), "{}", lines(&status, Room::of_stdout()).join("\n"))?;
    }
    Ok(Exit::Success)
}
