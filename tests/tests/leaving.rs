//! Those who go in order: workers that are drained, clients that cancel.

use anyhow::{Context as _, Result, ensure};
use giostra_protocol::codec::{Frames, Message as _};
use giostra_protocol::{Bytes, FromWorker};
use giostra_tests::Setup;
use giostra_tests::process::{PATIENCE, Process, wait_for};
use nix::sys::signal::{SigSet, Signal};

#[test]
fn a_drained_worker_finishes_what_it_has_and_nothing_is_dispatched_twice() -> Result<()> {
    let mut system = Setup::workers(3).start()?;
    let batch = system.begin(&["random", "200000", "--json"])?;
    system.wait_for_line(&[" reply worker-2 "])?;
    let drained = system.run(&["drain", "worker-2"])?;
    assert_eq!((drained.code, &*drained.stdout), (Some(0), "worker-2 has left\n"), "{drained:?}");
    assert!(system.worker(2).wait()?.success(), "a drained worker ends");
    let summary = batch.finish()?.all_well()?;
    assert_eq!(summary["redispatched"], 0);
    let log = system.log();
    assert!(log.contains(" leaving worker-2 w2 ") && log.contains(" by=drain"), "{log}");
    let after = log.split(" leaving worker-2 ").nth(1).unwrap_or_default();
    assert!(!after.contains(" dispatch worker-2 ") && after.contains(" left worker-2 w2"));
    Ok(())
}

#[test]
fn a_worker_stopped_before_its_welcome_leaves_cleanly() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = zmq::Context::new().socket(zmq::ROUTER)?;
    broker.set_rcvtimeo(PATIENCE.as_millis() as i32)?;
    broker.bind("tcp://127.0.0.1:*")?;
    let endpoint = broker.get_last_endpoint()?.map_err(|_| anyhow::anyhow!("an endpoint that is no text"))?;
    let args = ["--broker", &endpoint, "--grace", "1h"];
    let mut worker = Process::start(folder.path(), "worker", "giostra-worker", &args)?;
    let heard = || -> Result<FromWorker> {
        let envelope = Bytes::from(broker.recv_multipart(0)?.pop().context("no frame")?);
        Ok(FromWorker::decode(&Frames { envelope, attachments: vec![] })?)
    };
    let register = heard()?;
    ensure!(matches!(register, FromWorker::Register { .. }), "{register:?}");
    worker.signal(Signal::SIGTERM)?;
    assert_eq!(heard()?, FromWorker::Leave);
    assert!(worker.wait()?.success(), "{}", worker.stderr());
    Ok(())
}

#[test]
fn draining_a_busy_worker_waits_for_it_or_not() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let sleeping = system.begin(&["send", "sleep", "6"])?;
    system.wait_for_line(&[" dispatch worker-1 "])?;
    let at_once = system.run(&["drain", "worker-1", "--no-wait", "--json"])?;
    assert_eq!((at_once.code, &at_once.json()?["in_flight"]), (Some(0), &1.into()), "{at_once:?}");
    let patient = system.run(&["drain", "worker-1"])?;
    assert_eq!((patient.code, &*patient.stdout), (Some(0), "worker-1 has left\n"), "{patient:?}");
    let slept = sleeping.finish()?;
    assert_eq!((slept.code, &*slept.stdout), (Some(0), "6\n"), "{slept:?}");
    let nobody = system.run(&["drain", "worker-1"])?;
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("there is no worker 'worker-1'"), "{nobody:?}");
    Ok(())
}

#[test]
fn only_the_chosen_worker_of_several_with_one_name_is_drained() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let mut twins = [system.other_worker("worker-1", "compute")?, system.other_worker("worker-1", "compute")?];
    let refused = system.run(&["drain", "worker-1"])?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in ["3 workers are called 'worker-1'", "w1 at 127.0.0.1:", "drain worker-1 w1", "--all"] {
        assert!(refused.stderr.contains(part), "{part} in {refused:?}");
    }
    let one = system.run(&["drain", "worker-1", "w2"])?;
    assert_eq!((one.code, &*one.stdout), (Some(0), "worker-1 has left\n"), "{one:?}");
    assert!(twins[0].wait()?.success());
    assert!(!system.log().contains(" left worker-1 w1") && !system.log().contains(" left worker-1 w3"));
    let other = system.run(&["drain", "w3"])?;
    assert_eq!(other.code, Some(0), "{other:?}");
    assert!(twins[1].wait()?.success());
    let mut twin = system.other_worker("worker-1", "compute")?;
    let all = system.run(&["drain", "worker-1", "--all"])?;
    assert_eq!(all.code, Some(0), "{all:?}");
    assert!(twin.wait()?.success() && system.worker(1).wait()?.success());
    Ok(())
}

#[test]
fn a_worker_without_a_name_is_called_by_its_host_and_process() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let args = ["--broker", system.backend()];
    let mut worker = Process::start_in(None, system.folder(), "nameless", "giostra-worker", &args)?;
    let name = format!("{}-{}", giostra_protocol::name::host(), worker.id());
    system.wait_for_line(&[&format!(" joined {name} w1 ")])?;
    let drained = system.run(&["drain", &name])?;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert!(worker.wait()?.success());
    Ok(())
}

