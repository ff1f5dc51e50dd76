//! Windows that fit the work: long requests are not hoarded, short ones stream.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use giostra_client::Client;
use giostra_protocol::compute::{Call, Value};
use giostra_protocol::{Outcome, Status};
use giostra_tests::Setup;
use giostra_tests::process::PATIENCE;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

fn submit_sleeps(client: &mut Client, each: impl IntoIterator<Item = Duration>) -> Result<()> {
    for time in each {
        let arguments = vec![Value::Float(time.as_secs_f64())];
        client.submit(Call { operation: "sleep".into(), arguments }.to_body())?;
    }
    Ok(())
}

/// Takes this many replies, reads the status after each, and counts them by worker.
fn take(
    client: &mut Client,
    replies: usize,
    by_worker: &mut BTreeMap<String, u64>,
    mut look: impl FnMut(&Status),
) -> Result<()> {
    for _ in 0..replies {
        let reply = client.next_reply(Some(PATIENCE))?.context("no reply came")?;
        ensure!(matches!(reply.outcome, Outcome::Ok(_)), "{reply:?}");
        *by_worker.entry(reply.trace.worker.to_string()).or_default() += 1;
        look(&client.status()?);
    }
    Ok(())
}

#[test]
fn a_worker_that_joins_amid_long_requests_takes_its_share_of_the_rest() -> Result<()> {
    const COUNT: usize = 300;
    const EACH: Duration = Duration::from_millis(200);
    let mut system = Setup::workers(3).start()?;
    let mut client = system.client()?;
    let mut by_worker = BTreeMap::new();
    let begun = Instant::now();
    let hold_at_most = |most: u64| {
        move |status: &Status| {
            for worker in &status.workers {
                assert!(worker.in_flight <= most, "{} holds {}, and computes one", worker.name, worker.in_flight);
            }
        }
    };
    submit_sleeps(&mut client, [EACH; COUNT])?;
    take(&mut client, COUNT / 2, &mut by_worker, hold_at_most(2))?;
    system.start_worker(4)?;
    let joined = begun.elapsed();
    // Where it would have nothing to do until the turn has come round to it, the others take one or two
    // more.
    take(&mut client, COUNT / 2, &mut by_worker, hold_at_most(4))?;
    // A fourth of 150, less what was under way when it joined.
    assert!(by_worker["worker-4"] >= 30, "{by_worker:?}");
    assert!(by_worker.values().all(|&count| count <= 100), "{by_worker:?}");
    let ratio = begun.elapsed().as_secs_f64() / ideal(EACH * COUNT as u32, Some(joined)).as_secs_f64();
    assert!(ratio <= 1.25, "it took {ratio:.3} of the time that it takes if nobody ever waits");
    system.audit()?;
    Ok(())
}

#[test]
fn each_thread_has_one_long_request_and_the_worker_one_more() -> Result<()> {
    let system = Setup::workers(1).worker(&["--threads", "4"]).start()?;
    let mut client = system.client()?;
    submit_sleeps(&mut client, [Duration::from_millis(100); 40])?;
    let mut full = 0;
    take(&mut client, 36, &mut BTreeMap::new(), |status| {
        let worker = &status.workers[0];
        assert!(worker.in_flight <= 5, "it holds {}", worker.in_flight);
        full += u32::from(worker.in_flight == 5);
    })?;
    assert!(full > 10, "it mostly has five, not {full} times of 36");
    system.audit()?;
    Ok(())
}

#[test]
fn short_requests_stream_and_long_ones_that_follow_after_a_rest_do_not_pile_up() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    system.random(&["100000"])?;
    let mut client = system.client()?;
    let windows = |status: &Status| status.workers.iter().map(|worker| worker.window).collect::<Vec<_>>();
    let after = windows(&client.status()?);
    assert!(after.iter().all(|&window| window >= 100), "{after:?}");
    // What has rested for a second is looked at anew.
    thread::sleep(Duration::from_millis(1200));
    submit_sleeps(&mut client, [Duration::from_millis(100); 20])?;
    take(&mut client, 4, &mut BTreeMap::new(), |status| assert_eq!(windows(status), [2, 2]))?;
    // Those that come without a rest are handed out as if they were short; the first reply says that
    // they are not.
    take(&mut client, 16, &mut BTreeMap::new(), |_| ())?;
    system.random(&["100000"])?;
    submit_sleeps(&mut client, [Duration::from_millis(100); 20])?;
    take(&mut client, 20, &mut BTreeMap::new(), |_| ())?;
    assert_eq!(windows(&client.status()?), [2, 2]);
    system.random(&["100000"])?;
    system.audit()?;
    Ok(())
}

