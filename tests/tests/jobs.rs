//! Durable jobs with real processes and a real disk: they outlive their clients, and the broker's
//! `kill -9`.

use std::fs::{self, File};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use giostra_client::{Client, JobId, JobOptions, JobState, Outcome, body, result};
use giostra_protocol::compute::{Call, Value};
use giostra_tests::process::{binary, wait_for};
use giostra_tests::{Setup, System};
use giostra_transport::keys::Role;
use rand::RngExt as _;
use serde_json::Value as Json;
use tempfile::TempDir;

/// How often the broker is killed; `GIOSTRA_JOB_KILLS=200` for a longer run.
const KILLS: u32 = 12;

/// The number of requests of a job that is interrupted.
const MANY: u32 = 20_000;

/// A system whose broker keeps jobs in a folder of the test's own.
struct Bench {
    system: System,
    folder: TempDir,
}

impl Bench {
    fn start(workers: usize) -> Result<Self> {
        let folder = TempDir::new()?;
        let store = store(&folder);
        Ok(Self { system: Setup::workers(workers).broker(&["--store", &store]).start()?, folder })
    }

    /// A `giostra` command with these lines on its stdin.
    fn command(&self, args: &[&str], lines: &str) -> Result<Child> {
        let input = self.folder.path().join("input");
        fs::write(&input, lines)?;
        let mut command = Command::new(binary("giostra")?);
        command.args(["--broker", self.system.frontend()]).args(args).stdin(File::open(input)?);
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    fn run(&self, args: &[&str], lines: &str) -> Result<Output> {
        Ok(self.command(args, lines)?.wait_with_output()?)
    }

    /// Returns what a command prints that succeeds.
    fn print(&self, args: &[&str], lines: &str) -> Result<String> {
        let output = self.run(args, lines)?;
        ensure!(output.status.success(), "{args:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?.trim_end().into())
    }

    fn restart_broker(&mut self) -> Result<()> {
        self.system.kill_broker()?;
        self.system.start_broker()
    }
}

fn store(folder: &TempDir) -> String {
    folder.path().join("store").display().to_string()
}

fn numbers(count: u32) -> String {
    (1..=count).map(|n| format!("{n}\n")).collect()
}

#[test]
fn a_job_is_collected_by_another_client_after_a_restart_and_its_results_are_those_of_map() -> Result<()> {
    let mut bench = Bench::start(2)?;
    let lines = numbers(5000);
    let id = bench.print(&["submit", "is_prime", "--lines", "--name", "night"], &lines)?;
    bench.restart_broker()?;
    bench.print(&["wait", &id], "")?;
    let listed: Json = serde_json::from_str(&bench.print(&["jobs", "--json"], "")?)?;
    let job = &listed["jobs"][0];
    assert_eq!((&job["job"], &job["state"], &job["name"]), (&id.as_str().into(), &"finished".into(), &"night".into()));
    assert_eq!((&job["requests"], &job["succeeded"]), (&5000.into(), &5000.into()));
    bench.restart_broker()?;
    let collected = bench.print(&["collect", &id], "")?;
    assert_eq!(collected, bench.print(&["map", "is_prime", "--quiet"], &lines)?);
    assert_eq!(bench.print(&["collect", &id, "--number"], "")?.lines().nth(6), Some("7\ttrue"));
    bench.print(&["collect", &id, "--delete"], "")?;
    let gone = bench.run(&["job", &id], "")?;
    ensure!(!gone.status.success() && String::from_utf8(gone.stderr)?.contains("there is no job"));
    bench.system.audit()?;
    Ok(())
}

#[test]
fn jobs_outlive_kills_of_the_broker_and_of_workers_at_any_moment() -> Result<()> {
    let kills = std::env::var("GIOSTRA_JOB_KILLS").ok().map_or(Ok(KILLS), |kills| kills.parse())?;
    let mut bench = Bench::start(3)?;
    let mut jobs: Vec<JobId> = Vec::new();
    for kill in 0..kills {
        let mut client = bench.system.client()?;
        let submitting = thread::spawn(move || -> Result<JobId> {
            let requests = (0..MANY).map(|n| body("add", &[n, kill]).expect("numbers can be encoded"));
            Ok(client.submit_job(JobOptions::default(), requests)?)
        });
        // No event tells that a broker is about to sync: the moments are spread.
        thread::sleep(Duration::from_micros(rand::rng().random_range(0..150_000)));
        if kill % 4 == 3 {
            let number = kill as usize / 4 % 3 + 1;
            bench.system.kill_worker(number)?;
            bench.restart_broker()?;
            bench.system.start_worker(number)?;
        } else {
            bench.restart_broker()?;
        }
        jobs.push(submitting.join().expect("it does not panic")?);
    }
    let mut client = bench.system.client()?;
    for (kill, &id) in (0..kills).zip(&jobs) {
        let job = client.job(id).wait(None)?;
        assert_eq!((job.state, job.requests, job.succeeded), (JobState::Finished, MANY, MANY), "{job:?}");
        check_results(&mut client, id, kill)?;
    }
    // A broker that is killed may have stored the last result and not logged it.
    let report = bench.system.audit()?;
    let counts = report.counts;
    ensure!(counts.jobs_open == 0 && counts.jobs_finished > u64::from(kills) / 2, "{counts:?}");
    Ok(())
}

/// Checks that there is the right result of each request, once.
fn check_results(client: &mut Client, id: JobId, kill: u32) -> Result<()> {
    let mut expected = 0..;
    for item in client.job(id).results(0) {
        let (number, outcome) = item?;
        assert_eq!(Some(number), expected.next());
        assert_eq!(result::<u32>(outcome)?, number + kill);
    }
    assert_eq!(expected.next(), Some(MANY));
    Ok(())
}

#[test]
fn a_submission_goes_on_with_the_next_broker_and_its_key_makes_it_one_job() -> Result<()> {
    let mut bench = Bench::start(1)?;
    let lines = numbers(200_000);
    let submit = ["submit", "is_prime", "--lines", "--key", "run-7"];
    let submitting = bench.command(&submit, &lines)?;
    bench.system.wait_for_line(&[" saved j1 "])?;
    bench.restart_broker()?;
    let output = submitting.wait_with_output()?;
    ensure!(output.status.success(), "{output:?}");
    let id = String::from_utf8(output.stdout)?.trim_end().to_string();
    assert_eq!(bench.print(&submit, &lines)?, id, "while it runs, or after");
    bench.print(&["wait", &id], "")?;
    assert_eq!(bench.print(&submit, &lines)?, id, "after it has ended");
    let job: Json = serde_json::from_str(&bench.print(&["job", &id, "--json"], "")?)?;
    assert_eq!(job["succeeded"], 200_000);
    bench.system.audit()?;
    Ok(())
}

#[test]
fn a_job_that_has_not_ended_is_collected_as_results_come_or_not_at_all() -> Result<()> {
    let bench = Bench::start(1)?;
    let id = bench.print(&["submit", "sleep", "--lines"], "0\n0\n600\n0\n")?;
    wait_for("two are done", || {
        let job = bench.print(&["job", &id, "--json"], "").ok()?;
        job.contains(r#""succeeded":2"#).then_some(())
    })?;
    let early = bench.run(&["collect", &id], "")?;
    let said = String::from_utf8(early.stderr)?;
    ensure!(early.status.code() == Some(1) && early.stdout.is_empty() && said.contains("--follow"), "{said}");
    let following = bench.command(&["collect", &id, "--follow"], "")?;
    let cancelled: Json = serde_json::from_str(&bench.print(&["cancel", &id, "--json"], "")?)?;
    assert_eq!(cancelled["jobs"][0]["state"], "cancelled");
    let output = following.wait_with_output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1) && said.contains("2 requests have no result"), "{said}");
    assert_eq!(String::from_utf8(output.stdout)?.lines().count(), 4);
    bench.system.audit()?;
    Ok(())
}

#[test]
fn failed_requests_are_empty_lines_and_a_failure() -> Result<()> {
    let bench = Bench::start(1)?;
    let id = bench.print(&["submit", "div", "--lines"], "6 2\n1 0\n9 3\n")?;
    assert_eq!(bench.run(&["wait", &id], "")?.status.code(), Some(1));
    let output = bench.run(&["collect", &id], "")?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!((output.status.code(), &*String::from_utf8(output.stdout)?), (Some(1), "3\n\n3\n"));
    ensure!(said.contains("line 2: ") && said.contains("division by zero"), "{said}");
    Ok(())
}

#[test]
fn a_line_that_is_no_request_ends_the_submission_and_cancels_its_job() -> Result<()> {
    let bench = Bench::start(1)?;
    let lines = format!("{}nonsense\n", "[1]\n".repeat(40_000));
    let output = bench.run(&["submit", "is_prime", "--lines", "--json"], &lines)?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1) && said.contains("line 40001: ") && said.contains("not JSON"), "{said}");
    bench.system.wait_for_line(&[" cancelled-job j1"])?;
    bench.system.audit()?;
    Ok(())
}

