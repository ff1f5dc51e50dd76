//! What is printed: results in order or not, failures, and all that in spite of what happens to
//! workers and the broker.

use std::collections::HashMap;
use std::fs;
use std::sync::{Condvar, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use giostra_protocol::Failure;
use giostra_tests::Setup;
use giostra_tests::process::wait_for;
use giostra_worker::Operations;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{OwnWorker, Ran, feed, map, path, primes, run, seq, wait_until_under_way};

/// Enough for something to happen in the middle of it.
const MANY: u64 = 300_000;

#[test]
fn results_come_in_the_order_of_the_lines_whatever_the_workers_speed() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let slow_or_fast = |n: u64| {
        sleep(Duration::from_micros(n * 7919 % 5000));
        Ok::<_, Failure>(n)
    };
    let _worker = OwnWorker::start(&system, Operations::new().with("same", slow_or_fast))?;
    for args in [&["same"][..], &["same", "--window", "10"], &["same", "--window", "1"]] {
        let Ran { code, stdout, .. } = run(&system, args, &seq(500))?;
        assert!((code, &stdout) == (Some(0), &seq(500)), "{args:?}: {code:?} {stdout}");
    }
    let Ran { stdout, .. } = run(&system, &["same", "--unordered"], &seq(500))?;
    assert!(stdout != seq(500), "they come as they are there");
    let mut numbers: Vec<u64> = stdout.lines().map(str::parse).collect::<Result<_, _>>()?;
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=500));
    Ok(())
}

#[test]
fn long_lines_are_computed_on_all_threads_that_there_are() -> Result<()> {
    const THREADS: usize = 300;
    let system = Setup::workers(0).start()?;
    // Each waits until as many are being computed as there are threads.
    let (computing, all) = (Mutex::new(0), Condvar::new());
    let together = move |_: u64| {
        let mut computing = computing.lock().expect("no panic");
        *computing += 1;
        all.notify_all();
        let waited = all.wait_timeout_while(computing, Duration::from_secs(60), |computing| *computing < THREADS);
        let (computing, result) = waited.expect("no panic");
        if result.timed_out() { Err(format!("{computing} at a time")) } else { Ok(true) }
    };
    let _worker = OwnWorker::start_with(&system, THREADS, Operations::new().with("together", together))?;
    let Ran { code, stdout, stderr } = run(&system, &["together", "--window", "300"], &seq(THREADS as u64))?;
    assert!((code, stdout.lines().count()) == (Some(0), THREADS), "{code:?} {stderr}");
    Ok(())
}

#[test]
fn a_killed_worker_changes_nothing_in_the_output() -> Result<()> {
    for unordered in [false, true] {
        let mut system = Setup::workers(3).start()?;
        let args = if unordered { &["is_prime", "--unordered", "--number"][..] } else { &["is_prime"] };
        let child = map(&system, args)?.spawn()?;
        let run = std::thread::spawn(move || feed(child, &seq(MANY)));
        wait_until_under_way(&system, 20)?;
        // Frozen first, so that it holds requests when it is killed.
        system.worker(2).signal(Signal::SIGSTOP)?;
        wait_for("the frozen worker holds requests", || {
            let status = system.status().ok()?;
            let workers = status["workers"].as_array()?;
            workers.iter().any(|worker| worker["name"] == "worker-2" && worker["in_flight"] != 0).then_some(())
        })?;
        system.kill_worker(2)?;
        let Ran { code, stdout, stderr } = run.join().expect("no panic")?;
        assert!(code == Some(0) && stderr.contains(" re-dispatched"), "{code:?} {stderr}");
        let undisturbed = primes(MANY);
        if unordered {
            let mut lines: Vec<_> = stdout.lines().filter_map(|line| line.split_once('\t')).collect();
            lines.sort_by_key(|(number, _)| number.parse::<u64>().unwrap_or(0));
            assert!(lines.iter().map(|(number, _)| number.parse()).eq((1..=MANY).map(Ok)), "each line once");
            assert!(lines.into_iter().map(|(_, prime)| prime).eq(undisturbed.lines()));
        } else {
            assert!(stdout == undisturbed);
        }
        system.audit()?;
    }
    Ok(())
}

