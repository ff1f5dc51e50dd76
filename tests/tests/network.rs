//! Links that are cut, slow or lossy, between hosts of the test's own: a broken connection is often
//! not told to anybody.
//!
//! Only where the machine can have such hosts (`giostra_tests::network`); elsewhere these tests
//! count as ignored.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use giostra_tests::process::wait_for;
use giostra_tests::trials;
use giostra_tests::{Network, Setup, network, test};
use serde_json::json;

const HOSTS: [&str; 5] = ["broker", "worker-1", "worker-2", "worker-3", "client"];

/// Enough for something to happen in the middle of it.
const MANY: &str = "200000";

/// A client's patience that outlasts every cut.
const PATIENT: &str = "60s";

fn main() -> ExitCode {
    trials::run(&[
        test!(a_worker_behind_a_cut_link_is_dropped_by_its_pings_and_comes_back_to_the_tail needs network::available),
        test!(a_link_that_is_cut_for_a_second_costs_nobody_a_seat needs network::available),
        test!(a_client_behind_a_cut_link_goes_on_when_the_link_is_back needs network::available),
        test!(a_client_that_vanishes_is_noticed_also_when_its_connection_is_full needs network::available),
        test!(a_client_behind_a_cut_link_gives_up_in_the_end_and_says_so needs network::available),
        test!(the_requests_of_a_client_behind_a_cut_link_do_not_hold_the_pool needs network::available),
        test!(a_broker_whose_host_was_cut_off_goes_on_with_everybody needs network::available),
        test!(slow_and_lossy_links_cost_only_time needs network::impairable),
        test!(distant_and_lossy_links_cost_only_time needs network::has_netem),
    ])
}

fn a_worker_behind_a_cut_link_is_dropped_by_its_pings_and_comes_back_to_the_tail() -> Result<()> {
    let network = Network::of(&HOSTS)?;
    let mut system = Setup::workers(3).across(&network).start()?;
    let batch = system.begin_random(MANY, &["--broker-timeout", PATIENT], "worker-")?;
    network.unplug("worker-2")?;
    let dropped = system.wait_for_line(&[" dropped worker-2 "])?;
    assert!(dropped.ends_with("reason=3 pings unanswered"), "{dropped}");
    // All is answered while the link is still down.
    let summary = batch.finish()?.all_well()?;
    assert!(summary["redispatched"].as_u64() > Some(0), "{summary}");

    network.plug_in("worker-2")?;
    system.wait_for_registration(2, 2)?;
    let joined = system.wait_for_line(&[" joined worker-2 w4 "])?;
    assert!(joined.contains(" seats=3 "), "{joined}");
    assert_eq!(system.random(&["300"])?["workers"], json!({"worker-1": 100, "worker-2": 100, "worker-3": 100}));
    Ok(())
}

fn a_link_that_is_cut_for_a_second_costs_nobody_a_seat() -> Result<()> {
    let network = Network::of(&HOSTS)?;
    let mut system = Setup::workers(3).across(&network).start()?;
    let mut batch = system.begin_random(MANY, &["--broker-timeout", PATIENT], "worker-")?;
    network.cut("worker-2")?;
    // The length of the cut is what is tested: shorter than three pings.
    sleep(Duration::from_secs(1));
    ensure!(batch.process().is_running(), "the batch was too short");
    network.mend("worker-2")?;
    assert_eq!(batch.finish()?.all_well()?["redispatched"], 0);
    assert_eq!(system.lines(" dropped "), [""; 0]);
    assert_eq!(system.registrations(2), 1);
    Ok(())
}

fn a_client_behind_a_cut_link_goes_on_when_the_link_is_back() -> Result<()> {
    let network = Network::of(&HOSTS)?;
    let mut system = Setup::workers(3).across(&network).start()?;
    let batch = system.begin_random(MANY, &["--broker-timeout", PATIENT], "worker-")?;
    network.cut("client")?;
    // Noticed by ZMTP's heartbeat, since nothing tells the broker.
    system.wait_for_line(&[" client-left c1 "])?;
    network.mend("client")?;
    assert_eq!(batch.finish()?.all_well()?["answered"].to_string(), MANY);
    assert_eq!(system.count(" client-joined "), 2);
    assert_eq!(system.lines(" dropped "), [""; 0]);
    Ok(())
}

fn a_client_that_vanishes_is_noticed_also_when_its_connection_is_full() -> Result<()> {
    let network = Network::of(&HOSTS)?;
    let mut system = Setup::workers(0).across(&network).start()?;
    let batch = system.begin(&["send", "primes", "5000000", "--broker-timeout", PATIENT])?;
    system.wait_for_line(&[" accept c1#1 "])?;
    network.cut("client")?;
    // Megabytes: a part fills the connection, so no heartbeat can be sent behind it.
    system.start_worker(1)?;
    system.wait_for_line(&[" reply worker-1 w1 c1#1"])?;
    system.wait_for_line(&[" client-left c1 "])?;
    network.mend("client")?;
    let finished = batch.finish()?;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.stdout.len() > 1_000_000, "{finished:?}");
    Ok(())
}