#[test]
fn a_store_is_one_brokers_alone_and_a_broker_without_one_says_what_to_do() -> Result<()> {
    let bench = Bench::start(1)?;
    let log = bench.folder.path().join("log").display().to_string();
    let args = ["--frontend", "tcp://127.0.0.1:*", "--backend", "tcp://127.0.0.1:*", "--log-dir", &log];
    let second =
        Command::new(binary("giostra-broker")?).args(args).args(["--store", &store(&bench.folder)]).output()?;
    let said = String::from_utf8(second.stderr)?;
    ensure!(
        second.status.code() == Some(1) && said.contains("--store: ") && said.contains("in use by process"),
        "{said}"
    );

    let mut without = Setup::workers(1).start()?;
    let refused = without.run(&["submit", "add", "1", "2"])?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("started without --store"), "{refused:?}");
    Ok(())
}

#[test]
fn a_job_belongs_to_the_key_that_submitted_it() -> Result<()> {
    let folder = TempDir::new()?;
    let mut system = Setup::workers(1).secured().broker(&["--store", &store(&folder)]).start()?;
    let mut keys = Vec::new();
    for (name, role) in [("alice", Role::Client), ("eve", Role::Client), ("root", Role::Admin)] {
        system.make_keys(name)?;
        system.allow(name, role)?;
        system.reload()?;
        keys.push(system.key_args(name));
    }
    let mut run = |who: usize, args: &[&str]| {
        let keys: Vec<_> = keys[who].iter().map(String::as_str).collect();
        system.begin_as(&keys, args)?.finish()
    };
    let id = run(0, &["submit", "add", "1", "2"])?.stdout.trim_end().to_string();
    let waited = run(0, &["wait", &id])?;
    ensure!(waited.code == Some(0), "{waited:?}");
    for args in [&["job", &id][..], &["collect", &id], &["cancel", &id], &["wait", &id]] {
        let refused = run(1, args)?;
        ensure!(refused.code == Some(1) && refused.stderr.contains("another client's"), "{refused:?}");
    }
    assert_eq!(run(1, &["jobs", "--json"])?.json()?["jobs"].as_array().map(Vec::len), Some(0));
    assert_eq!(run(2, &["jobs", "--json"])?.json()?["jobs"][0]["job"], id);
    assert_eq!(run(0, &["collect", &id])?.stdout, "3\n");
    Ok(())
}

