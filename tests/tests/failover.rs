//! Workers and brokers that are killed, frozen and started again in the middle of a batch.

use anyhow::Result;
use giostra_tests::Setup;
use giostra_tests::process::wait_for;
use nix::sys::signal::Signal;
use serde_json::json;

/// Enough for something to happen in the middle of it.
const MANY: &str = "200000";

#[test]
fn a_killed_workers_requests_are_answered_by_the_others() -> Result<()> {
    let mut system = Setup::workers(3).start()?;
    let batch = system.begin_random(MANY, &[], "worker-")?;
    system.kill_worker(2)?;
    let dropped = system.wait_for_line(&[" dropped worker-2 "])?;
    // Found out by the notice, or by a send that had nowhere to go, whichever came first; not by pings.
    assert!(dropped.ends_with("reason=connection broke") || dropped.ends_with("reason=unreachable"), "{dropped}");
    let summary = batch.finish()?.all_well()?;
    assert_eq!(summary["answered"].to_string(), MANY);

    // Every request that was given back was dispatched again.
    let returned: u64 = dropped.split("returned=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse()?;
    assert_eq!(summary["redispatched"], returned);
    // From then on the lines go round two seats.
    let log = system.log();
    let after = log.split(" dropped worker-2 ").nth(1).unwrap();
    let turns: Vec<_> = after
        .lines()
        .filter_map(|line| line.split("dispatch worker-").nth(1))
        .filter_map(|rest| rest.chars().next())
        .collect();
    assert!(turns.len() > 10 && turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
    assert!(turns.iter().all(|&turn| turn == '1' || turn == '3'));

    // Started again, it sits at the tail.
    system.start_worker(2)?;
    assert!(system.wait_for_line(&[" joined worker-2 w4 "])?.contains(" seats=3 "));
    let before = system.count(" dispatch ");
    system.random(&["6", "--window", "1"])?;
    let turns: String = system.lines(" dispatch ")[before..]
        .iter()
        .filter_map(|line| line.split(" dispatch worker-").nth(1)?.chars().next())
        .collect();
    assert!("132132132".contains(&turns), "{turns}");
    let report = system.audit()?;
    assert_eq!((report.counts.workers_dropped, report.counts.returned), (1, returned));
    assert_eq!((report.counts.redispatched, report.counts.open), (returned, 0));
    Ok(())
}

#[test]
fn a_frozen_worker_is_dropped_by_its_pings_and_registers_anew_when_it_thaws() -> Result<()> {
    let mut system = Setup::workers(3).broker(&["--ping-interval", "1s"]).start()?;
    let batch = system.begin_random(MANY, &[], "worker-")?;
    system.worker(2).signal(Signal::SIGSTOP)?;
    let dropped = system.wait_for_line(&[" dropped worker-2 "])?;
    assert!(dropped.ends_with("reason=3 pings unanswered"), "{dropped}");
    let summary = batch.finish()?.all_well()?;
    assert!(summary["redispatched"].as_u64() > Some(0));
    system.worker(2).signal(Signal::SIGCONT)?;
    system.wait_for_registration(2, 2)?;
    assert_eq!(system.random(&["300"])?["workers"], json!({"worker-1": 100, "worker-2": 100, "worker-3": 100}));
    system.audit()?;
    Ok(())
}

#[test]
fn the_late_result_of_a_thawed_worker_is_discarded() -> Result<()> {
    let mut system = Setup::workers(2).broker(&["--ping-interval", "1s"]).start()?;
    let batch = system.begin(&["send", "sleep", "0.3", "--json"])?;
    system.wait_for_line(&[" dispatch worker-1 "])?;
    system.worker(1).signal(Signal::SIGSTOP)?;
    let finished = batch.finish()?;
    assert_eq!(finished.json()?["trace"]["worker"], "worker-2");
    assert_eq!(finished.json()?["trace"]["attempts"], 2);
    system.worker(1).signal(Signal::SIGCONT)?;
    system.wait_for_registration(1, 2)?;
    assert_eq!(system.count(" reply worker-"), 1);
    system.audit()?;
    Ok(())
}

#[test]
fn a_killed_and_restarted_broker_costs_a_batch_only_time() -> Result<()> {
    let mut system = Setup::workers(3).start()?;
    let batch = system.begin_random(MANY, &[], "worker-")?;
    for life in 2..=3 {
        system.kill_broker()?;
        system.start_broker()?;
        (1..=3).try_for_each(|worker| system.wait_for_registration(worker, life))?;
    }
    assert_eq!(batch.finish()?.all_well()?["answered"].to_string(), MANY);
    // The connections made anew bear a load as well as the first ones did.
    system.random(&[MANY])?;
    assert!(system.lines(" dropped ").is_empty());
    let report = system.audit()?;
    assert_eq!(report.counts.lives, 3);
    assert_eq!(report.counts.accepted, report.counts.replies + report.counts.open);
    Ok(())
}

#[test]
fn when_the_last_worker_dies_its_requests_wait_for_the_next() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let batch = system.begin_random(MANY, &[], "worker-")?;
    system.kill_worker(1)?;
    system.wait_for_line(&[" dropped worker-1 "])?;
    system.start_worker(1)?;
    batch.finish()?.all_well()?;
    system.audit()?;
    Ok(())
}

#[test]
fn a_worker_survives_the_end_of_the_broker() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    system.broker().signal(Signal::SIGTERM)?;
    assert_eq!(system.broker().wait()?.code(), Some(0));
    system.start_broker()?;
    system.wait_for_registration(1, 2)?;
    system.random(&["100"])?;
    assert_eq!(system.audit()?.counts.lives, 2);
    Ok(())
}

#[test]
fn a_client_that_dies_leaves_nothing_behind() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let mut batch = system.begin_random(MANY, &[], "worker-")?;
    batch.process().signal(Signal::SIGKILL)?;
    system.wait_for_line(&[" client-left c1 "])?;
    wait_for("the broker holds nothing of it", || {
        let status = system.status().expect("the broker answers");
        (status["pending"] == 0 && status["workers"][0]["in_flight"] == 0).then_some(())
    })?;
    system.random(&["1000"])?;
    system.audit()?;
    Ok(())
}