fn a_client_behind_a_cut_link_gives_up_in_the_end_and_says_so() -> Result<()> {
    let network = Network::of(&HOSTS)?;
    let mut system = Setup::workers(3).across(&network).start()?;
    let batch = system.begin(&["random", MANY, "--json", "--broker-timeout", "1s"])?;
    system.wait_for_lines(" reply worker-", 21)?;
    network.unplug("client")?;
    let finished = batch.finish()?;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("no broker for 1.0 s at tcp://192.0.2.1:"), "{finished:?}");
    // Each request that was not answered ended in that error, and none in two ways.
    let summary = finished.json()?;
    let number = |key: &str| summary[key].as_u64().expect(key);
    assert_eq!(number("answered") + number("failed"), number("sent"), "{summary}");
    assert_eq!((number("wrong"), number("duplicated")), (0, 0), "{summary}");
    Ok(())
}

fn the_requests_of_a_client_behind_a_cut_link_do_not_hold_the_pool() -> Result<()> {
    let network = Network::of(&["broker", "worker", "client-1", "client-2", "client"])?;
    let mut system = Setup::workers(1).broker(&["--window", "1"]).across(&network).start()?;
    // One request that is being computed until after its client was given up, one that waits for its
    // turn.
    let _computing = system.begin(&["send", "sleep", "16"])?;
    system.wait_for_line(&[" dispatch worker-1 "])?;
    let _waiting = system.begin(&["send", "add", "1", "2"])?;
    system.wait_for_line(&[" accept c2#1 "])?;
    network.cut("client-1")?;
    network.cut("client-2")?;
    assert!(system.wait_for_line(&[" client-left c1 "])?.contains(" cancelled=0 unwanted=1 "));
    assert!(system.wait_for_line(&[" client-left c2 "])?.contains(" cancelled=1 unwanted=0 "));

    let finished = system.run(&["send", "add", "3", "4"])?;
    assert_eq!((finished.code, finished.stdout.trim()), (Some(0), "7"), "{finished:?}");
    let dispatched: Vec<_> =
        system.lines(" dispatch ").iter().filter_map(|l| l.rsplit(' ').next().map(String::from)).collect();
    assert_eq!(dispatched, ["c1#1", "c3#1"]);
    Ok(())
}

fn a_broker_whose_host_was_cut_off_goes_on_with_everybody() -> Result<()> {
    let network = Network::of(&HOSTS)?;
    // The workers seem to die one after another, each with what its predecessor held: that makes no
    // request suspect.
    let mut system = Setup::workers(3).across(&network).start()?;
    let batch = system.begin_random(MANY, &["--broker-timeout", PATIENT], "worker-")?;
    // First for as long as the pings allow.
    network.cut("broker")?;
    for worker in 1..=3 {
        system.wait_for_line(&[&format!(" dropped worker-{worker} ")])?;
    }
    network.mend("broker")?;
    (1..=3).try_for_each(|worker| system.wait_for_registration(worker, 2))?;
    assert_eq!(batch.finish()?.all_well()?["answered"].to_string(), MANY);

    // Then until both sides have given up their connections.
    let joined = system.count(" client-joined ");
    let batch = system.begin_random(MANY, &["--broker-timeout", PATIENT], "worker-")?;
    network.unplug("broker")?;
    system.wait_for_line(&[&format!(" client-left c{} ", joined + 1)])?;
    for worker in 1..=3 {
        wait_for("the worker notices", || {
            system.worker(worker).stderr().contains("the connection to the broker broke").then_some(())
        })?;
    }
    network.plug_in("broker")?;
    (1..=3).try_for_each(|worker| system.wait_for_registration(worker, 3))?;
    assert_eq!(batch.finish()?.all_well()?["answered"].to_string(), MANY);
    Ok(())
}

fn slow_and_lossy_links_cost_only_time() -> Result<()> {
    over_bad_links(|network, host| {
        network.slow_down(host, "20mbit")?;
        network.lose(host, 0.03)
    })
}

fn distant_and_lossy_links_cost_only_time() -> Result<()> {
    over_bad_links(|network, host| network.netem(host, &["delay", "20ms", "5ms", "loss", "1%", "duplicate", "1%"]))
}

/// A batch over links that each were made bad.
fn over_bad_links(make_bad: impl Fn(&Network, &str) -> Result<()>) -> Result<()> {
    let network = Network::of(&HOSTS)?;
    HOSTS.iter().try_for_each(|host| make_bad(&network, host))?;
    let mut system = Setup::workers(3).across(&network).start()?;
    let summary = system.random(&[MANY, "--broker-timeout", PATIENT])?;
    for host in HOSTS {
        ensure!(network.lost(host)? > 0, "the link of {host} lost nothing: {summary}");
    }
    Ok(())
}