#[test]
fn results_of_all_sizes_come_back_as_they_were() -> Result<()> {
    let bench = Bench::start(2)?;
    let mut client = bench.system.client()?;
    let sizes = [0, 1, 1000, 65_535, 65_536, 300_000, 3 << 20, 10, 2 << 20];
    let requests =
        sizes.iter().map(|&size| Call { operation: "echo".into(), arguments: vec![Value::Bytes(vec![7; size])] });
    let id = client.submit_job(JobOptions::default(), requests.map(|call| call.to_body()))?;
    let job = client.job(id).wait(None)?;
    assert_eq!(job.succeeded as usize, sizes.len());
    let outcomes = client.job(id).results(0).collect::<Result<Vec<(u32, Outcome)>, _>>()?;
    for ((_, outcome), size) in outcomes.into_iter().zip(sizes) {
        let Outcome::Ok(body) = outcome else { bail!("{size}: {outcome:?}") };
        assert_eq!(Value::from_body(&body)?, Value::Bytes(vec![7; size]));
    }
    Ok(())
}

#[test]
fn an_interrupted_submission_cancels_its_job() -> Result<()> {
    let bench = Bench::start(1)?;
    let mut command = Command::new(binary("giostra")?);
    command.args(["--broker", bench.system.frontend(), "submit", "is_prime", "--lines"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("a pipe")?;
    std::io::Write::write_all(&mut input, numbers(10_000).as_bytes())?;
    bench.system.wait_for_line(&[" saved j1 "])?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGINT)?;
    // It waits for more input, as from a terminal.
    assert_eq!(child.wait()?.code(), Some(130));
    drop(input);
    bench.system.wait_for_line(&[" cancelled-job j1"])?;
    Ok(())
}
