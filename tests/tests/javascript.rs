//! The examples in JavaScript, written from the protocol's page alone, together with the real
//! broker, workers and client.
//!
//! Only where the machine has what they need (`giostra_tests::javascript`); elsewhere these tests
//! count as ignored.

use std::fs;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use giostra_tests::process::wait_for;
use giostra_tests::{Process, Setup, System, javascript, test, trials};
use giostra_transport::keys::Role;
use nix::sys::signal::Signal;
use serde_json::json;

/// Enough for something to happen in the middle of it.
const MANY: &str = "100000";

fn main() -> ExitCode {
    trials::run(&[
        test!(a_javascript_clients_batch_is_answered_by_the_ready_workers needs javascript::available),
        test!(a_javascript_clients_large_body_comes_back_as_it_was needs javascript::available),
        test!(a_javascript_client_that_is_rejected_waits_for_credit needs javascript::available),
        test!(a_javascript_client_submits_no_more_than_the_broker_takes needs javascript::available),
        test!(a_javascript_client_learns_of_errors_and_of_its_time_limit needs javascript::available),
        test!(a_javascript_client_that_is_refused_says_why_and_ends needs javascript::available),
        test!(a_javascript_worker_takes_its_turns_in_the_ring needs javascript::available),
        test!(a_javascript_worker_answers_pings_while_it_computes needs javascript::available),
        test!(a_javascript_worker_leaves_at_sigterm_and_nothing_is_lost needs javascript::available),
        test!(a_killed_javascript_workers_requests_are_answered_by_the_others needs javascript::available),
        test!(a_killed_and_restarted_broker_costs_them_only_time needs javascript::available),
        test!(javascript_peers_with_keys_work_beside_the_others needs javascript::available),
    ])
}

fn a_javascript_clients_batch_is_answered_by_the_ready_workers() -> Result<()> {
    let system = Setup::workers(3).start()?;
    finish_well(client(&system, "many", &[])?)?;
    let counts = system.audit()?.counts;
    assert_eq!((counts.accepted, counts.replies, counts.reply_errors, counts.open), (1000, 1000, 0, 0));
    Ok(())
}

fn a_javascript_clients_large_body_comes_back_as_it_was() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let body = system.folder().join("body");
    fs::write(&body, "giostra!".repeat(1 << 17))?;
    let mut echo = client(&system, "echo", &["echo", &format!("@{}", body.display())])?;
    ensure!(echo.wait()?.success(), "{}", echo.stderr());
    ensure!(echo.stdout() == fs::read_to_string(&body)?, "{} bytes came back", echo.stdout().len());
    Ok(())
}

fn a_javascript_client_that_is_rejected_waits_for_credit() -> Result<()> {
    let system = Setup::workers(1).broker(&["--max-pending", "50"]).start()?;
    finish_well(client(&system, "many", &[])?)?;
    ensure!(system.log().contains(" rejected c1 "), "there was room for all: {}", system.log());
    Ok(())
}

fn a_javascript_client_submits_no_more_than_the_broker_takes() -> Result<()> {
    let system = Setup::workers(1).broker(&["--max-batch", "7", "--max-message", "1MiB"]).start()?;
    finish_well(client(&system, "many", &[])?)?;
    let large = system.folder().join("large");
    fs::write(&large, vec![b'x'; 1 << 20])?;
    let mut echo = client(&system, "large", &["echo", &format!("@{}", large.display())])?;
    assert_eq!(echo.wait()?.code(), Some(1));
    ensure!(echo.stderr().contains("this broker takes 1048576 at most"), "{}", echo.stderr());
    assert_eq!(system.count(" client-joined "), 2, "neither lost its connection");
    assert_eq!(system.audit()?.counts.accepted, 1000);
    Ok(())
}

fn a_javascript_client_learns_of_errors_and_of_its_time_limit() -> Result<()> {
    let system = Setup::workers(1).start()?;
    for (name, args, explanation) in [
        ("failed", &["div", "1", "0"][..], "failed: division by zero"),
        ("invalid", &["nosuch", "1", "0"], "invalid: unknown operation 'nosuch'"),
        ("expired", &["add", "1", "0", "--pool=empty", "--timeout=0.3"], "expired: "),
        (
            "alone",
            &["add", "1", "0", "--broker=tcp://127.0.0.1:1", "--timeout=0.3"],
            "no-broker: no reply within 300 ms",
        ),
    ] {
        let mut client = client(&system, name, args)?;
        assert_eq!((client.wait()?.code(), &*client.stdout()), (Some(1), ""), "{args:?}");
        ensure!(client.stderr().starts_with(explanation), "{args:?}: {}", client.stderr());
    }
    Ok(())
}

fn a_javascript_client_that_is_refused_says_why_and_ends() -> Result<()> {
    let system = Setup::workers(1).secured().start()?;
    system.make_keys("mallory")?;
    let keys = system.key_args("mallory");
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    let mut client = client(&system, "mallory", &[&keys[..], &["add", "1", "2"]].concat())?;
    assert_eq!((client.wait()?.code(), &*client.stdout()), (Some(1), ""));
    ensure!(client.stderr() == "refused: this key is not let in here\n", "{}", client.stderr());
    Ok(())
}

