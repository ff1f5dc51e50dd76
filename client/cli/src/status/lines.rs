//! The status as text, in lines that fit the terminal.

use giostra_protocol::{ClientStatus, EventStatus, LostStatus, PoolStatus, Status, WorkerStatus};

use super::jobs;
use crate::events::{describe, notable};
use crate::table::{Cell, Column, Room, Table, of_state};
use crate::written::{many, micros, millis, wrapped};

/// The shortest time in milliseconds that a turn has waited to be shown. Where workers are busy, each
/// turn waits a moment.
pub const LONG_WAIT_MS: u64 = 200;

/// The maximum number of lost workers that are listed, and of those that are unable.
const MAX_LISTED: usize = 5;

/// The maximum number of events that are listed.
const MAX_EVENTS: usize = 5;

/// Returns the status as lines that fit.
pub fn lines(status: &Status, room: Room) -> Vec<String> {
    let wrap = |texts: Vec<String>| texts.into_iter().flat_map(move |text| wrapped(&text, room.width()));
    let mut lines: Vec<_> = wrap(summary(status)).collect();
    for pool in &status.pools {
        lines.extend(wrap(pool_lines(pool, &status.workers)));
    }
    lines.push(String::new());
    if status.workers.is_empty() {
        let advice = "no workers: requests wait until one registers (just worker 1, or giostra-worker)";
        lines.extend(wrapped(advice, room.width()));
    } else {
        lines.extend(workers(&status.workers).lines(room));
    }
    lines.extend(wrap(unable(&status.workers)));
    lines.extend(wrap(abridged(lost(status), "lost before")));
    if let Some(status) = &status.jobs {
        lines.push(String::new());
        lines.extend(wrap(jobs::summary(status)));
        if !status.live.is_empty() {
            lines.extend(jobs::table(&status.live).lines(room));
        }
    }
    lines.push(String::new());
    lines.extend(clients(&status.clients).lines(room));
    let events = events(status);
    if !events.is_empty() {
        lines.push(String::new());
        lines.extend(wrap(events));
    }
    lines
}

/// Describes the broker: its load, its counts, its last second.
pub fn summary(status: &Status) -> Vec<String> {
    let totals = &status.totals;
    let mut lines = vec![
        format!(
            "broker {} up {}, {} rotation: {} pending, {} in flight",
            status.version,
            millis(status.uptime_ms),
            status.rotation,
            status.pending,
            status.in_flight
        ),
        format!(
            "since then: {} accepted, {} answered, {} expired, {} poisoned, {} cancelled, {} re-dispatched, {} late or unwanted",
            totals.accepted,
            totals.answered,
            totals.expired,
            totals.poisoned,
            totals.cancelled,
            totals.redispatched,
            totals.discarded
        ),
    ];
    if totals.rejected > 0 {
        lines.push(format!("{} times a request was turned away for want of room and came again", totals.rejected));
    }
    let left_out = status.left_out.summary();
    if !left_out.is_empty() {
        lines.push(format!("left out below, since it would be too much: {left_out}"));
    }
    let latency = &status.latency_us;
    let rate = status.history.rate.last().copied().unwrap_or(0);
    lines.push(match [latency.p50, latency.p90, latency.p99] {
        [0, 0, 0] => format!("last second: {rate} answered"),
        percentiles => {
            let [p50, p90, p99] = percentiles.map(micros);
            format!("last second: {rate} answered, latency p50 {p50}  p90 {p90}  p99 {p99}")
        }
    });
    lines
}

/// Describes a pool: its ring, the worker that its turn waits for, and its operations.
fn pool_lines(pool: &PoolStatus, workers: &[WorkerStatus]) -> Vec<String> {
    let oldest = if pool.pending > 0 { format!(", the oldest for {}", millis(pool.oldest_ms)) } else { String::new() };
    let ring = format!(
        "pool {}: {}, next {}, {} pending{oldest}, {} in flight, {} dispatched in the last second",
        pool.name,
        many(pool.ring.len() as u64, "seat"),
        next_of(pool, workers),
        pool.pending,
        pool.in_flight,
        pool.rate
    );
    [ring].into_iter().chain(waits(pool, workers)).chain(offers(pool, workers)).collect()
}

