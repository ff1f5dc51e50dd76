//! Several brokers: clients and workers go on while one of them is killed, frozen, restarted or
//! refused.

use std::time::Duration;

use anyhow::{Context as _, Result};
use giostra_client::{Client, Credentials, Options, body, result};
use giostra_tests::process::wait_for;
use giostra_tests::system::Finished;
use giostra_tests::{Batch, Brokers, Port, Process, Setup};
use nix::sys::signal::Signal;

/// Enough for something to happen in the middle of it.
const MANY: &str = "300000";

fn two(workers: usize) -> Result<Brokers> {
    Brokers::start(vec![Setup::workers(0), Setup::workers(0)], workers, &[])
}

/// Starts a batch, and waits until the broker of this number has had replies to some of it.
fn begin_random(brokers: &mut Brokers, at: usize, args: &[&str]) -> Result<Batch> {
    let before = brokers.broker(at).count(" reply worker-");
    let args: Vec<_> = ["random", MANY, "--json"].iter().chain(args).copied().collect();
    let batch = brokers.begin(&args)?;
    brokers.broker(at).wait_for_lines(" reply worker-", before + 20)?;
    Ok(batch)
}

#[test]
fn a_broker_that_is_killed_costs_nothing_since_the_next_one_gets_what_is_unanswered() -> Result<()> {
    let mut brokers = two(3)?;
    let batch = begin_random(&mut brokers, 0, &[])?;
    brokers.broker(0).kill_broker()?;
    let summary = batch.finish()?.all_well()?;
    assert_eq!(summary["answered"].to_string(), MANY);
    assert!(brokers.broker(1).count(" reply worker-") > 0);
    // Its workers kept their seats at the other one, and come back to it.
    assert_eq!(brokers.broker(1).lines(" dropped "), [""; 0]);
    brokers.broker(1).audit()?;
    brokers.broker(0).start_broker()?;
    brokers.broker(0).wait_for_registration(1, 2)?;
    brokers.broker(0).random(&["300"])?;
    brokers.broker(0).audit()?;
    Ok(())
}

#[test]
fn the_logs_of_both_brokers_and_the_clients_journal_prove_that_each_request_was_answered_once() -> Result<()> {
    let mut brokers = two(3)?;
    let journal = brokers.folder().join("journal").display().to_string();
    let batch = begin_random(&mut brokers, 0, &["--journal", &journal])?;
    brokers.broker(0).kill_broker()?;
    batch.finish()?.all_well()?;
    let logs = [0, 1].map(|number| brokers.broker(number).folder().join("log").display().to_string());
    let mut audit = |log: &str| brokers.run(&["audit", log, &logs[1], "--journal", &journal, "--json"]);
    let proved = audit(&logs[0])?;
    let account = proved.json()?;
    assert!(proved.code == Some(0) && account["proved"] == true, "{account}");
    let [client] = &account["journals"].as_array().context("journals")?[..] else { panic!("{account}") };
    assert_eq!((client["answered"].to_string().as_str(), &client["connections"]), (MANY, &2.into()));
    let over = &client["went_over"][0];
    // None, if the broker was killed before it had read them.
    assert!(over["requests"].as_u64().is_some_and(|requests| requests <= 4096), "{account}");
    assert_eq!(account["clients"][0]["went_over"][0], *over, "by the names in the logs it is the same");

    // Without a reply of the broker that was killed, which the client has for certain: the first.
    let cut = tempfile::tempdir()?;
    let log = brokers_log(&logs[0])?;
    let (before, after) = log.split_once(" reply worker-").context("a reply")?;
    let (before, _) = before.rsplit_once('\n').context("a line")?;
    let (reply, after) = after.split_once('\n').context("a line")?;
    std::fs::write(cut.path().join("broker_rCURRENT.log"), format!("{before}\n{after}"))?;
    let refuted = audit(&cut.path().display().to_string())?;
    let account = refuted.json()?;
    let finding = &account["journals"][0]["findings"][0];
    assert!(refuted.code == Some(1) && finding["what"].to_string().contains("has a reply, but"), "{account}");
    let first = reply.split(['#', '.', ' ', '/']).nth(3).context("a request")?;
    assert_eq!(finding["request"].to_string(), first, "{reply}: {account}");
    Ok(())
}

/// The log in a folder, if it is one file.
fn brokers_log(folder: &str) -> Result<String> {
    Ok(std::fs::read_to_string(std::path::Path::new(folder).join("broker_rCURRENT.log"))?)
}

