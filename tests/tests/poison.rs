//! Requests that end the workers that compute them.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use giostra_client::{Client, Options};
use giostra_common::compute::{Call, Value};
use giostra_common::protocol::{Outcome, RequestId, code};
use giostra_tests::process::{PATIENCE, Process, wait_for};
use giostra_tests::{Setup, System};

/// Starts workers with an operation `die`, one by one.
fn start_fragile_workers(system: &System, count: usize) -> Result<Vec<Process>> {
    (1..=count)
        .map(|number| {
            let name = format!("fragile-{number}");
            let args = ["--broker", system.backend(), "--name", &name];
            let process = Process::start(system.folder(), &name, "fragile", &args)?;
            let joined = format!(" joined {name} ");
            wait_for(&joined, || system.log().contains(&joined).then_some(()))?;
            Ok(process)
        })
        .collect()
}

fn call(operation: &str, arguments: &[i64]) -> Call {
    Call { operation: operation.into(), arguments: arguments.iter().copied().map(Value::Int).collect() }
}

/// Sends additions, in the middle of them a request that ends its worker. The outcomes, and which one that request is.
fn outcomes(system: &System, additions: i64) -> Result<(HashMap<RequestId, Outcome>, RequestId)> {
    let mut client = Client::connect(Options { broker: system.frontend().into(), ..Options::default() })?;
    let mut deadly = None;
    for n in 1..=additions {
        client.submit(call("add", &[n, n]).to_body())?;
        if n == additions / 2 {
            deadly = Some(client.submit(call("die", &[]).to_body())?);
        }
    }
    let mut outcomes = HashMap::new();
    while client.unanswered() > 0 {
        let reply = client.next_reply(Some(PATIENCE))?.context("no reply came")?;
        assert!(outcomes.insert(reply.id, reply.outcome).is_none(), "request {} was answered twice", reply.id.0);
    }
    assert_eq!((client.next_reply(Some(Duration::ZERO))?, client.duplicated()), (None, 0));
    Ok((outcomes, deadly.context("there are too few additions")?))
}

#[test]
fn a_request_that_ends_its_workers_is_given_up_after_so_many_and_all_others_are_answered() -> Result<()> {
    // Each worker holds many requests, and takes them along: they are lost with the deadly one, but not given up with it.
    let system = Setup::workers(0).broker(&["--max-attempts", "3"]).start()?;
    let mut workers = start_fragile_workers(&system, 4)?;
    let (outcomes, deadly) = outcomes(&system, 300)?;
    assert_eq!(outcomes.len(), 301);

    let log = system.log();
    let lost: Vec<_> = log.lines().filter_map(|line| line.split(" dropped ").nth(1)?.split(' ').next()).collect();
    assert_eq!(lost.len(), 3, "{lost:?}");
    let given_up: Vec<_> = log.lines().filter_map(|line| line.split(" poison ").nth(1)).collect();
    assert_eq!(given_up, [format!("c1#{} workers={}", deadly.0, lost.join(","))]);
    for (id, outcome) in &outcomes {
        match outcome {
            Outcome::Error(failure) if *id == deadly => {
                assert_eq!(failure.code, code::POISON);
                assert!(failure.message.contains(&format!("({})", lost.join(", "))), "{failure}");
            }
            Outcome::Ok(_) if *id != deadly => {}
            other => panic!("request {}: {other:?}", id.0),
        }
    }
    assert_eq!(workers.iter_mut().filter_map(|worker| worker.is_running().then_some(())).count(), 1);
    Ok(())
}

#[test]
fn an_operation_that_panics_becomes_an_error_reply_and_its_worker_lives_on() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let workers = start_fragile_workers(&system, 1)?;
    let mut client = Client::connect(Options { broker: system.frontend().into(), ..Options::default() })?;
    for n in 1..=3 {
        let panicked = client.call(call("panic", &[n]).to_body(), Some(PATIENCE))?;
        let Outcome::Error(failure) = panicked.outcome else { anyhow::bail!("{:?}", panicked.outcome) };
        assert_eq!(failure.to_string(), "failed: the operation panicked: on purpose");
        let sum = client.call(call("add", &[n, 1]).to_body(), Some(PATIENCE))?;
        assert_eq!(sum.outcome, Outcome::Ok(Value::Int(n + 1).to_body()));
    }
    let log = system.log();
    assert!(log.matches(" joined fragile-1 ").count() == 1 && !log.contains(" dropped "), "{log}");
    // It has the library's log, as its command line says.
    let stderr = workers[0].stderr();
    assert!(stderr.contains(" registered as "), "{stderr}");
    Ok(())
}
