//! What a user does every day, with real processes.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::Result;
use giostra_audit::{Gap, Verdict};
use giostra_tests::process::{Process, binary, wait_for};
use giostra_tests::{Port, Setup, System};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

#[test]
fn a_random_batch_is_dispatched_evenly_and_the_log_shows_each_turn_of_the_ring() -> Result<()> {
    let mut system = Setup::workers(3).start()?;
    let summary = system.random(&["3000", "--seed", "1"])?;
    assert_eq!(summary["answered"], 3000);
    assert_eq!(summary["workers"], json!({"worker-1": 1000, "worker-2": 1000, "worker-3": 1000}));
    let log = system.log();
    let dispatched: Vec<_> =
        log.lines().filter_map(|line| line.split(" dispatch worker-").nth(1)?.split(' ').next()).collect();
    assert!(dispatched.len() >= 3);
    for (i, worker) in dispatched.iter().enumerate() {
        assert_eq!(*worker, (i % 3 + 1).to_string(), "line {i}");
    }
    let counts = system.audit()?.counts;
    assert_eq!((counts.accepted, counts.dispatched, counts.replies, counts.open), (3000, 3000, 3000, 0));
    Ok(())
}

#[test]
fn one_request_has_a_trace_and_a_batch_a_summary_for_people() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let first = system.run(&["send", "add", "1", "2", "--json"])?.json()?;
    assert_eq!((&first["result"], &first["trace"]["worker"]), (&json!(3), &json!("worker-1")));
    let people = system.run(&["random", "10", "--seed", "7"])?;
    assert!(people.stdout.contains("(seed 7)") && people.stdout.contains("10, all of them"), "{people:?}");
    Ok(())
}

#[test]
fn errors_explain_and_the_worker_lives_on() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    for (line, explanation) in [
        ("send div 1 0", "failed: division by zero"),
        ("send nosuch 1 2", "unknown operation 'nosuch'; this pool offers add, div, echo, fib"),
        ("send add 1", "add takes 2 arguments, not 1"),
    ] {
        let finished = system.run(&line.split(' ').collect::<Vec<_>>())?;
        assert_eq!((finished.code, &*finished.stdout), (Some(1), ""), "{line}");
        assert!(finished.stderr.contains(explanation), "{line}: {finished:?}");
    }
    let failed = system.run(&["send", "div", "1", "0", "--json"])?;
    assert_eq!(failed.json()?["error"]["code"], "failed");
    assert_eq!(system.run(&["send", "add", "one", "2"])?.code, Some(1));
    let works = system.run(&["send", "somma", "1", "2"])?;
    assert_eq!((works.code, &*works.stdout), (Some(0), "3\n"));
    assert!(system.worker(1).is_running());
    assert_eq!(system.audit()?.counts.reply_errors, 5);
    Ok(())
}

#[test]
fn a_time_limit_that_passed_is_named_as_it_was_given() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let finished = system.run(&["send", "sleep", "60", "--timeout", "1s 200ms"])?;
    assert!(finished.stderr.ends_with("worker-1 was computing it (--timeout 1s 200ms)\n"), "{finished:?}");
    Ok(())
}

#[test]
fn a_large_result_travels_as_a_frame_of_its_own() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let finished = system.run(&["send", "primes", "1000000"])?;
    assert_eq!(finished.stdout.split_whitespace().count(), 78498);
    assert_eq!(finished.stdout.split_whitespace().next_back(), Some("999983"));
    Ok(())
}

#[test]
fn without_a_worker_requests_wait_and_are_answered_when_one_comes() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let batch = system.begin(&["random", "1000", "--json"])?;
    system.wait_for_line(&[" accept c1#"])?;
    system.start_worker(1)?;
    assert_eq!(batch.finish()?.all_well()?["answered"], 1000);
    Ok(())
}

#[test]
fn without_a_worker_a_time_limit_ends_in_expired() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let finished = system.run(&["send", "add", "1", "2", "--timeout", "200ms"])?;
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("expired") && finished.stderr.contains("no worker"), "{finished:?}");
    let finished = system.run(&["random", "100", "--timeout", "200ms", "--json"])?;
    assert_eq!(finished.code, Some(1));
    assert_eq!(finished.json()?["errors"], json!({"expired": 100}));
    assert_eq!(system.audit()?.counts.expired, 101);
    Ok(())
}

#[test]
fn without_a_broker_the_client_says_so_after_its_time_limit() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nobody = Port::reserve()?;
    let broker = nobody.endpoint();
    for limit in ["--timeout", "--broker-timeout"] {
        let args = ["send", "add", "1", "2", "--broker", &broker, limit, "300ms"];
        let mut client = Process::start(folder.path(), limit, "giostra", &args)?;
        assert_eq!(client.wait()?.code(), Some(1));
        // How long exactly depends on how busy the machine is.
        let said = client.stderr();
        assert!(said.contains("no broker for 0.") && said.contains(&format!(" s at {broker}")), "{said}");
    }
    let mut status = Process::start(
        folder.path(),
        "status",
        "giostra",
        &["status", "--broker", &broker, "--broker-timeout", "300ms"],
    )?;
    assert_eq!(status.wait()?.code(), Some(1));
    assert!(status.stderr().contains("is one running?"), "{}", status.stderr());
    Ok(())
}