#[test]
fn a_frozen_broker_is_left_when_its_heartbeats_stop() -> Result<()> {
    let mut brokers = two(2)?;
    let batch = begin_random(&mut brokers, 0, &["--broker-timeout", "60s"])?;
    brokers.broker(0).broker().signal(Signal::SIGSTOP)?;
    let summary = batch.finish()?.all_well()?;
    assert_eq!(summary["answered"].to_string(), MANY);
    brokers.broker(0).broker().signal(Signal::SIGCONT)?;
    // What it had is cancelled, and its seats are there for others.
    brokers.broker(0).random(&["300"])?;
    Ok(())
}

#[test]
fn brokers_restarted_one_after_the_other_cost_clients_nothing() -> Result<()> {
    let mut brokers = two(3)?;
    let mut batch = begin_random(&mut brokers, 0, &["--window", "64"])?;
    for number in [0, 1] {
        let system = brokers.broker(number);
        system.broker().signal(Signal::SIGTERM)?;
        assert_eq!(system.broker().wait()?.code(), Some(0));
        let before = system.registrations(1);
        system.start_broker()?;
        system.wait_for_registration(1, before + 1)?;
        assert!(batch.process().is_running(), "the batch was too short");
    }
    batch.finish()?.all_well()?;
    for number in [0, 1] {
        brokers.broker(number).audit()?;
    }
    Ok(())
}

#[test]
fn a_worker_that_is_killed_is_lost_to_each_broker_and_its_requests_to_none() -> Result<()> {
    let mut brokers = two(3)?;
    let one = begin_random(&mut brokers, 0, &[])?;
    let other = brokers.broker(1).begin_random(MANY, &[], "worker-")?;
    brokers.kill_worker(2)?;
    for number in [0, 1] {
        brokers.broker(number).wait_for_line(&[" dropped worker-2 "])?;
    }
    one.finish()?.all_well()?;
    other.finish()?.all_well()?;
    for number in [0, 1] {
        brokers.broker(number).audit()?;
    }
    Ok(())
}

#[test]
fn two_brokers_with_work_get_equal_parts_of_a_worker_and_one_without_costs_the_other_nothing() -> Result<()> {
    let mut brokers = two(1)?;
    let mut clients = Vec::new();
    for number in [0, 1] {
        let mut client = Client::connect(Options::new(brokers.broker(number).frontend()))?;
        client.await_broker()?;
        clients.push(client);
    }
    // The first has begun long before the other.
    let mut answered = [0, 0];
    let submit = |client: &mut Client| client.submit(body("sleep", &(0.001,)).expect("it can be written"));
    (0..1000).try_for_each(|_| submit(&mut clients[0]).map(drop))?;
    while answered[0] < 200 {
        clients[0].next_reply(None)?.context("a reply")?;
        answered[0] += 1;
    }
    (0..300).try_for_each(|_| submit(&mut clients[1]).map(drop))?;
    while answered[1] < 300 {
        clients[1].next_reply(None)?.context("a reply")?;
        answered[1] += 1;
    }
    let meanwhile = std::iter::from_fn(|| clients[0].next_reply(Some(Duration::ZERO)).ok().flatten()).count();
    // Equal parts are 300; the bounds are those of starving.
    assert!((100..=900).contains(&meanwhile), "{meanwhile} while the other had 300");
    Ok(())
}

#[test]
fn a_client_takes_the_first_broker_that_is_there_and_says_which_are_not() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let nobody = Port::reserve()?.endpoint();
    let list = format!("{nobody},{}", system.frontend());
    let mut client = Client::connect(Options::new(&list))?;
    assert_eq!(result::<i64>(client.call(body("add", &(1, 2))?, None)?.outcome)?, 3);
    let list = format!("{nobody},{}", Port::reserve()?.endpoint());
    let args = ["--broker", &list, "send", "add", "1", "2", "--broker-timeout", "300ms"];
    let mut nobody = Process::start(system.folder(), "nobody", "giostra", &args)?;
    let finished = Finished::of(&mut nobody)?;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains(&list), "{finished:?}");
    Ok(())
}

#[test]
fn a_name_is_all_of_its_addresses() -> Result<()> {
    // Of the two that `localhost` mostly has, the broker listens at one.
    let system = Setup::workers(1).start()?;
    let port = system.frontend().rsplit(':').next().context("a port")?;
    let mut client = Client::connect(Options::new(format!("tcp://localhost:{port}")))?;
    assert_eq!(result::<i64>(client.call(body("add", &(1, 2))?, None)?.outcome)?, 3);
    Ok(())
}

