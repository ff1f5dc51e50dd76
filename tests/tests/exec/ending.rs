//! Programs that hang, flood, escape or are not wanted any more: they end, and nothing is left of
//! them.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use giostra_protocol::{Bytes, Outcome, code};
use giostra_tests::process::{PATIENCE, Process, binary, wait_for};
use giostra_tests::{Setup, System};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::bench::{Bench, all_end, children_and_guard, runs, written};

/// A process and a child of it, both deaf to SIGTERM; their ids go into the file that is its
/// argument.
const DEAF: &str =
    r#"sh -c 'trap "" TERM; sh -c "while :; do sleep 100; done" & echo $! $$ >> "$1"; while :; do sleep 100; done' sh"#;

/// The same, but they hear it.
const LONG: &str = r#"sh -c 'sleep 1000 & echo $! $$ >> "$1"; wait' sh"#;

#[test]
fn a_program_that_hangs_is_ended_with_its_children_though_they_ignore_sigterm() -> Result<()> {
    let mut bench = Bench::start(&["--exec", DEAF, "--time-limit", "3s", "--kill-after", "200ms"])?;
    let file = bench.file("ids");
    let failure = bench.failure(&json!([file]))?.to_string();
    assert_eq!(failure, "failed: sh took longer than 3s (--time-limit) and was ended");
    all_end(&written(&file, 2)?)?;
    bench.no_child_is_left()
}

#[test]
fn a_program_that_floods_stdout_is_ended() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "yes", "--max-output", "1MiB"])?;
    for _ in 0..5 {
        let failure = bench.failure(&json!([]))?.to_string();
        assert_eq!(failure, "failed: yes printed more than 1.0 MiB (--max-output) and was ended");
    }
    bench.no_child_is_left()?;
    assert!(bench.system.worker(1).rss()? < 50_000_000);
    Ok(())
}

#[test]
fn children_that_hold_the_pipes_do_not_hold_the_worker_and_end_with_their_request() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "sh -c 'sleep 1000 & echo $!'"])?;
    let began = Instant::now();
    let id = bench.result(&json!([]))?.as_str().context("a text")?.parse()?;
    assert!(began.elapsed() < Duration::from_secs(30));
    all_end(&[id])?;
    // Nor do those that hold nothing live on.
    let mut bench = Bench::start(&["--exec", "sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!'"])?;
    all_end(&[bench.result(&json!([]))?.as_str().context("a text")?.parse()?])
}

#[test]
fn a_program_that_closes_its_pipes_and_lives_on_is_waited_for() -> Result<()> {
    let mut bench = Bench::start(&["--exec", "sh -c 'echo first; exec >&- 2>&-; sleep 0.5; exit 4'"])?;
    assert_eq!(bench.failure(&json!([]))?.to_string(), "failed: sh exited with status 4");
    Ok(())
}

#[test]
fn a_program_in_a_session_of_its_own_does_not_hold_the_worker() -> Result<()> {
    // The id is written by the process that is in a session of its own already.
    let escaping =
        r#"sh -c 'setsid sh -c "echo \$\$ > $1; exec sleep 1000" & until [ -s $1 ]; do sleep 0.01; done; cat $1' sh"#;
    let mut bench = Bench::start(&["--exec", escaping])?;
    let id = bench.result(&json!([bench.file("id")]))?.as_str().context("a text")?.parse()?;
    // This is what docs/exec.md says of it.
    assert!(runs(id));
    Ok(kill(Pid::from_raw(id), Signal::SIGKILL)?)
}

#[test]
fn a_program_ends_when_its_client_cancels_or_leaves() -> Result<()> {
    let mut bench = Bench::start(&["--exec", LONG, "--threads", "2"])?;
    let [first, second] = ["first", "second"].map(|name| bench.file(name));
    // Its time limit passes: the broker has it cancelled.
    let reply = bench.client.call(bench.body(&json!([first])), Some(Duration::from_secs(3)))?;
    assert!(matches!(reply.outcome, Outcome::Error(failure) if failure.code == code::EXPIRED));
    all_end(&written(&first, 2)?)?;

    bench.submit(&json!([second]))?;
    let ids = written(&second, 2)?;
    assert!(ids.iter().all(|&id| runs(id)));
    let other = bench.system.client()?;
    drop(std::mem::replace(&mut bench.client, other));
    all_end(&ids)?;
    bench.no_child_is_left()
}