#[test]
fn a_worker_killed_while_draining_is_logged_as_dropped_not_left() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let sleeping = system.begin(&["send", "sleep", "6"])?;
    system.wait_for_line(&[" dispatch worker-1 "])?;
    let draining = system.begin(&["drain", "worker-1", "--json"])?;
    system.wait_for_line(&[" leaving worker-1 "])?;
    system.kill_worker(1)?;
    let drained = draining.finish()?;
    let object = drained.json()?;
    ensure!(drained.code == Some(1) && object["left"] == false && object["lost"][0]["number"] == 1, "{drained:?}");
    let message = object["error"]["message"].as_str().unwrap_or_default();
    ensure!(message.contains("was lost before it had finished") && message.contains("1 request goes"), "{message}");
    ensure!(drained.stderr.contains(message), "{drained:?}");
    let slept = sleeping.finish()?;
    ensure!((slept.code, &*slept.stdout) == (Some(0), "6\n"), "{slept:?}");
    Ok(())
}

#[test]
fn ctrl_c_cancels_the_clients_requests() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let mut batch = system.begin(&["random", "5000", "--json"])?;
    wait_for("all that fits into the window is accepted", || (system.status().ok()?["pending"] == 4096).then_some(()))?;
    batch.process().signal(Signal::SIGINT)?;
    let ended = batch.finish()?;
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert_eq!((&ended.json()?["sent"], &ended.json()?["answered"]), (&4096.into(), &0.into()));
    // Cancelled by its own word, not because its connection ended.
    let cancelled = system.wait_for_line(&[" cancel "])?;
    // A status request in between may have been the first client.
    let client = cancelled.split(" cancel ").nth(1).and_then(|rest| rest.strip_suffix("#1..4096")).unwrap_or_default();
    assert!(client.starts_with('c'), "{cancelled}");
    assert_eq!(system.status()?["pending"], 0);
    // The first request is gone; the next one is computed.
    system.start_worker(1)?;
    system.random(&["100"])?;
    let dispatched = system.line(&[" dispatch ", &format!(" {client}#")]);
    assert_eq!(dispatched, None, "a cancelled request was dispatched");
    Ok(())
}

#[test]
fn a_client_that_was_stopped_for_too_long_says_that_its_requests_begin_anew() -> Result<()> {
    let mut system = Setup::workers(2).broker(&["--client-timeout", "4s"]).start()?;
    let mut sleeping = system.begin(&["send", "sleep", "6"])?;
    system.wait_for_line(&[" dispatch worker-1 w1 t1 c1#1"])?;
    sleeping.process().signal(Signal::SIGSTOP)?;
    system.wait_for_line(&[" client-left c1 "])?;
    sleeping.process().signal(Signal::SIGCONT)?;
    let slept = sleeping.finish()?;
    assert_eq!((slept.code, &*slept.stdout), (Some(0), "6\n"), "{slept:?}");
    for part in ["stopped for ", "1 request that was under way is sent again", "--client-timeout"] {
        ensure!(slept.stderr.contains(part), "{part} in {slept:?}");
    }
    ensure!(system.log().contains(" dispatch worker-2 w2 t2 c2#1"));
    system.audit()?;
    Ok(())
}

#[test]
fn a_client_that_is_stopped_for_less_than_the_client_timeout_keeps_its_place() -> Result<()> {
    let mut system = Setup::workers(1).broker(&["--client-timeout", "60s"]).start()?;
    // Longer than is given by default.
    let mut sleeping = system.begin(&["send", "sleep", "14"])?;
    system.wait_for_line(&[" dispatch worker-1 w1 t1 c1#1"])?;
    sleeping.process().signal(Signal::SIGSTOP)?;
    system.wait_for_line(&[" reply worker-1 w1 c1#1"])?;
    ensure!(!system.log().contains(" client-left "));
    sleeping.process().signal(Signal::SIGCONT)?;
    let slept = sleeping.finish()?;
    assert_eq!((slept.code, &*slept.stdout, &*slept.stderr), (Some(0), "14\n", ""), "{slept:?}");
    ensure!(!system.log().contains(" client-joined c2 "));
    Ok(())
}

#[test]
fn a_client_whose_broker_is_killed_says_how_many_requests_it_sends_again() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let sleeping = system.begin(&["send", "sleep", "1"])?;
    system.wait_for_line(&[" dispatch worker-1 w1 t1 c1#1"])?;
    system.kill_broker()?;
    system.start_broker()?;
    let slept = sleeping.finish()?;
    assert_eq!((slept.code, &*slept.stdout), (Some(0), "1\n"), "{slept:?}");
    let told = "the connection to the broker broke: 1 request that was under way is sent again";
    ensure!(slept.stderr.contains(told), "{slept:?}");
    Ok(())
}

#[test]
fn a_process_started_with_blocked_signals_receives_them() -> Result<()> {
    // What is blocked here, the processes inherit, as from any supervisor that waits for signals of its
    // own.
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]).thread_block()?;
    let mut system = Setup::workers(1).start()?;
    system.worker(1).signal(Signal::SIGTERM)?;
    assert!(system.worker(1).wait()?.success());
    system.broker().signal(Signal::SIGINT)?;
    assert!(system.broker().wait()?.success());
    Ok(())
}
