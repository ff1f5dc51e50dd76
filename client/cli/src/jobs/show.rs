//! `giostra jobs`, `giostra job`: how far jobs are.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use giostra_client::{Client, Error, JobId, Shutdown};
use serde_json::{Value, json};

use super::One;
use super::pace::Pace;
use super::row::{Row, table};
use crate::common::CommonArgs;
use crate::each::Each;
use crate::exit::Exit;
use crate::help;
use crate::live::interval;
use crate::printed::stdout;
use crate::table::Room;
use crate::watch::Watched;

/// The options of `giostra jobs`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::JOBS)]
pub struct Jobs {
    /// Repeat at this interval [default: 1s] until Ctrl-C; with --json an object per line
    #[arg(long, num_args = 0..=1, default_missing_value = "1s", value_parser = interval, value_name = "DURATION")]
    watch: Option<Duration>,
}

/// Lists the jobs, of several brokers those of each.
pub fn jobs(client: &mut Client, options: &Jobs, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Exit> {
    if common.has_several() {
        return Each::new(&common.options("jobs", shutdown)?, All::default)?.show(client, options.watch, common);
    }
    let mut all = All::default();
    match options.watch {
        Some(interval) => all.watch(client, interval, common),
        None => all.print(client, common).map(|_| Exit::Success),
    }
}

/// Shows one job.
pub fn one(client: &mut Client, one: &One, common: &CommonArgs) -> anyhow::Result<Exit> {
    let client = client.at_home(one.id)?;
    let mut rows = vec![Row::from(client.job(one.id).status()?)];
    All::default().add_rates(client, &mut rows)?;
    match common.json {
        true => writeln!(stdout(), "{}", rows[0].json())?,
        false => writeln!(stdout(), "{}", rows[0].lines().join("\n"))?,
    }
    Ok(Exit::Success)
}

/// All jobs of the client, and their pace from one look to the next.
#[derive(Default)]
struct All {
    /// Whether the broker refuses its status, as it does without the role admin.
    is_status_refused: bool,
    paces: HashMap<JobId, Pace>,
}

impl All {
    /// Adds the rates of the jobs that run: from the broker's status, or else from one look to the next.
    fn add_rates(&mut self, client: &mut Client, rows: &mut [Row]) -> Result<(), Error> {
        if rows.iter().all(|row| row.job.state.has_ended()) {
            return Ok(());
        }
        if !self.is_status_refused {
            match client.status() {
                Ok(status) => {
                    let live = status.jobs.map(|jobs| jobs.live).unwrap_or_default();
                    let live: HashMap<_, _> = live.iter().map(|live| (live.id, live)).collect();
                    for row in rows.iter_mut() {
                        live.get(&row.job.id).into_iter().for_each(|live| row.add(live));
                    }
                    return Ok(());
                }
                Err(Error::Refused(_)) => self.is_status_refused = true,
                Err(error) => return Err(error),
            }
        }
        let (now, mut before) = (Instant::now(), std::mem::take(&mut self.paces));
        for row in rows.iter_mut().filter(|row| !row.job.state.has_ended()) {
            let mut pace = before.remove(&row.job.id).unwrap_or_default();
            pace.add(now, row.done());
            row.go_at(&pace);
            self.paces.insert(row.job.id, pace);
        }
        Ok(())
    }
}

impl Watched for All {
    type Seen = Vec<Row>;

    fn ask(&mut self, client: &mut Client) -> Result<Vec<Row>, Error> {
        let mut rows: Vec<_> = client.jobs()?.into_iter().map(Row::from).collect();
        self.add_rates(client, &mut rows)?;
        Ok(rows)
    }

    fn lines(rows: &Vec<Row>, room: Room) -> Vec<String> {
        if rows.is_empty() {
            return vec!["no jobs; giostra submit makes one".into()];
        }
        table(rows, SystemTime::now()).lines(room)
    }

    fn json(rows: &Vec<Row>) -> serde_json::Result<Value> {
        Ok(json!({"jobs": rows.iter().map(Row::json).collect::<Vec<_>>()}))
    }

    fn json_of(broker: &str, rows: &Vec<Row>) -> serde_json::Result<Value> {
        Ok(json!({"broker": broker, "jobs": rows.iter().map(Row::json).collect::<Vec<_>>()}))
    }
}
