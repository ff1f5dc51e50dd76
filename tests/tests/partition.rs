//! Two brokers, and links between hosts that are cut in all combinations: nothing is lost or doubled, and
//! work goes on where it can.
//!
//! Only where the machine can have such hosts (`giostra_tests::network`); elsewhere these tests
//! count as ignored.

use std::process::ExitCode;

use anyhow::Result;
use giostra_tests::process::wait_for;
use giostra_tests::{Batch, Brokers, Network, Setup, network, test, trials};

const HOSTS: [&str; 4] = ["first", "second", "worker", "client"];

/// Enough for something to happen in the middle of it.
const MANY: &str = "300000";

/// A client's patience that outlasts every cut.
const PATIENT: &str = "120s";

fn main() -> ExitCode {
    trials::run(&[
        test!(a_client_that_is_cut_off_from_its_broker_goes_on_with_the_other needs network::available),
        test!(workers_that_are_cut_off_from_one_broker_serve_the_other_and_come_back needs network::available),
        test!(where_each_side_reaches_another_broker_work_waits_until_they_meet needs network::available),
        test!(a_broker_that_is_cut_off_from_all_is_left_and_found_again needs network::available),
    ])
}

fn two(network: &Network) -> Result<Brokers> {
    let setup = |host| Setup::workers(0).across_from(network, host);
    Brokers::start(vec![setup("first"), setup("second")], 2, &[])
}

/// Starts a batch, and waits until the first broker has answered some of it.
fn begin_random(brokers: &mut Brokers) -> Result<Batch> {
    let batch = brokers.begin(&["random", MANY, "--json", "--broker-timeout", PATIENT])?;
    brokers.broker(0).wait_for_lines(" reply worker-", 20)?;
    Ok(batch)
}

fn ends_well(batch: Batch, brokers: &mut Brokers) -> Result<()> {
    assert_eq!(batch.finish()?.all_well()?["answered"].to_string(), MANY);
    for number in [0, 1] {
        brokers.broker(number).audit()?;
    }
    Ok(())
}

fn a_client_that_is_cut_off_from_its_broker_goes_on_with_the_other() -> Result<()> {
    let network = Network::of(&HOSTS)?;
    let mut brokers = two(&network)?;
    let batch = begin_random(&mut brokers)?;
    network.part("client", "first")?;
    brokers.broker(1).wait_for_lines(" reply worker-", 20)?;
    // What the other still had of it is given up there.
    brokers.broker(0).wait_for_line(&[" client-left c1 "])?;
    ends_well(batch, &mut brokers)
}

fn workers_that_are_cut_off_from_one_broker_serve_the_other_and_come_back() -> Result<()> {
    let network = Network::of(&HOSTS)?;
    let mut brokers = two(&network)?;
    let batch = begin_random(&mut brokers)?;
    network.part("worker", "first")?;
    for name in [" dropped worker-1 ", " dropped worker-2 "] {
        brokers.broker(0).wait_for_line(&[name])?;
    }
    brokers.broker(1).random(&["3000"])?;
    let (lost, at) = ("the connection to the broker broke; reconnecting", brokers.broker(0).backend().to_string());
    let line = format!("{at}: {lost}");
    wait_for("the worker says so", || brokers.worker(1).stderr().contains(&line).then_some(()))?;
    network.join("worker", "first")?;
    for number in [1, 2] {
        brokers.broker(0).wait_for_registration(number, 2)?;
        assert_eq!(brokers.broker(1).registrations(number), 1);
    }
    ends_well(batch, &mut brokers)
}

fn where_each_side_reaches_another_broker_work_waits_until_they_meet() -> Result<()> {
    let network = Network::of(&HOSTS)?;
    let mut brokers = two(&network)?;
    let batch = begin_random(&mut brokers)?;
    network.part("client", "first")?;
    network.part("worker", "second")?;
    brokers.broker(1).wait_for_line(&[" client-joined "])?;
    brokers.broker(1).wait_for_line(&[" dropped worker-2 "])?;
    brokers.broker(0).wait_for_line(&[" client-left c1 "])?;
    network.join("worker", "second")?;
    ends_well(batch, &mut brokers)
}

fn a_broker_that_is_cut_off_from_all_is_left_and_found_again() -> Result<()> {
    let network = Network::of(&HOSTS)?;
    let mut brokers = two(&network)?;
    let batch = begin_random(&mut brokers)?;
    network.cut("first")?;
    brokers.broker(1).wait_for_lines(" reply worker-", 20)?;
    for name in [" dropped worker-1 ", " dropped worker-2 "] {
        brokers.broker(0).wait_for_line(&[name])?;
    }
    network.mend("first")?;
    for number in [1, 2] {
        brokers.broker(0).wait_for_registration(number, 2)?;
    }
    ends_well(batch, &mut brokers)
}
