//! Requests that end the workers that compute them, and workers that end by themselves.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use giostra_protocol::compute::{Call, Value};
use giostra_protocol::{Outcome, RequestId, code};
use giostra_tests::process::{PATIENCE, Process, wait_for};
use giostra_tests::{Setup, System};
use giostra_transport::keys::Role;
use nix::sys::signal::Signal;

/// Starts workers with an operation `die`, one by one.
fn start_fragile_workers(system: &System, count: usize) -> Result<Vec<Process>> {
    (1..=count)
        .map(|number| {
            let name = format!("fragile-{number}");
            let args = ["--broker", system.backend(), "--name", &name];
            let process = Process::start(system.folder(), &name, "fragile", &args)?;
            let joined = format!(" joined {name} ");
            system.wait_for_line(&[&joined])?;
            Ok(process)
        })
        .collect()
}

fn call(operation: &str, arguments: &[i64]) -> Call {
    Call { operation: operation.into(), arguments: arguments.iter().copied().map(Value::Int).collect() }
}

/// Sends additions, in the middle of them a request that ends its worker. The outcomes, and which
/// one that request is.
fn outcomes(system: &System, additions: i64) -> Result<(HashMap<RequestId, Outcome>, RequestId)> {
    let mut client = system.client()?;
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
fn a_request_that_kills_its_workers_fails_after_the_limit_and_all_others_are_answered() -> Result<()> {
    // Each worker holds many requests, and takes them along: they are lost with the deadly one, but not
    // given up with it.
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
    // A process that ends closes its connection first: the broker may know before it is gone.
    wait_for("one worker is left", || {
        (workers.iter_mut().filter_map(|worker| worker.is_running().then_some(())).count() == 1).then_some(())
    })?;
    Ok(())
}

#[test]
fn an_operation_that_panics_becomes_an_error_reply_and_its_worker_lives_on() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let workers = start_fragile_workers(&system, 1)?;
    let mut client = system.client()?;
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

/// Connections to an endpoint, which can be cut.
struct Relay {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn to(endpoint: &str) -> Result<Self> {
        let to = endpoint.trim_start_matches("tcp://").to_string();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, open) = (listener.local_addr()?, Arc::new(Mutex::new(Vec::new())));
        let known = Arc::clone(&open);
        // It ends with the process.
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&to) else { continue };
                // Before a byte goes through, so that `cut` misses no connection that the broker knows of.
                let both = [&near, &far].map(|stream| stream.try_clone().expect("a descriptor"));
                known.lock().unwrap().extend(both);
                for (mut from, mut into) in [(&near, &far), (&far, &near)].map(|(from, into)| {
                    (from.try_clone().expect("a descriptor"), into.try_clone().expect("a descriptor"))
                }) {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut into);
                        let _ = into.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Ok(Self { address, open })
    }

    /// Cuts all connections; new ones are let through.
    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The lines of workers that were lost while they had the only request, with what is held against
/// it and why.
fn losses(system: &System, how: &str) -> usize {
    let log = system.log();
    log.lines().filter(|line| line.contains(" dropped ") && line.contains(" c1#1 ") && line.contains(how)).count()
}

fn wait_for_losses(system: &System, how: &str, count: usize) -> Result<()> {
    wait_for(&format!("{count} times {how}"), || (losses(system, how) >= count).then_some(()))
}

/// The only request is dispatched for the `count`th time.
fn wait_for_dispatch(system: &System, count: usize) -> Result<()> {
    wait_for(&format!("dispatch {count}"), || {
        let log = system.log();
        (log.matches(" dispatch ").count() + log.matches(" redispatch ").count() >= count).then_some(())
    })
}

/// The request was answered, and the audit knows of nothing that was given up.
fn expect_slept(system: &System, sleeping: giostra_tests::system::Batch, seconds: &str) -> Result<()> {
    let slept = sleeping.finish()?;
    ensure!((slept.code, slept.stdout.trim()) == (Some(0), seconds), "{slept:?}");
    let report = system.audit()?;
    ensure!(report.counts.poisoned == 0, "{report}");
    Ok(())
}

