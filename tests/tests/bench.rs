//! `giostra bench`: loads that are answered, and what it says when something is wrong.

use std::thread;

use anyhow::Result;
use giostra_protocol::Failure;
use giostra_protocol::compute::Value;
use giostra_tests::process::{Process, wait_for};
use giostra_tests::{Port, Setup};
use giostra_transport::shutdown::Shutdown;
use giostra_worker::{Operations, Options, serve};
use nix::sys::signal::Signal;
use serde_json::json;

#[test]
fn a_count_of_requests_is_answered_and_timed() -> Result<()> {
    let mut system = Setup::workers(3).start()?;
    let summary = system.run(&["bench", "2000", "--window", "64", "--json"])?.all_well()?;
    for (key, value) in [("answered", 2000), ("clients", 1), ("window", 64), ("size", 24)] {
        assert_eq!(summary[key], value, "{key}");
    }
    assert_eq!((&summary["operation"], &summary["redispatched"]), (&json!("add"), &json!(0)));
    let latency: Vec<_> =
        ["p50", "p90", "p99", "p99.9", "max"].iter().map(|name| summary["latency_us"][name].as_f64()).collect();
    assert!(latency.is_sorted() && latency[0] > Some(0.0), "{latency:?}");
    let (rate, seconds) = (summary["rate"].as_f64().unwrap_or(0.0), summary["seconds"].as_f64().unwrap_or(0.0));
    assert!((rate * seconds - 2000.0).abs() < 1e-6, "{summary}");
    // Those of the warm-up come before.
    assert_eq!(system.audit()?.counts.replies, 3000);
    Ok(())
}

#[test]
fn each_of_many_clients_has_its_own_connection_and_is_served() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let args = ["bench", "3000", "--clients", "30", "--window", "1", "--warm-up", "30", "--json"];
    assert_eq!(system.run(&args)?.all_well()?["answered"], 3000);
    let counts = system.audit()?.counts;
    assert_eq!((counts.clients_joined, counts.replies), (30, 3030));
    let log = system.log();
    let served =
        |client: u32| log.lines().any(|line| line.contains(" reply ") && line.contains(&format!(" c{client}#")));
    assert!((1..=30).all(served));
    Ok(())
}

#[test]
fn bodies_of_any_size_come_back_packed_or_attached() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    for size in ["9", "300", "65535", "65536", "300000"] {
        let args = ["bench", "40", "--size", size, "--window", "8", "--warm-up", "2", "--json"];
        let summary = system.run(&args)?.all_well()?;
        assert_eq!((summary["operation"].as_str(), summary["size"].to_string()), (Some("echo"), size.to_string()));
    }
    system.audit()?;
    for size in ["8", "67108865", "many"] {
        assert_eq!(system.run(&["bench", "1", "--size", size])?.code, Some(2), "{size}");
    }
    Ok(())
}

#[test]
fn people_see_a_rate_percentiles_and_a_histogram() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let finished = system.run(&["bench", "--duration", "200ms", "--window", "16"])?;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for expected in ["1 client, each with 16 requests at a time: add, 24 bytes", "all of them", "p99.9", "up to", "#"] {
        assert!(finished.stdout.contains(expected), "no {expected:?} in {finished:?}");
    }
    Ok(())
}

#[test]
fn a_load_goes_on_with_the_next_broker() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let batch = system.begin(&["bench", "300000", "--clients", "3", "--window", "100", "--json"])?;
    system.wait_for_line(&[" reply "])?;
    system.kill_broker()?;
    system.start_broker()?;
    assert_eq!(batch.finish()?.all_well()?["answered"], 300_000);
    assert_eq!(system.audit()?.counts.lives, 2);
    Ok(())
}

#[test]
fn a_signal_ends_a_load_with_what_it_has() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let mut batch = system.begin(&["bench", "--duration", "1h", "--clients", "2", "--json"])?;
    system.wait_for_line(&[" reply "])?;
    batch.process().signal(Signal::SIGINT)?;
    let finished = batch.finish()?;
    assert_eq!(finished.code, Some(130), "{finished:?}");
    let summary = finished.json()?;
    assert_eq!((&summary["failed"], &summary["wrong"], &summary["duplicated"]), (&json!(0), &json!(0), &json!(0)));
    assert!(summary["answered"].is_u64());
    wait_for("the clients have left", || (system.audit().ok()?.counts.clients_left == 2).then_some(()))
}

#[test]
fn a_wrong_result_is_seen() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let stop = Shutdown::new()?;
    let options = Options { broker: system.backend().into(), ..Options::default() };
    let off_by_one = |numbers: Vec<Value>| match numbers[..] {
        [Value::Int(a), Value::Int(b)] => Ok::<_, Failure>(Value::Int(a + b + 1)),
        _ => Err("not two whole numbers".into()),
    };
    let worker = thread::spawn({
        let stop = stop.clone();
        move || serve(&options, Operations::new().with("add", off_by_one), &stop)
    });
    let finished = system.run(&["bench", "10", "--warm-up", "0", "--json"])?;
    stop.request();
    worker.join().expect("no panic")?;
    assert_eq!((finished.code, &finished.json()?["wrong"]), (Some(1), &json!(10)));
    Ok(())
}

#[test]
fn failures_are_counted_and_explained() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let finished = system.run(&["bench", "10", "--timeout", "100ms", "--json"])?;
    assert_eq!(finished.code, Some(1));
    // Of the warm-up, after which there is nothing to measure.
    assert_eq!(finished.json()?["errors"], json!({"expired": 1000}));
    assert!(finished.stderr.contains("the first failure: expired"), "{finished:?}");
    Ok(())
}

#[test]
fn without_a_broker_it_says_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nobody = Port::reserve()?;
    let broker = nobody.endpoint();
    let args = ["bench", "10", "--clients", "2", "--broker", &broker, "--broker-timeout", "300ms"];
    let mut bench = Process::start(folder.path(), "bench", "giostra", &args)?;
    assert_eq!(bench.wait()?.code(), Some(1));
    assert!(bench.stderr().contains("is one running?"), "{}", bench.stderr());
    Ok(())
}
