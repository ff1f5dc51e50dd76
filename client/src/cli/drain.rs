//! `giostra drain`: a worker finishes what it has and is given no more.

use std::io::{Write, stdout};
use std::time::Duration;

use giostra_client::Client;
use serde_json::json;

use super::args::{Args, Drain};

/// How often to ask whether it has finished.
const TICK: Duration = Duration::from_millis(100);

/// Always well, once there is such a worker.
pub fn run(client: &mut Client, drain: &Drain, args: &Args) -> anyhow::Result<bool> {
    let worker = &drain.worker;
    let numbers = match drain.number {
        Some(number) => client.drain_number(worker, number).map(|()| vec![number])?,
        None if drain.all => client.drain_all(worker)?,
        None => vec![client.drain(worker)?],
    };
    let mut in_flight = leaving(client, &numbers)?;
    if !args.no_wait {
        while in_flight.is_some() {
            // Nobody is told when a worker leaves; a reply can't come, so this is a sleep that Ctrl-C ends.
            client.next_reply(Some(TICK))?;
            in_flight = leaving(client, &numbers)?;
        }
    }
    match in_flight {
        _ if args.json => {
            let (left, in_flight) = (in_flight.is_none(), in_flight.unwrap_or(0));
            writeln!(stdout(), "{}", json!({"worker": worker, "left": left, "in_flight": in_flight}))?;
        }
        Some(in_flight) => writeln!(stdout(), "{worker} is leaving, {in_flight} requests in flight")?,
        None => writeln!(stdout(), "{worker} has left")?,
    }
    Ok(true)
}

/// How many requests those of these workers still hold that have not left, if there are any.
fn leaving(client: &mut Client, numbers: &[u64]) -> anyhow::Result<Option<u64>> {
    let status = client.status()?;
    let leaving = status.workers.iter().filter(|worker| numbers.contains(&worker.number));
    Ok(leaving.map(|worker| worker.in_flight).reduce(|a, b| a + b))
}
