//! Giostra beside `zmq_proxy`: rates, and the latency of a single request at a time.

use std::time::Duration;

use anyhow::{Context, Result};
use giostra_tests::performance::usage::cpu_of;
use giostra_tests::performance::{Beside, Goal, Own, Report, Series, Unit};

use super::growth::in_turns;
use super::note;
use super::sides::{Floor, Giostra, Load, Reference, Round, WORKERS, series, side};

/// For how long nothing happens, when that is measured.
const REST: Duration = Duration::from_secs(10);

/// What the ratio is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Rate,
    Latency,
}

/// One client with 4096 requests under way.
pub fn window_4096(rounds: usize, report: &mut Report) -> Result<()> {
    let cpu = compare("W=4096", Load::default(), Figure::Rate, Goal::AtLeast(3.0), rounds, report)?;
    let own = Own {
        what: "CPU of the broker for a request, W=4096".into(),
        unit: Unit::Micros,
        figure: cpu,
        beside: None,
        goal: Goal::AtMost(0.3),
    };
    note(report, own);
    Ok(())
}

/// One client with 64 requests under way.
pub fn window_64(rounds: usize, report: &mut Report) -> Result<()> {
    let load = Load { window: 64, ..Load::default() };
    compare("W=64", load, Figure::Rate, Goal::AtLeast(2.2), rounds, report).map(drop)
}

/// One client with one request under way.
pub fn window_1(rounds: usize, report: &mut Report) -> Result<()> {
    let load = Load { window: 1, ..Load::default() };
    compare("W=1, p50", load, Figure::Latency, Goal::AtMost(0.45), rounds, report).map(drop)
}

/// 64 clients with one request each.
pub fn clients_64(rounds: usize, report: &mut Report) -> Result<()> {
    let load = Load { clients: 64, window: 1, ..Load::default() };
    compare("64 clients, W=1", load, Figure::Rate, Goal::AtLeast(1.3), rounds, report).map(drop)
}

/// 1000 clients with one request each.
pub fn clients_1000(rounds: usize, report: &mut Report) -> Result<()> {
    let load = Load { clients: 1000, window: 1, ..Load::default() };
    compare("1,000 clients, W=1", load, Figure::Rate, Goal::AtLeast(1.1), rounds, report).map(drop)
}

/// Larger bodies: windows of 4 to 32 MiB.
pub fn bodies(rounds: usize, report: &mut Report) -> Result<()> {
    for (name, size, window, warm_up) in [
        ("bodies of 1 KiB, W=4096", 1 << 10, 4096, 1000),
        ("bodies of 16 KiB, W=1024", 16 << 10, 1024, 1000),
        ("bodies of 256 KiB, W=128", 256 << 10, 128, 200),
        ("bodies of 1 MiB, W=32", 1 << 20, 32, 100),
    ] {
        let load = Load { size: Some(size), window, warm_up, ..Load::default() };
        compare(name, load, Figure::Rate, Goal::AtLeast(1.0), rounds, report)?;
    }
    Ok(())
}

/// With keys on both sides: everything is encrypted and authenticated. And beside Giostra itself
/// without.
pub fn keys(rounds: usize, report: &mut Report) -> Result<()> {
    for (name, window, figure, goal) in [
        ("W=4096, with keys", 4096, Figure::Rate, Goal::AtLeast(5.0)),
        ("W=64, with keys", 64, Figure::Rate, Goal::AtLeast(3.0)),
        ("W=1, p50, with keys", 1, Figure::Latency, Goal::AtMost(0.6)),
    ] {
        compare(name, Load { window, keys: true, ..Load::default() }, figure, goal, rounds, report)?;
    }
    let [load, open] = [true, false].map(|keys| Load { keys, ..Load::default() });
    let (mut locked, mut plain) = (Giostra::start_for(&load)?, Giostra::start_for(&open)?);
    let [with, without] = in_turns(rounds, || locked.run(&load), || plain.run(&open))?;
    note(
        report,
        Own {
            what: "rate with keys, W=4096".into(),
            unit: Unit::Rate,
            figure: series(&with, |round| round.rate)?,
            beside: Some(("without".into(), series(&without, |round| round.rate)?)),
            goal: Goal::Open,
        },
    );
    locked.audit()
}

/// A broker and workers that have nothing to do.
pub fn rest(_rounds: usize, report: &mut Report) -> Result<()> {
    let (mut giostra, reference) = (Giostra::start(WORKERS, &[])?, Reference::start(false)?);
    // Both have been at work.
    giostra.run(&Load { length: Duration::from_millis(100), ..Load::default() })?;
    let processes = [giostra.system.broker().id(), reference.proxy()];
    let before = [cpu_of(processes[0])?, cpu_of(processes[1])?];
    std::thread::sleep(REST);
    let mut shares = Vec::new();
    for (process, before) in processes.into_iter().zip(before) {
        let used = cpu_of(process)?.saturating_sub(before);
        shares.push(Series::new(vec![100.0 * used.as_secs_f64() / REST.as_secs_f64()]).context("no figure")?);
    }
    println!("    zmq_proxy at rest: {}", shares[1].written(Unit::Percent));
    let own = Own {
        what: format!("CPU of the broker at rest, over {REST:?}, of a core"),
        unit: Unit::Percent,
        figure: shares.swap_remove(0),
        beside: None,
        goal: Goal::AtMost(1.0),
    };
    note(report, own);
    giostra.audit()
}

/// Runs both sides in turns. The broker's CPU for a request.
fn compare(
    scenario: &str,
    load: Load,
    figure: Figure,
    goal: Goal,
    rounds: usize,
    report: &mut Report,
) -> Result<Series> {
    let (mut giostra, mut reference) = (Giostra::start_for(&load)?, Reference::start(load.keys)?);
    let mut floor = if figure == Figure::Latency { Some(Floor::start()?) } else { None };
    let (mut ours, mut theirs, mut least) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // Neither side always comes first.
        if round % 2 == 0 {
            ours.push(giostra.run(&load)?);
            theirs.push(reference.run(&load)?);
        } else {
            theirs.push(reference.run(&load)?);
            ours.push(giostra.run(&load)?);
        }
        if let Some(floor) = &mut floor {
            least.push(floor.run(&load)?);
        }
    }
    let (unit, of): (_, fn(&Round) -> f64) = match figure {
        Figure::Rate => (Unit::Rate, |round| round.rate),
        Figure::Latency => (Unit::Micros, |round| round.p50),
    };
    let row = Beside {
        scenario: scenario.into(),
        unit,
        ours: side(&ours, of, giostra.memory()?)?,
        theirs: side(&theirs, of, reference.memory()?)?,
        goal,
    };
    for (name, side) in [("giostra", &row.ours), ("zmq_proxy", &row.theirs)] {
        let (cpu, all) = (side.broker_cpu.written(Unit::Micros), side.all_cpu.written(Unit::Micros));
        let memory = Unit::Bytes.written(side.memory);
        println!(
            "    {name:<10} {}; CPU a request {cpu}, of all {all}; peak memory {memory}",
            side.figure.written(unit)
        );
    }
    println!("    ratio {:.2}", row.ratio());
    giostra.audit()?;
    let cpu = row.ours.broker_cpu.clone();
    if floor.is_some() {
        let own = Own {
            what: scenario.into(),
            unit,
            figure: row.ours.figure.clone(),
            beside: Some(("a relay on TCP sockets".into(), series(&least, of)?)),
            goal: if load.keys { Goal::Open } else { Goal::AtMost(2.0) },
        };
        note(report, own);
    }
    report.beside.push(row);
    Ok(cpu)
}