#[test]
fn seats_are_passed_over_by_the_windows_that_the_log_tells() -> Result<()> {
    let system = Setup::workers(2).broker(&["--rotation", "available"]).start()?;
    let mut client = system.client()?;
    // The first request outlasts the test, so the first worker stays full and all others go to the second.
    let times = (0..200).map(|number| if number == 0 { PATIENCE * 2 } else { Duration::from_millis(10) });
    submit_sleeps(&mut client, times)?;
    let mut by_worker = BTreeMap::new();
    take(&mut client, 190, &mut by_worker, |_| ())?;
    assert!(by_worker["worker-2"] > 150, "{by_worker:?}");
    system.wait_for_line(&[" window worker-1 w1 size=1"])?;
    system.audit()?;
    Ok(())
}

#[test]
fn with_rotation_available_no_request_waits_behind_a_long_one_while_a_worker_idles() -> Result<()> {
    const LONG: Duration = Duration::from_secs(6);
    let system = Setup::workers(2).broker(&["--rotation", "available"]).start()?;
    let mut client = system.client()?;
    // The second goes to the other worker, and the rest to that one as well.
    let long = client.submit(Call { operation: "sleep".into(), arguments: vec![Value::Float(6.0)] }.to_body())?;
    submit_sleeps(&mut client, [Duration::from_millis(300); 4])?;
    for _ in 0..4 {
        let reply = client.next_reply(Some(LONG))?.context("it waits for the long one")?;
        assert_ne!(reply.id, long, "the long one is not the first to be answered");
        assert_eq!(&*reply.trace.worker, "worker-2");
    }
    assert!(client.next_reply(Some(PATIENCE))?.is_some_and(|reply| reply.id == long));
    system.audit()?;
    Ok(())
}

/// How long so much work takes if nobody ever waits: three workers, and from then on, if a fourth
/// joined, four.
fn ideal(work: Duration, joined: Option<Duration>) -> Duration {
    joined.map_or(work / 3, |joined| joined + work.saturating_sub(3 * joined) / 4)
}

/// Time until all of these are answered by three workers, and by four from the middle
/// on if `joined`; divided by the time that it would take if nobody ever waited.
fn over_the_ideal(broker: &[&str], times: &[Duration], joined: bool) -> Result<f64> {
    let mut system = Setup::workers(3).broker(broker).start()?;
    let mut client = system.client()?;
    let work: Duration = times.iter().sum();
    let mut joined_at = None;
    let begun = Instant::now();
    submit_sleeps(&mut client, times.iter().copied())?;
    let mut left = times.len();
    if joined {
        left -= times.len() / 2;
        take(&mut client, times.len() / 2, &mut BTreeMap::new(), |_| ())?;
        system.start_worker(4)?;
        joined_at = Some(begun.elapsed());
    }
    take(&mut client, left, &mut BTreeMap::new(), |_| ())?;
    Ok(begun.elapsed().as_secs_f64() / ideal(work, joined_at).as_secs_f64())
}

#[test]
#[ignore = "a measurement, not a test: takes a minute"]
fn finishing_times_over_the_ideal() -> Result<()> {
    const COUNT: usize = 300;
    let mut random = StdRng::seed_from_u64(7);
    let mut drawn = |time: fn(f64) -> f64| -> Vec<_> {
        (0..COUNT).map(|_| Duration::from_secs_f64(0.1 * time(random.random_range(0.0..1.0)))).collect()
    };
    let loads = [
        ("200 ms each, a fourth joins in the middle", vec![Duration::from_millis(200); COUNT], true),
        ("0 to 200 ms, evenly spread", drawn(|chance| 2.0 * chance), false),
        ("100 ms on average, exponentially", drawn(|chance| -(1.0 - chance).ln()), false),
    ];
    for (name, times, joined) in &loads {
        let brokers: [&[&str]; 4] = [&["--hold", "0"], &[], &["--hold", "1s"], &["--rotation", "available"]];
        // They sleep: none takes anything from the others.
        let ratios = thread::scope(|scope| {
            let runs = brokers.map(|broker| scope.spawn(move || over_the_ideal(broker, times, *joined)));
            runs.map(|run| run.join().expect("it does not panic"))
        });
        println!("{name}:");
        for (broker, ratio) in brokers.into_iter().zip(ratios) {
            let ratio = ratio?;
            println!("    {ratio:.3}  giostra-broker {}", broker.join(" "));
            assert!(
                !joined || !broker.is_empty() || ratio <= 1.10,
                "within ten percent, with a fourth and nothing said"
            );
        }
    }
    Ok(())
}
