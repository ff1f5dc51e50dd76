//! Time limits of requests, with real processes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use giostra_protocol::compute::{Call, Value};
use giostra_protocol::{Outcome, Reply, code};
use giostra_tests::process::{PATIENCE, wait_for};
use giostra_tests::{Setup, System};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_millis(200);

fn call(operation: &str, arguments: &[Value]) -> Call {
    Call { operation: operation.into(), arguments: arguments.to_vec() }
}

/// That it expired, and that it was the broker who said so: within the second after which the
/// client says it by itself.
fn assert_expired_at_the_broker(reply: &Reply) {
    let Outcome::Error(failure) = &reply.outcome else { panic!("{reply:?}") };
    assert_eq!(failure.code, code::EXPIRED, "{failure}");
    assert!(!failure.message.contains("did not say so"), "{failure}");
}

fn lines(system: &System, verb: &str) -> Vec<String> {
    let part = format!(" {verb} ");
    system.log().lines().filter_map(|line| line.split_once(&part)).map(|(_, rest)| rest.into()).collect()
}

#[test]
fn a_request_at_a_frozen_worker_expires_and_its_late_result_is_discarded() -> Result<()> {
    // A worker that is silent for so long is not dropped: nothing but its own time limit ends the
    // request.
    let mut system = Setup::workers(1).broker(&["--ping-interval", "60s"]).start()?;
    let mut client = system.client()?;
    client.await_broker()?;
    system.worker(1).signal(Signal::SIGSTOP)?;
    let asked = Instant::now();
    let reply = client.call(call("add", &[Value::Int(1), Value::Int(2)]).to_body(), Some(LIMIT))?;
    let took = asked.elapsed();
    assert_expired_at_the_broker(&reply);
    // It may be early by as long as the broker looks at its sockets.
    assert!(took >= LIMIT / 2, "{took:?}");
    assert_eq!(lines(&system, "expire"), ["c1#1"]);
    assert_eq!(lines(&system, "dispatch").len(), 1);

    system.worker(1).signal(Signal::SIGCONT)?;
    wait_for("the late result is discarded", || lines(&system, "discard").pop())?;
    assert_eq!(lines(&system, "discard"), ["worker-1 w1 late=0 c1#1"]);
    // Whatever the broker had sent to the client before this reply would be here before it.
    let next = client.call(call("add", &[Value::Int(3), Value::Int(4)]).to_body(), None)?;
    assert_eq!(next.outcome, Outcome::Ok(Value::Int(7).to_body()));
    assert_eq!((client.take_reply(), client.duplicated()), (None, 0));
    assert!(lines(&system, "dropped").is_empty() && lines(&system, "reply").len() == 1);
    Ok(())
}

#[test]
fn an_expired_request_is_not_handed_on_when_its_worker_dies() -> Result<()> {
    let mut system = Setup::workers(2).broker(&["--ping-interval", "60s"]).start()?;
    let mut client = system.client()?;
    client.await_broker()?;
    system.worker(1).signal(Signal::SIGSTOP)?;
    let reply = client.call(call("add", &[Value::Int(1), Value::Int(2)]).to_body(), Some(LIMIT))?;
    assert_expired_at_the_broker(&reply);
    system.kill_worker(1)?;
    let dropped = wait_for("worker-1 is dropped", || lines(&system, "dropped").pop())?;
    assert!(dropped.starts_with("worker-1 w1 returned=0 "), "{dropped}");
    client.call(call("add", &[Value::Int(1), Value::Int(2)]).to_body(), None)?;
    assert!(lines(&system, "redispatch").is_empty());
    Ok(())
}

#[test]
fn a_request_that_waits_for_a_busy_worker_expires_undispatched() -> Result<()> {
    let system = Setup::workers(1).broker(&["--window", "1"]).start()?;
    let mut client = system.client()?;
    let busy = client.submit(call("sleep", &[Value::Float(1.5)]).to_body())?;
    let waiting = client.submit_within(call("add", &[Value::Int(1), Value::Int(2)]).to_body(), Some(LIMIT))?;
    let first = client.next_reply(Some(PATIENCE))?.context("no reply came")?;
    assert_eq!(first.id, waiting);
    assert_expired_at_the_broker(&first);
    assert_eq!(first.trace.attempts, 0);
    let second = client.next_reply(Some(PATIENCE))?.context("no reply came")?;
    assert_eq!((second.id, second.outcome), (busy, Outcome::Ok(Value::Float(1.5).to_body())));
    assert_eq!(lines(&system, "dispatch").len(), 1);
    Ok(())
}

#[test]
fn a_request_expires_also_when_there_is_no_worker() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let finished = system.run(&["send", "add", "1", "2", "--timeout", "200ms", "--json"])?;
    assert_eq!((finished.code, &finished.json()?["error"]["code"]), (Some(1), &code::EXPIRED.into()));
    assert_eq!(lines(&system, "expire"), ["c1#1"]);
    Ok(())
}