#[test]
fn a_name_that_nobody_knows_is_told_and_does_not_hold_up_the_others() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let list = format!("tcp://no.such.name.invalid:5556,{}", system.backend());
    let folder = tempfile::tempdir()?;
    let args = ["--broker", &list, "--name", "worker-1"];
    let worker = Process::start(folder.path(), "worker", "giostra-worker", &args)?;
    system.wait_for_registration(1, 1)?;
    let line = "the name in tcp://no.such.name.invalid:5556 can't be looked up";
    wait_for("it is told", || worker.stderr().contains(line).then_some(()))?;
    system.random(&["3000"])?;
    Ok(())
}

#[test]
fn scale_looks_after_one_broker_so_a_list_is_refused_before_anything_is_started() -> Result<()> {
    let mut brokers = two(0)?;
    let refused = brokers.run(&["scale", "local", "--max", "1", "--dry-run"])?;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("giostra scale looks after one broker: name it alone"), "{refused:?}");
    Ok(())
}

#[test]
fn the_status_of_each_broker_is_shown_and_one_that_is_gone_is_named() -> Result<()> {
    let mut brokers = two(1)?;
    let status = brokers.run(&["status", "--json"])?;
    let of = |value: &serde_json::Value, place: usize| value["brokers"][place].clone();
    assert_eq!(status.code, Some(0), "{status:?}");
    for place in [0, 1] {
        assert_eq!(of(&status.json()?, place)["status"]["workers"][0]["name"], "worker-1");
    }
    brokers.broker(0).kill_broker()?;
    let status = brokers.run(&["status", "--json", "--broker-timeout", "300ms"])?;
    assert_eq!(status.code, Some(1), "{status:?}");
    assert_eq!(of(&status.json()?, 0)["error"]["code"], "no-broker");
    assert_eq!(of(&status.json()?, 1)["status"]["workers"][0]["name"], "worker-1");
    Ok(())
}

#[test]
fn a_broker_that_refuses_the_key_is_passed_over_and_each_is_known_by_its_own() -> Result<()> {
    let refuses = Setup::workers(0).secured().start()?;
    let serves = Setup::workers(1).secured().start()?;
    let mut credentials = serves.credentials("client")?;
    credentials.brokers.insert(0, *refuses.credentials("client")?.broker(0));
    let list = format!("{},{}", refuses.frontend(), serves.frontend());
    for brokers in [credentials.brokers.clone(), credentials.brokers.iter().rev().copied().collect()] {
        let is_right = brokers == credentials.brokers;
        let keys = Credentials { brokers, ..credentials.clone() };
        let options = Options::new(&list).credentials(keys).broker_timeout(Duration::from_secs(3));
        let reply = Client::connect(options)?.call(body("add", &(1, 2))?, None)?;
        // With the keys in the wrong order neither is taken for the other.
        assert_eq!(result::<i64>(reply.outcome).is_ok_and(|sum| sum == 3), is_right);
    }
    assert!(refuses.count(" refuse ") > 0);
    // Two keys do not fit three brokers.
    let three = format!("{list},{}", Port::reserve()?.endpoint());
    let refused = Client::connect(Options::new(&three).credentials(credentials)).err().context("it is refused")?;
    assert!(refused.to_string().contains("3 brokers are listed, and 2 keys"), "{refused}");
    serves.audit().map(drop)
}

#[test]
fn a_client_that_is_to_returns_to_the_first_broker_once_it_has_nothing_under_way() -> Result<()> {
    let mut brokers = two(1)?;
    let options = Options::new(brokers.frontends()).return_to_first(true).name("returns");
    let mut client = Client::connect(options)?;
    client.compute::<i64>("add", &(1, 2))?;
    brokers.broker(0).kill_broker()?;
    // Longer than it takes to look for the first broker.
    let slow = client.submit(body("sleep", &[8])?)?;
    let drive = |client: &mut Client| client.next_reply(Some(Duration::from_millis(20)));
    wait_for("the other broker has it", || {
        drive(&mut client).ok();
        (brokers.broker(1).count(" dispatch ") == 1).then_some(())
    })?;
    brokers.broker(0).start_broker()?;
    let reply = client.next_reply(None)?.context("a reply")?;
    assert_eq!((reply.id, reply.trace.attempts), (slow, 1));
    assert_eq!(brokers.broker(0).count(" client-joined "), 1, "it stayed while something was under way");
    wait_for("it is back", || {
        drive(&mut client).ok();
        (brokers.broker(0).count(" client-joined ") == 2).then_some(())
    })?;
    brokers.broker(0).wait_for_registration(1, 2)?;
    client.compute::<i64>("add", &(3, 4))?;
    assert_eq!(brokers.broker(0).count(" reply "), 2);
    assert_eq!(brokers.broker(1).count(" reply "), 1);
    Ok(())
}
