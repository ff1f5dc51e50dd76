//! The examples in Python, written from the protocol's page alone, together with the real broker, workers and client.
//!
//! Only where the machine has what they need (`giostra_tests::python`); elsewhere these tests count as ignored.

use std::fs;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use giostra_tests::process::wait_for;
use giostra_tests::{Batch, Process, Setup, System, python, test, trials};
use nix::sys::signal::Signal;
use serde_json::json;

/// Enough for something to happen in the middle of it.
const MANY: &str = "200000";

fn main() -> ExitCode {
    trials::run(&[
        test!(a_python_clients_batch_is_answered_by_the_ready_workers needs python::available),
        test!(a_python_clients_large_body_comes_back_as_it_was needs python::available),
        test!(a_python_client_that_is_turned_away_waits_for_room needs python::available),
        test!(a_python_client_learns_of_errors_and_of_its_time_limit needs python::available),
        test!(a_python_worker_takes_its_turns_in_the_ring needs python::available),
        test!(a_python_worker_leaves_at_sigterm_and_nothing_is_lost needs python::available),
        test!(a_killed_python_workers_requests_are_answered_by_the_others needs python::available),
        test!(a_killed_and_restarted_broker_costs_them_only_time needs python::available),
    ])
}

fn a_python_clients_batch_is_answered_by_the_ready_workers() -> Result<()> {
    let system = Setup::workers(3).start()?;
    finish_well(client(&system, "many", &[])?)?;
    let counts = system.audit()?.counts;
    assert_eq!((counts.accepted, counts.replies, counts.reply_errors, counts.open), (1000, 1000, 0, 0));
    Ok(())
}

fn a_python_clients_large_body_comes_back_as_it_was() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let body = system.folder().join("body");
    fs::write(&body, "giostra!".repeat(1 << 17))?;
    let mut echo = client(&system, "echo", &["echo", &body.display().to_string()])?;
    ensure!(echo.wait()?.success(), "{}", echo.stderr());
    ensure!(echo.stdout() == fs::read_to_string(&body)?, "{} bytes came back", echo.stdout().len());
    Ok(())
}

fn a_python_client_that_is_turned_away_waits_for_room() -> Result<()> {
    let system = Setup::workers(1).broker(&["--max-pending", "50"]).start()?;
    finish_well(client(&system, "many", &[])?)?;
    ensure!(system.log().contains(" busy c1 "), "there was room for all: {}", system.log());
    Ok(())
}

fn a_python_client_learns_of_errors_and_of_its_time_limit() -> Result<()> {
    let system = Setup::workers(1).start()?;
    for (name, args, explanation) in [
        ("failed", &["div", "1", "0"][..], "failed: division by zero"),
        ("invalid", &["nosuch", "1", "0"], "invalid: unknown operation 'nosuch'"),
        ("expired", &["add", "1", "0", "--pool=empty", "--timeout=0.3"], "expired: "),
        ("alone", &["add", "1", "0", "--broker=tcp://127.0.0.1:1", "--timeout=0.3"], "no reply within 0.3 s"),
    ] {
        let mut client = client(&system, name, args)?;
        assert_eq!((client.wait()?.code(), &*client.stdout()), (Some(1), ""), "{args:?}");
        ensure!(client.stderr().starts_with(explanation), "{args:?}: {}", client.stderr());
    }
    Ok(())
}

fn a_python_worker_takes_its_turns_in_the_ring() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let _python = worker(&system, "python-1")?;
    assert_eq!(system.random(&["20000"])?["workers"], json!({"python-1": 10000, "worker-1": 10000}));
    finish_well(client(&system, "many", &[])?)?;
    assert_eq!(system.audit()?.counts.redispatched, 0);
    Ok(())
}

fn a_python_worker_leaves_at_sigterm_and_nothing_is_lost() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let mut python = worker(&system, "python-1")?;
    let batch = begin_batch(&mut system)?;
    python.signal(Signal::SIGTERM)?;
    assert_eq!(python.wait()?.code(), Some(0), "{}", python.stderr());
    assert_eq!(batch.finish()?.all_well()?["redispatched"], 0);
    wait_for_line(&system, " leaving python-1 w2 ")?;
    wait_for_line(&system, " left python-1 w2")?;
    system.audit()?;
    Ok(())
}

fn a_killed_python_workers_requests_are_answered_by_the_others() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let python = worker(&system, "python-1")?;
    let batch = begin_batch(&mut system)?;
    python.kill()?;
    assert_eq!(batch.finish()?.all_well()?["answered"].to_string(), MANY);
    wait_for_line(&system, " dropped python-1 w2 ")?;
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
    let mut python = worker(&system, "python-1")?;
    finish_well(client)?;

    system.kill_broker()?;
    system.start_broker()?;
    wait_for("the worker is back", || (system.log().matches(" joined python-1 ").count() == 2).then_some(()))?;
    system.random(&["100"])?;
    python.signal(Signal::SIGINT)?;
    assert_eq!(python.wait()?.code(), Some(0), "{}", python.stderr());
    assert_eq!(system.audit()?.counts.lives, 3);
    Ok(())
}

/// Starts the client.
fn client(system: &System, name: &str, args: &[&str]) -> Result<Process> {
    let broker = ["--broker", system.frontend()];
    python::start(system.folder(), name, "client.py", &[&broker, args].concat())
}

/// Waits for the end of its thousand additions, all of which must be right.
fn finish_well(mut client: Process) -> Result<()> {
    let code = client.wait()?.code();
    let said = [client.stdout(), client.stderr()];
    assert_eq!((code, said), (Some(0), ["1000 of 1000 answered, 1000 of them rightly\n".into(), String::new()]));
    Ok(())
}

/// Starts the worker, and waits until it is registered.
fn worker(system: &System, name: &str) -> Result<Process> {
    let args = ["--broker", system.backend(), "--name", name];
    let worker = python::start(system.folder(), name, "worker.py", &args)?;
    wait_for_line(system, &format!(" joined {name} "))?;
    Ok(worker)
}

/// Starts a batch and waits until the Python worker is well at it.
fn begin_batch(system: &mut System) -> Result<Batch> {
    let batch = system.begin(&["random", MANY, "--json"])?;
    wait_for("the batch is under way", || (system.log().matches(" reply python-1 ").count() > 20).then_some(()))?;
    Ok(batch)
}

fn wait_for_line(system: &System, part: &str) -> Result<()> {
    wait_for(part, || system.log().contains(part).then_some(()))
}
