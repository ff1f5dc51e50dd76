//! How long it takes to go on when a worker is killed or frozen, or the broker is killed: from the
//! signal to a line of the log.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use giostra_audit::{Event, Line};
use giostra_tests::Batch;
use giostra_tests::performance::{Goal, Own, Report, Series, Unit};
use giostra_tests::process::{PATIENCE, wait_for};
use nix::sys::signal::Signal;

use super::note;
use super::sides::{Giostra, Load, WORKERS};

/// How often each is done, if not more rounds are asked for.
const TIMES: usize = 9;

/// For how long the load goes on undisturbed in between.
const SETTLE: Duration = Duration::from_millis(200);

/// The worker that is killed.
const VICTIM: usize = 2;

/// The broker's pings, as they are by default: the interval, and how many may be unanswered.
const PINGS: (Duration, u32) = (Duration::from_secs(1), 3);

/// `kill -9` to a worker under load, to the reply to the last request that it held.
pub fn killed(rounds: usize, report: &mut Report) -> Result<()> {
    for (window, load) in [(4096, "W=4096"), (64, "W=64")] {
        let mut giostra = Giostra::start(WORKERS, &[])?;
        let batch = endless(&mut giostra, window)?;
        let mut kills = Vec::new();
        for _ in 0..rounds.max(TIMES) {
            sleep(SETTLE);
            kills.push(SystemTime::now());
            giostra.system.kill_worker(VICTIM)?;
            // Long over when this is: another process that starts would only be in its way.
            sleep(SETTLE);
            giostra.system.start_worker(VICTIM)?;
        }
        end(batch)?;
        giostra.audit()?;
        let log = giostra.system.log();
        let ends = last_replies(&log)?;
        ensure!(ends.len() == kills.len(), "{} kills, {} workers lost", kills.len(), ends.len());
        // One that held nothing just then leaves nothing to be done.
        let (kills, ends): (Vec<_>, Vec<_>) =
            kills.into_iter().zip(ends).filter_map(|(kill, end)| Some((kill, end?))).unzip();
        let own = Own {
            what: format!("`kill -9` of a worker to the last re-dispatched reply, {load}"),
            unit: Unit::Micros,
            figure: times(&kills, &ends)?,
            beside: None,
            goal: Goal::AtMost(10_000.0),
        };
        note(report, own);
    }
    Ok(())
}

/// A frozen worker, to its drop.
pub fn frozen(rounds: usize, report: &mut Report) -> Result<()> {
    let workers = rounds.max(TIMES);
    let mut giostra = Giostra::start(workers, &[])?;
    let mut frozen = Vec::new();
    for number in 1..=workers {
        // At different times between two pings.
        sleep(PINGS.0 / workers as u32);
        frozen.push(SystemTime::now());
        giostra.system.worker(number).signal(Signal::SIGSTOP)?;
    }
    let dropped = |log: &str, number: usize| {
        let name = format!("worker-{number}");
        let is_it = |event: &Event<'_>| matches!(event, Event::Dropped { worker, .. } if worker.name == name);
        log.lines().filter_map(Line::parse).find(|line| is_it(&line.event)).map(|line| line.time())
    };
    let drops = wait_for("all frozen workers are dropped", || {
        let log = giostra.system.log();
        (1..=workers).map(|number| dropped(&log, number)).collect::<Option<Vec<_>>>()
    })?;
    giostra.audit()?;
    let (interval, most) = PINGS;
    let own = Own {
        what: format!("freezing a worker to its drop, a ping each {interval:?}, {most} unanswered"),
        unit: Unit::Micros,
        figure: times(&frozen, &drops)?,
        beside: None,
        goal: Goal::AtMost((interval * (most + 1)).as_micros() as f64),
    };
    note(report, own);
    Ok(())
}

/// `kill -9` to the broker under load, which is started again at once, to the first reply after
/// that.
pub fn restart(rounds: usize, report: &mut Report) -> Result<()> {
    let mut giostra = Giostra::start(WORKERS, &[])?;
    let batch = endless(&mut giostra, Load::default().window)?;
    let mut kills = Vec::new();
    for _ in 0..rounds.max(TIMES) {
        sleep(SETTLE);
        kills.push(SystemTime::now());
        giostra.system.kill_broker()?;
        giostra.system.start_broker()?;
        // To look into the log while it is being waited for would take a core away.
        sleep(SETTLE);
        wait_for("the next broker has replied", || {
            (first_replies(&giostra.system.log()).len() > kills.len()).then_some(())
        })?;
    }
    end(batch)?;
    giostra.audit()?;
    let replies = first_replies(&giostra.system.log());
    let own = Own {
        what: "`kill -9` of the broker, which is started again, to the first reply, W=4096".into(),
        unit: Unit::Micros,
        figure: times(&kills, &replies[1..])?,
        beside: None,
        goal: Goal::AtMost(100_000.0),
    };
    note(report, own);
    Ok(())
}

/// A load that goes on until it is ended, once it has begun.
fn endless(giostra: &mut Giostra, window: usize) -> Result<Batch> {
    let args = Giostra::bench(&Load { window, length: 10 * PATIENCE, ..Load::default() });
    let batch = giostra.system.begin(&args.iter().map(String::as_str).collect::<Vec<_>>())?;
    giostra.system.wait_for_line(&[" reply "])?;
    Ok(batch)
}

/// Ends a load; none of its requests may have failed.
fn end(mut batch: Batch) -> Result<()> {
    batch.process().signal(Signal::SIGINT)?;
    let finished = batch.finish()?;
    let summary = finished.json()?;
    let well = ["failed", "wrong", "duplicated"].iter().all(|bad| summary[bad] == 0);
    ensure!(finished.code == Some(130) && well, "not all went well: {finished:?}");
    Ok(())
}

/// For each worker that was lost: when the last of what it held was answered, if it held anything.
fn last_replies(log: &str) -> Result<Vec<Option<SystemTime>>> {
    let (mut ends, mut open) = (Vec::new(), HashSet::new());
    for line in log.lines().filter_map(Line::parse) {
        match line.event {
            Event::Dropped { requests, .. } => {
                ensure!(open.is_empty(), "{} requests were not answered before the next worker was lost", open.len());
                open.extend(requests.ids());
                ends.push(None);
            }
            Event::Reply { requests, .. } if !open.is_empty() => {
                for request in requests.ids() {
                    open.remove(&request);
                }
                if open.is_empty() {
                    ends.pop();
                    ends.push(Some(line.time()));
                }
            }
            _ => {}
        }
    }
    Ok(ends)
}

/// For each life of the broker that replied: when it did so first.
fn first_replies(log: &str) -> Vec<SystemTime> {
    let lines = log.lines().filter(|line| line.contains(" listening ") || line.contains(" reply "));
    let (mut firsts, mut waiting) = (Vec::new(), false);
    for line in lines {
        if line.contains(" listening ") {
            waiting = true;
        } else if waiting && let Some(line) = Line::parse(line) {
            waiting = false;
            firsts.push(line.time());
        }
    }
    firsts
}

/// From each beginning to its end, in microseconds.
fn times(begun: &[SystemTime], ended: &[SystemTime]) -> Result<Series> {
    let took = begun.iter().zip(ended).map(|(begun, ended)| {
        let took = ended.duration_since(*begun).context("an end before its beginning")?;
        Ok(took.as_secs_f64() * 1e6)
    });
    Series::new(took.collect::<Result<_>>()?).context("no figures")
}