fn a_javascript_worker_takes_its_turns_in_the_ring() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let _javascript = worker(&system, "node-1", &[])?;
    assert_eq!(system.random(&["20000"])?["workers"], json!({"node-1": 10000, "worker-1": 10000}));
    finish_well(client(&system, "many", &[])?)?;
    assert_eq!(system.audit()?.counts.redispatched, 0);
    Ok(())
}

fn a_javascript_worker_answers_pings_while_it_computes() -> Result<()> {
    let system = Setup::workers(0).broker(&["--ping-interval", "250ms"]).start()?;
    let _javascript = worker(&system, "node-1", &[])?;
    // Long enough for the broker to have dropped a worker that answers none: four intervals.
    let mut block = client(&system, "block", &["block", "2.5"])?;
    ensure!(block.wait()?.success() && block.stdout() == "2.5\n", "{}", block.stderr());
    assert_eq!(system.count(" joined node-1 "), 1);
    assert_eq!(system.audit()?.counts.redispatched, 0);
    Ok(())
}

fn a_javascript_worker_leaves_at_sigterm_and_nothing_is_lost() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let mut javascript = worker(&system, "node-1", &["--threads", "2"])?;
    let batch = system.begin_random(MANY, &[], "node-1 ")?;
    javascript.signal(Signal::SIGTERM)?;
    assert_eq!(javascript.wait()?.code(), Some(0), "{}", javascript.stderr());
    assert_eq!(batch.finish()?.all_well()?["redispatched"], 0);
    system.wait_for_line(&[" leaving node-1 w2 "])?;
    system.wait_for_line(&[" left node-1 w2"])?;
    system.audit()?;
    Ok(())
}

fn a_killed_javascript_workers_requests_are_answered_by_the_others() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let javascript = worker(&system, "node-1", &[])?;
    let batch = system.begin_random(MANY, &[], "node-1 ")?;
    javascript.kill()?;
    assert_eq!(batch.finish()?.all_well()?["answered"].to_string(), MANY);
    system.wait_for_line(&[" dropped node-1 w2 "])?;
    system.audit()?;
    Ok(())
}

fn a_killed_and_restarted_broker_costs_them_only_time() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let client = client(&system, "many", &["--timeout", "60"])?;
    wait_for("the batch is accepted", || (system.status().ok()?["pending"] == 1000).then_some(()))?;
    system.kill_broker()?;
    system.start_broker()?;
    wait_for("it is accepted again", || (system.status().ok()?["pending"] == 1000).then_some(()))?;
    let mut javascript = worker(&system, "node-1", &[])?;
    finish_well(client)?;

    system.kill_broker()?;
    system.start_broker()?;
    system.wait_for_lines(" joined node-1 ", 2)?;
    system.random(&["100"])?;
    javascript.signal(Signal::SIGINT)?;
    assert_eq!(javascript.wait()?.code(), Some(0), "{}", javascript.stderr());
    assert_eq!(system.audit()?.counts.lives, 3);
    Ok(())
}

fn javascript_peers_with_keys_work_beside_the_others() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    for (name, role) in [("alice", Role::Client), ("node-1", Role::Worker)] {
        system.make_keys(name)?;
        system.allow(name, role)?;
    }
    system.reload()?;
    let _javascript = worker(&system, "node-1", &[])?;
    assert_eq!(system.random(&["2000"])?["workers"], json!({"node-1": 1000, "worker-1": 1000}));
    let keys = system.key_args("alice");
    finish_well(client(&system, "many", &keys.iter().map(String::as_str).collect::<Vec<_>>())?)?;
    let report = system.audit()?;
    assert_eq!((report.counts.accepted, report.counts.replies, report.counts.redispatched), (3000, 3000, 0));
    ensure!(!system.log().contains(" refuse "), "somebody was refused: {}", system.log());
    Ok(())
}

/// Starts the client.
fn client(system: &System, name: &str, args: &[&str]) -> Result<Process> {
    let broker = ["--broker", system.frontend()];
    javascript::start(system.folder(), name, "client.mjs", &[&broker, args].concat())
}

/// Waits for the end of its thousand additions, all of which must be right.
fn finish_well(mut client: Process) -> Result<()> {
    let code = client.wait()?.code();
    let output = [client.stdout(), client.stderr()];
    assert_eq!((code, output), (Some(0), ["1000 of 1000 answered, 1000 of them correctly\n".into(), String::new()]));
    Ok(())
}

/// Starts the worker, with the keys of its name if the system has keys, and waits until it is
/// registered.
fn worker(system: &System, name: &str, args: &[&str]) -> Result<Process> {
    let own = ["--broker", system.backend(), "--name", name];
    let keys = system.key_args(name);
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    let worker = javascript::start(system.folder(), name, "worker.mjs", &[&own[..], args, &keys].concat())?;
    system.wait_for_line(&[&format!(" joined {name} ")])?;
    Ok(worker)
}