#[test]
fn a_restarted_broker_changes_nothing_in_the_output() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let child = map(&system, &["is_prime"])?.spawn()?;
    let run = std::thread::spawn(move || feed(child, &seq(MANY)));
    wait_until_under_way(&system, 20)?;
    system.kill_broker()?;
    system.start_broker()?;
    let Ran { code, stdout, stderr } = run.join().expect("no panic")?;
    assert!(code == Some(0) && stdout == primes(MANY), "{code:?} {stderr}");
    Ok(())
}

#[test]
fn failed_lines_are_reported_kept_and_leave_their_place_empty() -> Result<()> {
    let system = Setup::workers(2).start()?;
    let input = "6 3\n1 0\r\n\n  7\t2 \n6 3 1\nlast 1";
    let failed = path(&system, "failed");
    let Ran { code, stdout, stderr } = run(&system, &["div", "--failed", &failed], input)?;
    assert_eq!((code, &*stdout), (Some(1), "2\n\n\n3.5\n\n\n"), "{stderr}");
    for part in [
        "line 2: failed: division by zero",
        "line 3: invalid: div takes 2 arguments, not 0",
        "line 5: invalid: div takes 2 arguments, not 3",
        "line 6: invalid: ",
        "6 lines in ",
        ", 4 failed\n",
    ] {
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
    }
    let kept = fs::read_to_string(&failed)?;
    assert_eq!(kept, "1 0\r\n\n6 3 1\nlast 1\n");
    // They can be tried again.
    let again = run(&system, &["div", "--failed", &failed, "--unordered", "--quiet"], &kept)?;
    assert_eq!((again.code, &*again.stdout, again.stderr.lines().count()), (Some(1), "", 4), "{again:?}");
    assert_eq!(fs::read_to_string(&failed)?.lines().count(), 4);
    Ok(())
}

#[test]
fn a_line_that_is_not_utf_8_fails_alone_and_a_thousand_failures_take_eleven_lines() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let folder = path(&system, "binary");
    fs::write(&folder, b"2\n\xff\xfe\n3\n")?;
    let output = map(&system, &["is_prime"])?.stdin(fs::File::open(&folder)?).output()?;
    assert_eq!(output.stdout, b"true\n\ntrue\n");
    assert!(String::from_utf8(output.stderr)?.contains("line 2: invalid: not UTF-8"));

    let Ran { stderr, .. } = run(&system, &["div"], &"1 0\n".repeat(1000))?;
    assert_eq!(stderr.matches("division by zero").count(), 10, "{stderr}");
    assert!(stderr.lines().count() == 12 && stderr.contains("1000 failed"), "{stderr}");
    Ok(())
}

#[test]
fn failures_are_retried_but_not_invalid_requests() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let tries = Mutex::new(HashMap::<i64, u32>::new());
    // Succeeds at the third attempt; negative numbers make no sense to it.
    let moody = move |n: i64| {
        let mut tries = tries.lock().expect("no panic");
        let times = tries.entry(n).or_default();
        *times += 1;
        match *times {
            _ if n < 0 => Err(Failure::new("invalid", "negative")),
            3 => Ok(n),
            times => Err(Failure::from(format!("attempt {times}"))),
        }
    };
    let _worker = OwnWorker::start(&system, Operations::new().with("moody", moody))?;
    let Ran { code, stdout, stderr } = run(&system, &["moody", "--retry", "1"], "1\n2\n")?;
    assert_eq!((code, &*stdout), (Some(1), "\n\n"));
    assert!(stderr.contains("line 2: failed: attempt 2") && stderr.contains("2 retried"), "{stderr}");
    let Ran { code, stdout, stderr } = run(&system, &["moody", "--retry", "5"], "3\n-1\n4\n")?;
    assert_eq!((code, &*stdout), (Some(1), "3\n\n4\n"));
    assert!(stderr.contains("line 2: invalid: negative") && stderr.contains("4 retried"), "{stderr}");
    Ok(())
}