#[test]
fn programs_end_when_the_broker_does() -> Result<()> {
    let mut bench = Bench::start(&["--exec", LONG])?;
    let file = bench.file("ids");
    bench.submit(&json!([file]))?;
    let ids = written(&file, 2)?;
    bench.system.kill_broker()?;
    all_end(&ids)?;
    assert!(bench.system.worker(1).is_running());
    Ok(())
}

#[test]
fn a_worker_that_is_asked_to_finish_lets_its_program_finish() -> Result<()> {
    let script = r#"sh -c 'echo $$ >> "$1"; while ! [ -e "$1.go" ]; do sleep 0.05; done; echo finished' sh"#;
    let mut bench = Bench::start(&["--exec", script])?;
    let file = bench.file("ids");
    bench.submit(&json!([file]))?;
    written(&file, 1)?;
    bench.system.worker(1).signal(Signal::SIGTERM)?;
    let worker = bench.system.worker(1);
    wait_for("it has heard", || worker.stderr().contains("1 requests to finish first").then_some(()))?;
    fs::write(format!("{file}.go"), "")?;
    let reply = bench.client.next_reply(Some(PATIENCE))?.context("no reply came")?;
    assert_eq!(reply.outcome, Outcome::Ok(Bytes::from_static(b"\xa8finished")));
    assert_eq!(bench.system.worker(1).wait()?.code(), Some(0));
    Ok(())
}

#[test]
fn no_program_is_left_when_its_worker_gives_up_is_interrupted_twice_or_is_killed() -> Result<()> {
    type End = fn(&mut System) -> Result<()>;
    let ends: [(&str, End); 3] = [
        ("gives up", |system| {
            system.worker(1).signal(Signal::SIGTERM)?;
            // It waits for its programs.
            system.worker(1).wait().map(drop)
        }),
        ("twice", |system| {
            system.worker(1).signal(Signal::SIGINT)?;
            let worker = system.worker(1);
            wait_for("it has heard", || worker.stderr().contains("leaving").then_some(()))?;
            system.worker(1).signal(Signal::SIGINT)?;
            system.worker(1).wait().map(drop)
        }),
        ("killed", |system| system.kill_worker(1)),
    ];
    for (name, end) in ends {
        let grace = if name == "gives up" { "100ms" } else { "1h" };
        let args = ["--exec", DEAF, "--threads", "2", "--kill-after", "200ms", "--grace", grace];
        let mut bench = Bench::start(&args)?;
        let file = bench.file("ids");
        bench.submit(&json!([file]))?;
        bench.submit(&json!([file]))?;
        let ids = written(&file, 4)?;
        let guard = children_and_guard(bench.system.worker(1).id()).1.context("no guard")?;
        end(&mut bench.system)?;
        if name == "gives up" {
            // Each has written its child's id before its own. The child is killed, too, but it is not the
            // worker's to wait for.
            assert!(ids.chunks(2).all(|pair| !runs(pair[1])), "it did not wait for them");
        }
        all_end(&ids)?;
        all_end(&[guard])?;
    }
    Ok(())
}

