//! What a request costs when there are many: lines of log, workers, requests that wait.

use std::time::Duration;

use anyhow::Result;
use giostra_tests::Crowd;
use giostra_tests::performance::pending::bytes_each;
use giostra_tests::performance::{Goal, Own, Report, Series, Unit};
use giostra_tests::process::wait_for;

use super::note;
use super::sides::{ADDITION, Giostra, Load, Round, WORKERS, series};

/// Requests that a broker's default windows hold for [`WORKERS`] workers: what a client has under
/// way besides is pending.
const IN_WINDOWS: usize = WORKERS * 1024;

/// Requests whose memory is measured, and the bytes of their bodies.
const WEIGHED: (u64, usize) = (500_000, 32);

/// With every dispatch logged, and with none.
pub fn log(rounds: usize, report: &mut Report) -> Result<()> {
    let mut with = Giostra::start(WORKERS, &[])?;
    let mut without = Giostra::start(WORKERS, &["--log-level", "info"])?;
    let load = Load::default();
    let [with_log, without_log] = in_turns(rounds, || with.run(&load), || without.run(&load))?;
    with.audit()?;
    note(
        report,
        Own {
            what: "rate with every request in the log, W=4096".into(),
            unit: Unit::Rate,
            figure: series(&with_log, |round| round.rate)?,
            beside: Some(("without (`--log-level info`)".into(), series(&without_log, |round| round.rate)?)),
            goal: Goal::AtLeast(0.93),
        },
    );
    Ok(())
}

/// With a thousand workers, and with three: when each is sent as many requests in a message as
/// usual, and when it is sent a few.
pub fn workers(rounds: usize, report: &mut Report) -> Result<()> {
    let start = |workers: usize| -> Result<_> {
        let mut giostra = Giostra::start(0, &[])?;
        let crowd = Crowd::join(giostra.system.backend(), workers);
        wait_for("the stand-ins are registered", || {
            (giostra.system.status().ok()?["workers"].as_array()?.len() == workers).then_some(())
        })?;
        Ok((giostra, crowd))
    };
    let (mut many, _many) = start(1000)?;
    let (mut few, _few) = start(WORKERS)?;
    for window in [100_000, 4096] {
        let load = Load { size: Some(ADDITION), window, ..Load::default() };
        let [with_many, with_few] = in_turns(rounds, || many.run(&load), || few.run(&load))?;
        let rates = [series(&with_many, |round| round.rate)?, series(&with_few, |round| round.rate)?];
        let [many, few] = rates.map(|rate| rate.written(Unit::Rate));
        println!("    rate {many}; 3 workers: {few}");
        note(report, cpu(&format!("1,000 workers (stand-ins), W={window}"), &with_many, "3 workers", &with_few)?);
    }
    many.audit()?;
    few.audit()
}

/// With a million requests pending, and with a thousand.
pub fn pending(rounds: usize, report: &mut Report) -> Result<()> {
    let mut giostra = Giostra::start(WORKERS, &["--max-pending", "4000000"])?;
    let few = Load { window: IN_WINDOWS + 1000, ..Load::default() };
    let many = Load { window: IN_WINDOWS + 1_000_000, length: Duration::from_secs(3), ..few };
    let (mut with_many, mut with_few) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        with_many.push(giostra.run(&many)?);
        with_few.push(giostra.run(&few)?);
    }
    giostra.audit()?;
    note(report, cpu("a million pending", &with_many, "a thousand pending", &with_few)?);
    Ok(())
}

/// The memory of what waits.
pub fn memory(_rounds: usize, report: &mut Report) -> Result<()> {
    let (count, size) = WEIGHED;
    let besides = bytes_each(count, size)? - size as f64;
    let own = |figure| Own {
        what: format!("memory of a pending request besides its body of {size} bytes"),
        unit: Unit::Bytes,
        figure,
        beside: None,
        goal: Goal::AtMost(200.0),
    };
    if let Some(figure) = Series::new(vec![besides]) {
        note(report, own(figure));
    }
    Ok(())
}

/// Runs two things in turns, this many times each.
pub fn in_turns(
    rounds: usize,
    mut one: impl FnMut() -> Result<Round>,
    mut other: impl FnMut() -> Result<Round>,
) -> Result<[Vec<Round>; 2]> {
    let mut both = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for who in [round % 2, (round + 1) % 2] {
            both[who].push(if who == 0 { one()? } else { other()? });
        }
    }
    Ok(both)
}

/// The broker's CPU for a request, beside another one.
fn cpu(what: &str, figure: &[Round], beside: &str, other: &[Round]) -> Result<Own> {
    Ok(Own {
        what: format!("CPU of the broker for a request with {what}"),
        unit: Unit::Micros,
        figure: series(figure, |round| round.broker_cpu)?,
        beside: Some((beside.into(), series(other, |round| round.broker_cpu)?)),
        goal: Goal::AtMost(1.5),
    })
}