#[test]
fn a_line_that_fails_again_and_again_is_asked_after_growing_pauses() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let began = Instant::now();
    let Ran { code, stderr, .. } = run(&system, &["div", "--retry", "4"], &"1 0\n".repeat(100))?;
    assert!(code == Some(1) && stderr.contains("100 failed, 400 retried"), "{stderr}");
    // At least half of 100, 200, 400 and 800 ms.
    assert!(began.elapsed() >= Duration::from_millis(750), "{:?}", began.elapsed());
    Ok(())
}

#[test]
fn words_are_between_spaces_and_tabs_and_with_line_there_is_one_text() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let count = |words: Vec<String>| Ok::<_, Failure>(words.len());
    let whole = |text: String| Ok::<_, Failure>(format!("<{text}>"));
    let operations = Operations::new().with("count", count).with("whole", whole);
    let _worker = OwnWorker::start(&system, operations)?;
    let Ran { code, stdout, stderr } = run(&system, &["count"], "a b\tc\r\nd\u{a0}e f\u{3000}g\u{202f}h\n")?;
    assert_eq!((code, &*stdout), (Some(0), "3\n2\n"), "{stderr}");
    let Ran { code, stdout, stderr } = run(&system, &["whole", "--line"], " my  file.txt \n7\n\n")?;
    assert_eq!((code, &*stdout), (Some(0), "< my  file.txt >\n<7>\n<>\n"), "{stderr}");
    let Ran { code, stdout, stderr } = run(&system, &["whole", "--line", "--json"], "1\n")?;
    assert!(code == Some(1) && stdout.is_empty() && stderr.contains("--line is for texts"), "{stderr}");
    Ok(())
}

#[test]
fn a_byte_order_mark_does_not_fail_the_first_line() -> Result<()> {
    let system = Setup::workers(1).start()?;
    for (args, input) in [(&["is_prime"][..], "\u{feff}7\r\n8\r\n"), (&["is_prime", "--json"], "\u{feff}[7]\n8\n")] {
        let Ran { code, stdout, stderr } = run(&system, args, input)?;
        assert_eq!((code, &*stdout), (Some(0), "true\nfalse\n"), "{args:?}: {stderr}");
    }
    Ok(())
}

#[test]
fn with_json_a_line_is_a_value_and_so_is_the_answer() -> Result<()> {
    let system = Setup::workers(2).start()?;
    let input = "[12, 18]\n[1]\n{\nnull\n[6, 4]\n";
    let Ran { code, stdout, .. } = run(&system, &["gcd", "--json"], input)?;
    let lines: Vec<Value> = stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!((code, &lines[0], &lines[4]), (Some(1), &json!(6), &json!(2)), "{stdout}");
    let codes: Vec<_> = lines.iter().map(|line| line["error"]["code"].as_str().unwrap_or("fine")).collect();
    assert_eq!(codes, ["fine", "invalid", "invalid", "invalid", "fine"], "{stdout}");
    let Ran { stdout, .. } = run(&system, &["primes", "--json", "--number"], "10")?;
    assert_eq!(stdout, "{\"line\":1,\"result\":[2,3,5,7]}\n");
    Ok(())
}

#[test]
fn without_waiting_lines_fail_at_once_and_name_the_pools() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let args = ["is_prime", "--no-wait", "--pool", "compote"];
    let Ran { code, stdout, stderr } = run(&system, &args, "1\n2\n")?;
    assert_eq!((code, &*stdout), (Some(1), "\n\n"), "{stderr}");
    assert!(
        stderr.contains("line 1: no-worker: pool 'compote' has no worker; there are workers in compute"),
        "{stderr}"
    );
    Ok(())
}

#[test]
fn without_a_broker_it_ends_and_no_line_counts_as_failed() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    system.kill_broker()?;
    let failed = path(&system, "failed");
    let args = ["is_prime", "--broker-timeout", "300ms", "--failed", &failed];
    let Ran { code, stdout, stderr } = run(&system, &args, &seq(10_000))?;
    assert_eq!((code, &*stdout), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("no-broker") || stderr.contains("no broker for"), "{stderr}");
    assert!(!stderr.contains("line 1:"), "{stderr}");
    assert_eq!(fs::read_to_string(&failed)?, "");
    Ok(())
}
