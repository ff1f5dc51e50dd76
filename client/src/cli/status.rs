//! `giostra status`: the workers, their state and their share.

use std::io::{self, Write, stdout};
use std::time::Duration;

use giostra_client::Client;
use giostra_common::protocol::{PoolStatus, Status, WorkerStatus};

use super::args::Args;

/// Always well, if the broker answers.
pub fn run(client: &mut Client, args: &Args) -> anyhow::Result<bool> {
    let status = client.status()?;
    if args.json {
        writeln!(stdout(), "{}", serde_json::to_string(&status)?)?;
    } else {
        show(&status, &mut stdout().lock())?;
    }
    Ok(true)
}

/// Shows it to a person.
fn show(status: &Status, out: &mut impl Write) -> io::Result<()> {
    let totals = &status.totals;
    writeln!(
        out,
        "broker {} up {}, {} rotation: {} pending, {} in flight",
        status.version,
        written(status.uptime_ms),
        status.rotation,
        status.pending,
        status.in_flight
    )?;
    writeln!(
        out,
        "since then: {} accepted, {} answered, {} expired, {} poisoned, {} cancelled, {} re-dispatched, {} late or unwanted",
        totals.accepted,
        totals.answered,
        totals.expired,
        totals.poisoned,
        totals.cancelled,
        totals.redispatched,
        totals.discarded
    )?;
    if totals.turned_away > 0 {
        writeln!(out, "{} times a request was turned away for want of room and came again", totals.turned_away)?;
    }
    let latency = &status.latency_us;
    let rate = status.history.rate.last().copied().unwrap_or(0);
    writeln!(
        out,
        "last second: {rate} answered, latency p50 {}  p90 {}  p99 {}",
        micros(latency.p50),
        micros(latency.p90),
        micros(latency.p99)
    )?;
    for pool in &status.pools {
        writeln!(
            out,
            "pool {}: {} seats, next {}, {} pending{}, {} dispatched in the last second",
            pool.name,
            pool.ring.len(),
            next_of(pool, &status.workers),
            pool.pending,
            if pool.pending > 0 { format!(", the oldest for {}", written(pool.oldest_ms)) } else { String::new() },
            pool.rate
        )?;
    }
    writeln!(out)?;
    if status.workers.is_empty() {
        writeln!(out, "no workers: requests wait until one registers (just worker 1, or giostra-worker)")?;
    } else {
        table(out, &workers(&status.workers))?;
    }
    writeln!(out)?;
    let clients = status.clients.iter().map(|client| {
        [client.name.clone(), format!("c{}", client.number), client.unanswered.to_string(), client.answered.to_string()]
    });
    table(
        out,
        &[["CLIENT", "NO", "UNANSWERED", "ANSWERED"].map(String::from)].into_iter().chain(clients).collect::<Vec<_>>(),
    )
}

/// The name of the worker whose turn is next.
fn next_of(pool: &PoolStatus, workers: &[WorkerStatus]) -> String {
    let number = pool.ring.get(pool.turn as usize);
    let worker = number.and_then(|&number| workers.iter().find(|worker| worker.number == number));
    worker.map_or_else(|| "nobody".into(), |worker| worker.name.clone())
}

fn workers(workers: &[WorkerStatus]) -> Vec<[String; 12]> {
    let all: u64 = workers.iter().map(|worker| worker.answered).sum();
    let head = [
        "WORKER",
        "NO",
        "ADDRESS",
        "POOL",
        "STATE",
        "IN FLIGHT",
        "COMPUTING",
        "OLDEST",
        "RATE",
        "P99",
        "ANSWERED",
        "SHARE",
    ];
    let rows = workers.iter().map(|worker| {
        [
            worker.name.clone(),
            format!("w{}", worker.number),
            worker.address.clone(),
            worker.pool.clone(),
            worker.state.clone(),
            format!("{}/{}", worker.in_flight, worker.window),
            format!("{}/{}", worker.computing, worker.threads),
            if worker.computing > 0 { written(worker.oldest_ms) } else { "-".into() },
            format!("{}/s", worker.rate),
            if worker.service_us.p99 > 0 { micros(worker.service_us.p99) } else { "-".into() },
            worker.answered.to_string(),
            format!("{:.1} %", 100.0 * worker.answered as f64 / all.max(1) as f64),
        ]
    });
    [head.map(String::from)].into_iter().chain(rows).collect()
}

/// Prints rows, the columns as wide as their widest cell.
fn table<const N: usize>(out: &mut impl Write, rows: &[[String; N]]) -> io::Result<()> {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// A short time as people write it.
fn micros(us: u64) -> String {
    match us {
        0..1000 => format!("{us} us"),
        1000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => written(us / 1000),
    }
}

/// A time as people write it, to a tenth of a second.
fn written(ms: u64) -> String {
    match Duration::from_millis(ms).as_secs() {
        0..60 => format!("{:.1} s", ms as f64 / 1000.0),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