#[test]
fn no_program_is_left_at_whatever_moment_of_its_start_its_worker_is_killed() -> Result<()> {
    const KILLS: u64 = 20;
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("sleeper");
    symlink("/bin/sleep", &program)?;
    let command = format!("{} 1000", program.display());
    // Each thread starts one program after the other.
    let args = ["--exec", &command, "--threads", "4", "--time-limit", "3ms", "--kill-after", "1s"];
    let mut system = Setup::workers(0).broker(&["--max-attempts", "1000"]).worker(&args).start()?;
    let mut client = system.client()?;
    client.await_broker()?;
    let body = Bytes::from(rmp_serde::to_vec(&("sleeper", [(); 0]))?);
    for _ in 0..20_000 {
        client.submit(body.clone())?;
    }
    client.next_reply(Some(Duration::ZERO))?;
    let mut guards = Vec::new();
    for kill in 1..=KILLS {
        system.start_worker(1)?;
        let worker = system.worker(1).id();
        guards.push(wait_for("its guard is there", || children_and_guard(worker).1)?);
        wait_for("a program runs", || (!all_of(&program).is_empty()).then_some(()))?;
        // No event tells that a program is half started: the moments are spread over some starts.
        sleep(Duration::from_micros(700 * kill));
        system.kill_worker(1)?;
        wait_for("all programs end", || all_of(&program).is_empty().then_some(()))
            .with_context(|| format!("after kill {kill}: {:?}", all_of(&program)))?;
    }
    all_end(&guards)?;
    assert!(all_of(&program).is_empty());
    Ok(())
}

#[test]
fn the_guard_ends_unreported_programs_of_its_worker_and_no_others() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let sleeper = |name: &str, mark: &str| {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000").env("GIOSTRA_GUARD", mark).process_group(0);
        Process::spawn(folder.path(), name, sleep)
    };
    let (mut own, mut foreign) = (sleeper("own", "a1")?, sleeper("foreign", "a10")?);
    // Its stdin is at its end, as if its worker had been killed at once.
    let guard = ["--exec-guard", "100", "a1"];
    assert!(Process::start(folder.path(), "guard", "giostra-worker", &guard)?.wait()?.success());
    assert_eq!(own.wait()?.signal(), Some(Signal::SIGTERM as i32));
    assert!(foreign.is_running());
    // One whose worker ended in order looks for nothing.
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo . | \"$@\"", "sh"]).arg(binary("giostra-worker")?).args(["--exec-guard", "100", "a10"]);
    assert!(Process::spawn(folder.path(), "dismissed", shell)?.wait()?.success());
    assert!(foreign.is_running());
    Ok(())
}

#[test]
fn a_killed_guard_is_replaced_by_one_that_knows_all_programs_and_leaves_no_zombie() -> Result<()> {
    let args = ["--exec", DEAF, "--threads", "3", "--kill-after", "200ms"];
    let mut bench = Bench::start(&args)?;
    let file = bench.file("ids");
    let worker = bench.system.worker(1).id();
    bench.submit(&json!([file]))?;
    written(&file, 2)?;
    let first = children_and_guard(worker).1.context("no guard")?;
    kill(Pid::from_raw(first), Signal::SIGKILL)?;
    let second = wait_for("another guard", || children_and_guard(worker).1.filter(|&id| id != first))?;
    // One program that the first guard knew, one that it never knew.
    bench.submit(&json!([file]))?;
    let ids = written(&file, 4)?;
    assert!(!Path::new(&format!("/proc/{first}")).exists(), "a zombie was left");
    bench.system.kill_worker(1)?;
    all_end(&ids)?;
    all_end(&[second])?;
    Ok(())
}

/// The processes of a program.
fn all_of(program: &Path) -> Vec<i32> {
    let begin = [program.as_os_str().as_bytes(), b"\0"].concat();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|words| words.starts_with(&begin))).collect()
}

#[test]
fn idle_processes_end_with_their_worker() -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // It stays also when its stdin ends.
        let script = r#"sh -c 'trap "" TERM; while read -r line; do echo $$; done; while :; do sleep 100; done'"#;
        let mut bench = Bench::start(&["--exec-lines", script, "--kill-after", "100ms"])?;
        let id: i32 = bench.result(&json!([]))?.as_str().context("a text")?.parse()?;
        bench.system.worker(1).signal(signal)?;
        bench.system.worker(1).wait()?;
        all_end(&[id])?;
    }
    Ok(())
}