/// Names the worker that the turn waits for, if others have room and it has waited for long.
fn waits(pool: &PoolStatus, workers: &[WorkerStatus]) -> Option<String> {
    let number = pool.waits_for.filter(|_| pool.waits_ms >= LONG_WAIT_MS)?;
    let worker = workers.iter().find(|worker| worker.number == number)?;
    Some(format!(
        "pool {}: the turn has been waiting for {} w{number} for {}; others have room, but rotation is strict \
         (--rotation available passes over it)",
        pool.name,
        worker.name,
        millis(pool.waits_ms)
    ))
}

/// Lists the workers that can compute nothing for now, and why.
fn unable(workers: &[WorkerStatus]) -> Vec<String> {
    let unable = workers.iter().filter(|worker| !worker.unable.is_empty()).map(|worker| {
        let WorkerStatus { name, number, pool, unable, .. } = worker;
        format!("unable: {name} w{number} of pool {pool}: {unable}")
    });
    abridged(unable.collect(), "unable")
}

/// Keeps [`MAX_LISTED`] lines, and says how many more there are.
pub fn abridged(mut lines: Vec<String>, what: &str) -> Vec<String> {
    let more = lines.len().saturating_sub(MAX_LISTED);
    lines.truncate(MAX_LISTED);
    lines.extend((more > 0).then(|| format!("{what}: {more} more")));
    lines
}

/// Lists the operations that a pool's workers offer, if any. Behind one that not all offer is the
/// number of those that do.
fn offers(pool: &PoolStatus, workers: &[WorkerStatus]) -> Option<String> {
    let workers: Vec<_> = workers.iter().filter(|worker| worker.pool == pool.name).collect();
    let mut operations: Vec<_> = workers.iter().flat_map(|worker| &worker.operations).collect();
    operations.sort_unstable();
    let offers = operations.chunk_by(|a, b| a == b).map(|same| match same.len() {
        all if all >= workers.len() => same[0].clone(),
        some => format!("{} ({some} of {})", same[0], workers.len()),
    });
    let offers: Vec<_> = offers.collect();
    (!offers.is_empty()).then(|| format!("pool {} offers {}", pool.name, offers.join(", ")))
}

/// Returns the name of the worker whose turn is next.
fn next_of(pool: &PoolStatus, workers: &[WorkerStatus]) -> String {
    let number = pool.ring.get(pool.turn as usize);
    let worker = number.and_then(|&number| workers.iter().find(|worker| worker.number == number));
    worker.map_or_else(|| "nobody".into(), |worker| worker.name.clone())
}

fn workers(workers: &[WorkerStatus]) -> Table {
    let all: u64 = workers.iter().map(|worker| worker.answered).sum();
    let share = |worker: &WorkerStatus| format!("{:.1} %", 100.0 * worker.answered as f64 / all.max(1) as f64).into();
    let columns: [Column<WorkerStatus>; 16] = [
        ("WORKER", 0, &|worker| (&worker.name).into()),
        ("NO", 6, &|worker| format!("w{}", worker.number).into()),
        ("ADDRESS", 10, &|worker| (&worker.address).into()),
        ("POOL", 4, &|worker| (&worker.pool).into()),
        ("SEAT", 12, &|worker| worker.seat.map_or("-".into(), |seat| (seat + 1).to_string()).into()),
        ("STATE", 0, &state),
        ("IN FLIGHT", 0, &in_flight),
        ("COMPUTING", 5, &|worker| format!("{}/{}", worker.computing, worker.threads).into()),
        ("OLDEST", 8, &oldest),
        ("RATE", 2, &|worker| format!("{}/s", worker.rate).into()),
        ("P50", 11, &|worker| time(worker.service_us.p50)),
        ("P99", 7, &|worker| time(worker.service_us.p99)),
        ("ANSWERED", 3, &|worker| worker.answered.to_string().into()),
        ("SHARE", 9, &share),
        ("RTT", 13, &|worker| time(worker.round_trip_us)),
        ("RE-DISPATCHED", 14, &|worker| worker.redispatched_from.to_string().into()),
    ];
    Table::new(&columns, workers)
}

/// The cell of a worker's state.
pub fn state(worker: &WorkerStatus) -> Cell {
    Cell { text: worker.state.clone(), tone: of_state(&worker.state) }
}

