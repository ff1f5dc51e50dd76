//! The threads of a worker: none of them waits for another's long computation, and a worker at rest
//! does nothing at all.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use giostra_client::Client;
use giostra_protocol::compute::{Call, Value};
use giostra_protocol::{Outcome, RequestId};
use giostra_tests::Setup;
use giostra_tests::process::PATIENCE;
use nix::sys::signal::Signal;

fn sleeping(seconds: f64) -> Call {
    Call { operation: "sleep".into(), arguments: vec![Value::Float(seconds)] }
}

fn adding(a: i64, b: i64) -> Call {
    Call { operation: "add".into(), arguments: vec![Value::Int(a), Value::Int(b)] }
}

/// The next reply, which must be a result.
fn next(client: &mut Client) -> Result<RequestId> {
    let reply = client.next_reply(Some(PATIENCE))?.context("no reply came")?;
    assert!(matches!(reply.outcome, Outcome::Ok(_)), "{reply:?}");
    Ok(reply.id)
}

/// Sends what has been submitted.
fn flush(client: &mut Client) -> Result<()> {
    assert_eq!(client.next_reply(Some(Duration::ZERO))?, None);
    Ok(())
}

/// How often the threads of a process have gone to sleep of their own accord.
fn sleeps(process: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.context("no such line")?.trim().parse::<u64>()?;
    }
    Ok(sum)
}

#[test]
fn a_short_requests_result_does_not_wait_for_the_long_one_behind_it() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let mut client = system.client()?;
    // Many short ones first: the thread then takes many at once, and the long one among them.
    for round in 0..3 {
        let began = Instant::now();
        let mut short: Vec<_> =
            (0..200).map(|i| client.submit(adding(i, round).to_body())).collect::<Result<_, _>>()?;
        let long = client.submit(sleeping(3.0).to_body())?;
        while !short.is_empty() {
            let id = next(&mut client)?;
            assert_ne!(id, long, "{} results came after it", short.len());
            short.retain(|&other| other != id);
        }
        assert!(began.elapsed() < Duration::from_millis(2900), "{:?}", began.elapsed());
        assert_eq!(next(&mut client)?, long);
    }
    Ok(())
}

#[test]
fn requests_behind_a_long_one_are_computed_by_idle_threads() -> Result<()> {
    let mut system = Setup::workers(1).worker(&["--threads", "3"]).start()?;
    system.random(&["20000"])?;
    let mut client = system.client()?;
    let began = Instant::now();
    // Two of three threads get stuck somewhere among the others.
    let mut all = Vec::new();
    for i in 0..300 {
        let call = if i == 10 || i == 100 { sleeping(5.0) } else { adding(i, 1) };
        all.push(client.submit(call.to_body())?);
    }
    let long = [all[10], all[100]];
    for _ in 0..298 {
        assert!(!long.contains(&next(&mut client)?));
    }
    assert!(began.elapsed() < Duration::from_millis(4900), "{:?}", began.elapsed());
    // And they do not delay later requests.
    for i in 0..20 {
        let id = client.submit(adding(i, 2).to_body())?;
        assert_eq!(next(&mut client)?, id);
    }
    let last = [next(&mut client)?, next(&mut client)?];
    assert!(long.iter().all(|id| last.contains(id)));
    Ok(())
}

#[test]
fn four_threads_sleep_four_times_as_much() -> Result<()> {
    let mut system = Setup::workers(1).worker(&["--threads", "4"]).start()?;
    // All in one message, and then one by one; each after many short ones.
    for pause in [0, 50] {
        system.random(&["20000"])?;
        let mut client = system.client()?;
        let began = Instant::now();
        for _ in 0..4 {
            client.submit(sleeping(2.0).to_body())?;
            if pause > 0 {
                flush(&mut client)?;
                sleep(Duration::from_millis(pause));
            }
        }
        for _ in 0..4 {
            next(&mut client)?;
        }
        let took = began.elapsed();
        assert!(took < Duration::from_millis(3900), "one after the other would take 8 s, two at once 4 s: {took:?}");
    }
    Ok(())
}

#[test]
fn a_worker_receives_the_signal_while_all_its_threads_compute() -> Result<()> {
    let mut system = Setup::workers(1).worker(&["--threads", "2", "--grace", "1s"]).start()?;
    let mut client = system.client()?;
    for _ in 0..10 {
        client.submit(sleeping(60.0).to_body())?;
    }
    flush(&mut client)?;
    system.wait_for_line(&[" dispatch "])?;
    system.worker(1).signal(Signal::SIGTERM)?;
    assert_eq!(system.worker(1).wait()?.code(), Some(0));
    let said = system.worker(1).stderr();
    // It may hear the signal before it has read the requests, so only their number at the end is certain.
    assert!(said.contains(" requests to finish first") && said.contains("leaving 3 requests unfinished"), "{said}");
    Ok(())
}

#[test]
fn a_worker_at_rest_does_nothing() -> Result<()> {
    let mut system = Setup::workers(1).worker(&["--threads", "4"]).broker(&["--ping-interval", "60s"]).start()?;
    system.random(&["20000"])?;
    let worker = system.worker(1).id();
    // Two seconds of rest, in one of a few attempts: the machine may have kept it from coming to rest.
    let began = Instant::now();
    loop {
        let before = sleeps(worker)?;
        sleep(Duration::from_secs(2));
        let slept = sleeps(worker)? - before;
        if slept < 40 {
            return Ok(());
        }
        assert!(began.elapsed() < PATIENCE, "it woke up {slept} times in two seconds");
    }
}

#[test]
fn a_worker_whose_threads_all_compute_does_nothing_else() -> Result<()> {
    let mut system = Setup::workers(1).worker(&["--threads", "2"]).broker(&["--ping-interval", "60s"]).start()?;
    let mut client = system.client()?;
    for _ in 0..8 {
        client.submit(sleeping(10.0).to_body())?;
    }
    flush(&mut client)?;
    system.wait_for_line(&[" dispatch "])?;
    sleep(Duration::from_secs(1));
    let before = sleeps(system.worker(1).id())?;
    sleep(Duration::from_secs(2));
    let slept = sleeps(system.worker(1).id())? - before;
    assert!(slept < 40, "it woke up {slept} times in two seconds");
    Ok(())
}