#[test]
fn workers_asked_to_leave_with_little_time_poison_no_request() -> Result<()> {
    let mut system = Setup::workers(0).broker(&["--max-attempts", "1"]).worker(&["--grace", "100ms"]).start()?;
    let sleeping = system.begin(&["send", "sleep", "2"])?;
    for number in 1..=3 {
        system.start_worker(number)?;
        wait_for_dispatch(&system, number)?;
        system.worker(number).signal(Signal::SIGTERM)?;
        system.worker(number).wait()?;
        wait_for_losses(&system, " evidence=no reason=", number)?;
    }
    system.start_worker(4)?;
    expect_slept(&system, sleeping, "2")
}

#[test]
fn a_worker_whose_connection_is_cut_again_and_again_poisons_no_request() -> Result<()> {
    for max_attempts in ["1", "2"] {
        let mut system = Setup::workers(0).broker(&["--max-attempts", max_attempts]).start()?;
        let relay = Relay::to(system.backend())?;
        let endpoint = format!("tcp://{}", relay.address);
        let args = ["--broker", &endpoint, "--name", "far"];
        let _worker = Process::start(system.folder(), "far", "giostra-worker", &args)?;
        system.wait_for_lines(" joined far ", 1)?;
        let sleeping = system.begin(&["send", "sleep", "1"])?;
        for cut in 1..=5 {
            wait_for_dispatch(&system, cut)?;
            relay.cut();
            system.wait_for_lines(&format!(" back=w{cut}"), 1)?;
        }
        expect_slept(&system, sleeping, "1")?;
        assert_eq!(losses(&system, " evidence=unless-back reason="), 5);
    }
    Ok(())
}

#[test]
fn a_worker_that_is_suspended_again_and_again_poisons_no_request() -> Result<()> {
    let broker = ["--max-attempts", "2", "--ping-interval", "500ms"];
    let mut system = Setup::workers(1).broker(&broker).start()?;
    let sleeping = system.begin(&["send", "sleep", "2"])?;
    for round in 1..=3 {
        wait_for_dispatch(&system, round)?;
        // It has answered since it registered: it is not taken for silent when it is handed the request.
        system.worker(1).signal(Signal::SIGSTOP)?;
        wait_for_losses(&system, " evidence=unless-back reason=3 pings unanswered", round)?;
        system.worker(1).signal(Signal::SIGCONT)?;
        system.wait_for_lines(&format!(" back=w{round}"), 1)?;
    }
    expect_slept(&system, sleeping, "2")
}

#[test]
fn a_worker_whose_key_is_taken_out_poisons_no_request() -> Result<()> {
    let mut system = Setup::workers(1).broker(&["--max-attempts", "1"]).secured().start()?;
    let sleeping = system.begin(&["send", "sleep", "1"])?;
    wait_for_dispatch(&system, 1)?;
    fs::remove_file(system.certificate("worker-1", Role::Worker))?;
    system.reload()?;
    wait_for_losses(&system, " evidence=no reason=its key is no longer allowed", 1)?;
    system.start_worker(2)?;
    expect_slept(&system, sleeping, "1")
}

#[test]
fn with_one_attempt_a_request_is_not_tried_again_after_a_crash_and_says_so() -> Result<()> {
    let mut system = Setup::workers(2).broker(&["--max-attempts", "1"]).start()?;
    let sleeping = system.begin(&["send", "sleep", "60", "--json"])?;
    wait_for_dispatch(&system, 1)?;
    system.kill_worker(1)?;
    let ended = sleeping.finish()?;
    let error = &ended.json()?["error"];
    ensure!(ended.code == Some(1) && error["code"] == code::POISON, "{ended:?}");
    let message = error["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("(worker-1), and has not come back; it is not tried again (--max-attempts 1)"),
        "{message}"
    );
    ensure!(!system.log().contains(" redispatch "));
    system.audit()?;
    Ok(())
}