#[test]
fn a_time_limit_too_short_for_an_answer_expires_and_does_not_blame_the_broker() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    for limit in ["1ns", "1us", "100us"] {
        let finished = system.run(&["send", "sleep", "1", "--timeout", limit])?;
        assert_eq!(finished.code, Some(1));
        assert!(finished.stderr.contains("expired") && !finished.stderr.contains("no broker"), "{finished:?}");
    }
    Ok(())
}

#[test]
fn a_busy_worker_is_not_a_dead_one() -> Result<()> {
    // Dropped after at most 2 s of silence: the computation takes several times as long.
    let mut system = Setup::workers(1).broker(&["--ping-interval", "500ms"]).start()?;
    let batch = system.begin(&["send", "sleep", "8"])?;
    let busy = |worker: &Value| worker["state"] == "busy" && worker["oldest_ms"].as_u64() >= Some(3000);
    wait_for("status shows the worker as busy", || {
        let status = system.status().expect("the broker answers");
        busy(&status["workers"][0]).then_some(())
    })?;
    let finished = batch.finish()?;
    assert_eq!((finished.code, &*finished.stdout), (Some(0), "8\n"));
    assert_eq!((system.registrations(1), system.log().contains(" dropped ")), (1, false));
    Ok(())
}

#[test]
fn several_threads_compute_at_once() -> Result<()> {
    let mut system = Setup::workers(1).worker(&["--threads", "4"]).start()?;
    let batches = (0..4).map(|_| system.begin(&["send", "sleep", "5"])).collect::<Result<Vec<_>>>()?;
    wait_for("all four are computed at the same time", || {
        let status = system.status().expect("the broker answers");
        (status["workers"][0]["in_flight"] == 4).then_some(())
    })?;
    for batch in batches {
        assert_eq!(batch.finish()?.code, Some(0));
    }
    Ok(())
}

#[test]
fn a_signal_ends_all_of_them_cleanly() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let mut batch = system.begin(&["random", "100000000", "--json"])?;
    system.wait_for_line(&[" reply "])?;
    batch.process().signal(Signal::SIGINT)?;
    let finished = batch.finish()?;
    assert_eq!(finished.code, Some(130));
    let summary = finished.json()?;
    assert_eq!((&summary["wrong"], &summary["duplicated"], &summary["failed"]), (&json!(0), &json!(0), &json!(0)));
    assert!(summary["unanswered"].as_u64() > Some(0));

    system.worker(1).signal(Signal::SIGTERM)?;
    assert_eq!(system.worker(1).wait()?.code(), Some(0));
    assert!(system.log().contains(" left worker-1 w1"));
    system.broker().signal(Signal::SIGTERM)?;
    assert_eq!(system.broker().wait()?.code(), Some(0));
    assert!(system.log().lines().next_back().is_some_and(|line| line.contains(" stopped lines=")));
    system.audit()?;
    Ok(())
}

#[test]
fn a_broker_asked_to_stop_finishes_the_requests_in_flight() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let batch = system.begin(&["send", "sleep", "1"])?;
    system.wait_for_line(&[" dispatch "])?;
    system.broker().signal(Signal::SIGINT)?;
    let finished = batch.finish()?;
    assert_eq!((finished.code, &*finished.stdout), (Some(0), "1\n"));
    assert_eq!(system.broker().wait()?.code(), Some(0));
    assert!(system.log().contains(" closing in-flight=1"));
    system.audit()?;
    Ok(())
}

#[test]
fn a_second_signal_ends_the_broker_at_once() -> Result<()> {
    let mut system = Setup::workers(1).broker(&["--grace", "1h"]).start()?;
    let _batch = system.begin(&["send", "sleep", "60"])?;
    system.wait_for_line(&[" dispatch "])?;
    system.broker().signal(Signal::SIGTERM)?;
    system.wait_for_line(&[" closing "])?;
    system.broker().signal(Signal::SIGTERM)?;
    assert_eq!(system.broker().wait()?.code(), Some(130));
    system.audit()?;
    Ok(())
}

#[test]
fn a_worker_asked_to_stop_finishes_its_requests() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let batch = system.begin(&["random", "50000", "--json"])?;
    system.wait_for_line(&[" reply "])?;
    system.worker(1).signal(Signal::SIGTERM)?;
    assert_eq!(system.worker(1).wait()?.code(), Some(0));
    let summary = batch.finish()?.all_well()?;
    assert_eq!((&summary["answered"], &summary["redispatched"]), (&json!(50000), &json!(0)));
    assert_eq!(system.audit()?.counts.workers_left, 1);
    Ok(())
}