/// The cell of how full a worker's window is.
pub fn in_flight(worker: &WorkerStatus) -> Cell {
    format!("{}/{}", worker.in_flight, worker.window).into()
}

/// The cell of how long a worker has been computing the oldest request.
pub fn oldest(worker: &WorkerStatus) -> Cell {
    if worker.computing > 0 { millis(worker.oldest_ms) } else { "-".into() }.into()
}

/// The cell of a time in microseconds, 0 if there is none.
pub fn time(us: u64) -> Cell {
    if us > 0 { micros(us) } else { "-".into() }.into()
}

/// Lists the workers that were dropped and have not come back, the latest first.
pub fn lost(status: &Status) -> Vec<String> {
    let lost = status.lost.iter().rev().map(|lost| {
        let (since, requests) = (millis(status.uptime_ms.saturating_sub(lost.at_ms)), many(lost.returned, "request"));
        let LostStatus { name, number, pool, reason, .. } = lost;
        format!("lost {since} ago: {name} w{number} of pool {pool}, {reason}; {requests} taken back")
    });
    lost.collect()
}

/// Lists the last events, the latest first.
fn events(status: &Status) -> Vec<String> {
    let line = |event: &EventStatus| {
        let since = millis(status.uptime_ms.saturating_sub(event.at_ms));
        format!("{since} ago: {} {}", event.kind, describe(event))
    };
    notable(&status.events).take(MAX_EVENTS).map(line).collect()
}

fn clients(clients: &[ClientStatus]) -> Table {
    let columns: [Column<ClientStatus>; 5] = [
        ("CLIENT", 0, &|client| (&client.name).into()),
        ("NO", 2, &|client| format!("c{}", client.number).into()),
        ("ADDRESS", 3, &|client| (&client.address).into()),
        ("UNANSWERED", 0, &|client| client.unanswered.to_string().into()),
        ("ANSWERED", 1, &|client| client.answered.to_string().into()),
    ];
    Table::new(&columns, clients)
}

#[cfg(test)]
mod tests {
    use giostra_protocol::{JobsStatus, LiveJob, Percentiles};

    use super::*;

    fn worker(name: &str, operations: &[&str]) -> WorkerStatus {
        let operations = operations.iter().map(ToString::to_string).collect();
        WorkerStatus { name: name.into(), pool: "compute".into(), operations, ..WorkerStatus::default() }
    }

    fn status() -> Status {
        let pool = PoolStatus { name: "compute".into(), ..PoolStatus::default() };
        let client =
            ClientStatus { name: "ada".into(), number: 7, address: "192.0.2.1:4242".into(), ..ClientStatus::default() };
        let workers = vec![worker("one", &["mul", "add"]), worker("two", &["add"])];
        Status { workers, pools: vec![pool], clients: vec![client], ..Status::default() }
    }

    #[test]
    fn it_tells_what_a_pool_offers_and_where_clients_are() {
        let text = lines(&status(), Room::default()).join("\n");
        assert!(text.contains("\npool compute offers add, mul (1 of 2)\n"), "{text}");
        assert!(text.contains("\nada     c7  192.0.2.1:4242  0           0"), "{text}");
    }

    #[test]
    fn one_seat_is_no_plural_and_without_answers_there_is_no_latency() {
        let mut status = status();
        status.pools[0].ring = vec![1];
        status.pools[0].in_flight = 4;
        let text = lines(&status, Room::default()).join("\n");
        assert!(text.contains("\npool compute: 1 seat, next "), "{text}");
        assert!(text.contains(", 0 pending, 4 in flight, 0 dispatched in the last second\n"), "{text}");
        assert!(text.contains("\nlast second: 0 answered\n"), "{text}");
        status.latency_us = Percentiles { p50: 310, p90: 310, p99: 1500 };
        let text = lines(&status, Room::default()).join("\n");
        assert!(text.contains("\nlast second: 0 answered, latency p50 310 us  p90 310 us  p99 1.5 ms\n"), "{text}");
    }

