//! `giostra drain`: lets a worker finish its requests and leave.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use giostra_client::Client;
use giostra_protocol::{LostStatus, Status, code, name};
use serde_json::json;

use super::common::CommonArgs;
use super::exit::Exit;
use super::failure;
use super::help;
use super::printed::stdout;
use super::written::many;

/// The options of `giostra drain`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::DRAIN)]
pub struct Drain {
    /// Name of the worker, or its number as in status and log, such as w17
    #[arg(value_parser = name::parse)]
    pub worker: String,

    /// Number of the worker, if several have the name
    #[arg(value_parser = registration, value_name = "NUMBER")]
    pub number: Option<u64>,

    /// Drain all workers of that name
    #[arg(long, conflicts_with = "number")]
    pub all: bool,
}

/// Parses the number of a worker's registration as the log writes it.
fn registration(text: &str) -> Result<u64, &'static str> {
    let number = text.strip_prefix('w').and_then(|number| number.parse().ok()).filter(|&number| number > 0);
    number.ok_or("a worker's number is written as in the log: w17")
}

/// The interval at which to ask whether the worker has finished.
const TICK: Duration = Duration::from_millis(100);

/// The number of requests that each draining worker still holds, by the worker's number.
type Leaving = BTreeMap<u64, u64>;

/// Drains the worker, and succeeds if it has left in order, or with `--no-wait` is about to.
pub fn run(client: &mut Client, drain: &Drain, common: &CommonArgs) -> anyhow::Result<Exit> {
    let worker = &drain.worker;
    let numbers = match drain.number {
        Some(number) => client.drain_number(worker, number).map(|()| vec![number])?,
        None if drain.all => client.drain_all(worker)?,
        None => vec![client.drain(worker)?],
    };
    let mut status = client.status()?;
    let mut now = leaving(&status, &numbers);
    // By number, since each loss is seen more than once.
    let mut lost: BTreeMap<u64, LostStatus> = losses(&status, &numbers, &now).collect();
    while !common.no_wait && !now.is_empty() {
        // The broker does not announce it. No reply can come, so this is a sleep that Ctrl-C ends.
        client.next_reply(Some(TICK))?;
        status = client.status()?;
        now = leaving(&status, &numbers);
        lost.extend(losses(&status, &numbers, &now));
    }
    let in_flight: u64 = now.values().sum();
    if common.json {
        let all: Vec<_> = lost
            .values()
            .map(|lost| json!({"number": lost.number, "reason": lost.reason, "returned": lost.returned}))
            .collect();
        let left = now.is_empty() && lost.is_empty();
        let mut object = json!({"worker": worker, "left": left, "in_flight": in_flight, "lost": all});
        if let Some(first) = lost.values().next() {
            object["error"] = failure::object(code::FAILED, &explain(first, worker));
        }
        writeln!(stdout(), "{object}")?;
    } else if !now.is_empty() {
        writeln!(stdout(), "{worker} is leaving, {} in flight", many(in_flight, "request"))?;
    } else if lost.is_empty() {
        writeln!(stdout(), "{worker} has left")?;
    }
    lost.values().for_each(|lost| failure::report_error(explain(lost, worker)));
    Ok(Exit::success_if(lost.is_empty()))
}

fn explain(lost: &LostStatus, worker: &str) -> String {
    let LostStatus { number, reason, returned, .. } = lost;
    let go = if *returned == 1 { "request goes" } else { "requests go" };
    format!("{worker} (w{number}) was lost before it had finished, {reason}; {returned} {go} to other workers")
}

/// Returns the workers that have not left yet.
fn leaving(status: &Status, numbers: &[u64]) -> Leaving {
    let leaving = status.workers.iter().filter(|worker| numbers.contains(&worker.number));
    leaving.map(|worker| (worker.number, worker.in_flight)).collect()
}

/// Returns the workers that have gone because they were lost.
fn losses(status: &Status, numbers: &[u64], now: &Leaving) -> impl Iterator<Item = (u64, LostStatus)> {
    let gone = numbers.iter().filter(|number| !now.contains_key(number));
    gone.filter_map(|&number| Some((number, loss(status, number)?)))
}

/// Returns how a worker that has gone was lost, if it was.
fn loss(status: &Status, number: u64) -> Option<LostStatus> {
    let known = status.lost.iter().find(|lost| lost.number == number);
    known.cloned().or_else(|| {
        // A worker that is back under its name is no longer listed as lost, but the event is.
        let event = status.events.iter().find(|event| event.kind == "dropped" && event.worker == Some(number))?;
        let reason = event.text.split_once(" reason=").map_or("", |(_, reason)| reason).into();
        Some(LostStatus { number, reason, returned: event.count.unwrap_or_default(), ..LostStatus::default() })
    })
}

#[cfg(test)]
mod tests {
    use giostra_protocol::EventStatus;

    use super::*;

    #[test]
    fn a_worker_that_was_lost_is_known_also_when_its_name_is_back() {
        let lost = LostStatus { number: 3, reason: "connection broke".into(), returned: 2, ..LostStatus::default() };
        let event = |kind: &str, number, text: &str| EventStatus {
            kind: kind.into(),
            worker: Some(number),
            text: text.into(),
            count: Some(4),
            ..EventStatus::default()
        };
        let events = vec![
            event("left", 4, "left b w4"),
            event("dropped", 5, "dropped b w5 returned=4 reason=3 pings unanswered"),
        ];
        let status = Status { lost: vec![lost], events, ..Status::default() };
        let known = |number| loss(&status, number).map(|lost| (lost.number, lost.reason, lost.returned));
        assert_eq!(known(3), Some((3, "connection broke".into(), 2)));
        assert_eq!(known(4), None);
        assert_eq!(known(5), Some((5, "3 pings unanswered".into(), 4)));
    }
}
