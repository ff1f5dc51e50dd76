//! `giostra status`: prints the workers with their state and load.

mod by_host;
mod jobs;
mod lines;

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use giostra_client::{Client, Error, Options};
use giostra_transport::shutdown::Shutdown;
use serde_json::{Value, json};

use super::common::CommonArgs;
use super::exit::Exit;
use super::failure::{code_of, explain, object, of_client};
use super::help;
use super::live::interval;
use super::printed::stdout;
use super::table::Room;
use super::watch::Watched;

use by_host::ByHost;
pub use jobs::{done, table as jobs_table};
use lines::lines;
pub use lines::{LONG_WAIT_MS, in_flight, oldest, state, time};

/// The longest time to wait for each of several brokers: those that are there are not to wait for one
/// that is gone.
const PATIENCE: Duration = Duration::from_secs(2);

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

/// Prints the status of each of several brokers. Succeeds if all of them answer.
pub fn run_each(options: &Status, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    if options.by_host { each(ByHost, common, shutdown) } else { each(Broker, common, shutdown) }
}

/// Asks all brokers at once, so that one that is gone holds up nobody, and prints them in their order.
fn each<W: Watched + Copy + Sync>(of: W, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit>
where
    W::Seen: Send,
{
    let brokers = common.each_broker();
    let ask = |one: &CommonArgs| -> anyhow::Result<W::Seen> {
        let broker_timeout = one.broker_timeout.min(PATIENCE);
        let mut client = Client::connect(Options { broker_timeout, ..one.options("status", shutdown)? })?;
        Ok({ of }.ask(&mut client)?)
    };
    let answers = thread::scope(|scope| {
        let asked: Vec<_> = brokers.iter().map(|one| scope.spawn(|| ask(one))).collect();
        let answers = asked.into_iter().map(|asked| asked.join().expect("asking does not panic"));
        answers.collect::<Vec<_>>()
    });
    let all = answers.iter().all(Result::is_ok);
    let mut objects = Vec::new();
    for (place, (one, answer)) in brokers.iter().zip(answers).enumerate() {
        match answer {
            Err(error) if matches!(of_client(&error), Some(Error::Interrupted)) => return Err(error),
            answer if common.json => objects.push(match answer {
                Ok(seen) => json!({"broker": one.broker, "status": serde_json::from_str::<Value>(&W::json(&seen)?)?}),
                Err(error) => json!({"broker": one.broker, "error": object(code_of(&error), &explain(&error))}),
            }),
            answer => {
                let lines = answer.map_or_else(|error| vec![explain(&error)], |seen| W::lines(&seen, Room::default()));
                let between = if place == 0 { "" } else { "\n" };
                writeln!(stdout(), "{between}{}\n{}", one.broker, lines.join("\n"))?;
            }
        }
    }
    if common.json {
        writeln!(stdout(), "{}", json!({"brokers": objects}))?;
    }
    Ok(Exit::success_if(all))
}

fn show(mut of: impl Watched, client: &mut Client, options: &Status, common: &CommonArgs) -> anyhow::Result<Exit> {
    if let Some(interval) = options.watch {
        return of.watch(client, interval, common);
    }
    of.print(client, common)?;
    Ok(Exit::Success)
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

    fn json(seen: &Self::Seen) -> serde_json::Result<String> {
        serde_json::to_string(seen)
    }
}