    #[test]
    fn it_names_whom_the_turn_waits_for_and_who_can_compute_nothing() {
        let mut status = status();
        status.workers[0].number = 3;
        status.workers[1].unable = "can't start /opt/job: No such file or directory".into();
        let pool = PoolStatus { waits_for: Some(3), waits_ms: 5700, ..status.pools[0].clone() };
        let brief = PoolStatus { waits_ms: 3, ..pool.clone() };
        let text = lines(&Status { pools: vec![pool], ..status.clone() }, Room::default()).join("\n");
        assert!(
            text.contains("\npool compute: the turn has been waiting for one w3 for 5.7 s; others have room"),
            "{text}"
        );
        assert!(text.contains("\nunable: two w0 of pool compute: can't start /opt/job: No such file"), "{text}");
        let text = lines(&Status { pools: vec![brief], ..status }, Room::default()).join("\n");
        assert!(!text.contains("waiting for"), "{text}");
    }

    #[test]
    fn it_names_the_lost_but_not_too_many() {
        let lost = |number| LostStatus {
            name: "gone".into(),
            number,
            pool: "compute".into(),
            at_ms: 1000,
            reason: "connection broke".into(),
            returned: 3,
            ..LostStatus::default()
        };
        let status = Status { uptime_ms: 3500, lost: (1..=7).map(lost).collect(), ..status() };
        let text = lines(&status, Room::default()).join("\n");
        assert!(
            text.contains("\nlost 2.5 s ago: gone w7 of pool compute, connection broke; 3 requests taken back\n"),
            "{text}"
        );
        assert!(
            text.contains("w3 of") && !text.contains("w2 of") && text.contains("\nlost before: 2 more\n"),
            "{text}"
        );
    }

    #[test]
    fn it_tells_each_workers_place_and_times_and_what_happened_last() {
        let stuck = WorkerStatus {
            number: 3,
            seat: Some(1),
            state: "stuck".into(),
            in_flight: 2,
            window: 8,
            computing: 1,
            threads: 1,
            oldest_ms: 400_000,
            round_trip_us: 210,
            redispatched_from: 17,
            service_us: Percentiles { p50: 310, p99: 1500, ..Percentiles::default() },
            ..worker("one", &[])
        };
        let event = |at_ms| EventStatus {
            at_ms,
            kind: "dropped".into(),
            text: "dropped two w2 returned=3 reason=connection broke".into(),
            worker: Some(2),
            count: Some(3),
            ..EventStatus::default()
        };
        let status = Status {
            uptime_ms: 60_000,
            workers: vec![stuck],
            events: (1..=7).map(|second| event(second * 1000)).collect(),
            ..status()
        };
        let text = lines(&status, Room::default()).join("\n");
        let row = text.lines().find(|line| line.starts_with("one ")).expect("a row");
        let cells: Vec<_> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        let expected =
            ["one", "w3", "compute", "2", "stuck", "2/8", "1/1", "6 min 40 s", "0/s", "310 us", "1.5 ms", "0"];
        assert_eq!((&cells[..12], &cells[13..]), (&expected[..], &["210 us", "17"][..]), "{text}");
        assert!(text.contains("\n53.0 s ago: dropped two w2, connection broke, 3 requests\n"), "{text}");
        assert_eq!(text.matches(" ago: dropped").count(), 5, "{text}");
    }

    #[test]
    fn jobs_are_told_if_the_broker_keeps_any() {
        assert!(!lines(&status(), Room::default()).join("\n").contains("JOB"));
        let live = vec![LiveJob { name: "night".into(), requests: 100, ..LiveJob::default() }];
        let jobs = JobsStatus { live, running: 1, ..JobsStatus::default() };
        let text = lines(&Status { jobs: Some(jobs), ..status() }, Room::default()).join("\n");
        assert!(text.contains("\n1 job open or running; since the start 0 finished\n"), "{text}");
        assert!(text.contains("\nJOB         NAME ") && text.contains("0/100"), "{text}");
        let none = Status { jobs: Some(JobsStatus::default()), ..status() };
        assert!(!lines(&none, Room::default()).join("\n").contains("JOB"));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in 24..160 {
            let lines = lines(&status(), Room { size: Some((width, 24)), colours: false });
            assert!(lines.iter().all(|line| crate::written::width(line) <= width), "{width}: {lines:#?}");
            assert!(lines.iter().any(|line| line.starts_with("WORKER") && line.contains("IN FLIGHT")), "{lines:#?}");
        }
    }
}