#[test]
fn a_taken_port_is_a_clear_message() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let log = system.folder().join("second").display().to_string();
    let args = ["--frontend", system.frontend(), "--backend", "tcp://127.0.0.1:*", "--log-dir", &log];
    let mut second = Process::start(system.folder(), "second", "giostra-broker", &args)?;
    assert_eq!(second.wait()?.code(), Some(1));
    assert!(second.stderr().contains("is a broker running there already?"), "{}", second.stderr());
    let open = ["--frontend", "tcp://*:0", "--log-dir", &log];
    let mut open = Process::start(system.folder(), "open", "giostra-broker", &open)?;
    assert_eq!(open.wait()?.code(), Some(1));
    assert!(open.stderr().contains("--insecure"), "{}", open.stderr());
    Ok(())
}

#[test]
fn the_log_is_rotated_and_its_files_are_bounded() -> Result<()> {
    let mut system = Setup::workers(1).broker(&["--log-size", "20KiB", "--log-files", "3"]).start()?;
    system.random(&["3000", "--window", "1"])?;
    // Old files are removed by a thread of the logger's own.
    wait_for("old files are gone", || (system.log_files().len() == 4).then_some(()))?;
    assert!(system.log().len() < 5 * 20 * 1024);
    // The first lines are gone, and with them the proof.
    let report = giostra_audit::audit(&[system.folder().join("log")])?;
    assert_eq!(report.verdict(), Verdict::NotProvable);
    assert!(matches!(report.gaps[..], [Gap::Beginning(lines)] if lines == report.lines), "{report}");
    Ok(())
}

#[test]
fn the_prompt_keeps_the_habits_of_the_original() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let mut prompt = Command::new(binary("giostra")?)
        .args(["prompt", "--broker", system.frontend()])
        .env("HOME", system.folder())
        .env_remove("XDG_STATE_HOME")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = prompt.stdin.take().expect("it is piped");
    stdin.write_all(b"random\n20\ndivisione\n7 2\nmul 6 7\nsqrt -1\nnonsense\nstatus\nexit\n")?;
    drop(stdin);
    let output = prompt.wait_with_output()?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complained}");
    for expected in ["20, all of them", "3.5\n", "42\n", "help lists the commands", "worker-1"] {
        assert!(said.contains(expected), "no {expected} in {said}");
    }
    assert!(complained.contains("square root of a negative number"), "{complained}");
    assert!(system.folder().join(".local/state/giostra/history").exists());
    Ok(())
}

#[test]
fn a_batch_can_wait_for_its_workers() -> Result<()> {
    let mut system: System = Setup::workers(1).start()?;
    let batch = system.begin(&["random", "100", "--wait-workers", "2", "--json"])?;
    system.wait_for_line(&[" client-joined "])?;
    system.start_worker(2)?;
    assert_eq!(batch.finish()?.all_well()?["workers"], json!({"worker-1": 50, "worker-2": 50}));
    Ok(())
}

#[test]
fn the_audit_proves_a_log_in_many_files_and_tells_one_requests_life() -> Result<()> {
    let mut system = Setup::workers(2).broker(&["--log-size", "20KiB", "--log-files", "1000"]).start()?;
    system.random(&["3000", "--window", "10"])?;
    system.kill_broker()?;
    assert!(system.log_files().len() > 3);
    let log = system.folder().join("log").display().to_string();
    let audit = system.run(&["audit", &log])?;
    assert_eq!(audit.code, Some(0), "{audit:?}");
    assert!(audit.stdout.contains("strict rotation: proved") && audit.stdout.ends_with("\nproved\n"), "{audit:?}");
    // The files one by one, backwards, and the link to the current one.
    let mut files: Vec<_> = system.log_files().iter().rev().map(|file| file.display().to_string()).collect();
    files.push(format!("{log}/broker.log"));
    let args: Vec<_> = ["audit", "--json"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let audit = system.run(&args)?.json()?;
    assert_eq!((&audit["proved"], &audit["accepted"], &audit["open"]), (&json!(true), &json!(3000), &json!(0)));
    assert_eq!(audit["files"], system.log_files().len());

    let story = system.run(&["audit", "--request", "c1#2001", &log])?;
    assert_eq!(story.code, Some(0));
    for step in
        ["joined as c1", "accepted for pool compute", "dispatched to worker-1 w1 as t2001", "answered by worker-1 w1"]
    {
        assert!(story.stdout.contains(step), "no {step:?} in {story:?}");
    }
    assert_eq!(system.run(&["audit", "--request", "c9#1", &log])?.code, Some(1));
    assert_eq!(system.run(&["audit", "/nonexistent"])?.code, Some(2));

    // A line less, and it is refuted.
    let file = system.log_files().remove(1);
    let text = std::fs::read_to_string(&file)?;
    let line = text.lines().find(|line| line.contains(" dispatch ")).expect("there is one");
    std::fs::write(&file, text.replacen(&format!("{line}\n"), "", 1))?;
    let audit = system.run(&["audit", "--json", &log])?;
    assert_eq!((audit.code, &audit.json()?["proved"]), (Some(1), &json!(false)));
    let violations = audit.json()?["violations"].to_string();
    assert!(violations.contains("missing before t") && violations.contains("broker_r0000"), "{violations}");
    Ok(())
}
