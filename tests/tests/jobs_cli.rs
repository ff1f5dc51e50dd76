//! What the commands about jobs do for their user: retries, failed requests as lines, detaching,
//! expiry, waiting over a restart; and the same jobs from a shared client.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use giostra_client::{Error, JobOptions, JobState, Options, Outcome, Priority, SharedClient, body, result};
use giostra_tests::process::{Process, binary, wait_for};
use giostra_tests::{Setup, System};
use nix::sys::signal::Signal;
use serde_json::Value as Json;
use tempfile::TempDir;

/// A system whose broker keeps jobs in a folder of the test's own.
struct Bench {
    system: System,
    folder: TempDir,
    commands: usize,
}

/// What a command has printed, and its exit status.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn start(workers: usize, worker: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let store = folder.path().join("store").display().to_string();
        let system = Setup::workers(workers).worker(worker).broker(&["--store", &store]).start()?;
        Ok(Self { system, folder, commands: 0 })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Starts a command with this stdin.
    fn begin(&mut self, args: &[&str], stdin: impl Into<Stdio>) -> Result<Process> {
        let mut command = Command::new(binary("giostra")?);
        command.args(["--broker", self.system.frontend()]).args(args);
        self.commands += 1;
        Process::spawn_with(self.folder.path(), &format!("command-{}", self.commands), command, stdin)
    }

    /// Starts a command whose stdin is a file of these lines.
    fn begin_with(&mut self, args: &[&str], lines: &str) -> Result<Process> {
        let input = self.path("input");
        fs::write(&input, lines)?;
        self.begin(args, File::open(input)?)
    }

    fn run(&mut self, args: &[&str], lines: &str) -> Result<Ended> {
        ended(self.begin_with(args, lines)?)
    }

    /// Returns what a command prints that succeeds.
    fn print(&mut self, args: &[&str], lines: &str) -> Result<String> {
        let ended = self.run(args, lines)?;
        ensure!(ended.code == Some(0), "{args:?}: {ended:?}");
        Ok(ended.stdout.trim_end().into())
    }

    fn job(&mut self, id: &str) -> Result<Json> {
        Ok(serde_json::from_str(&self.print(&["job", id, "--json"], "")?)?)
    }

    /// Returns what `map` has printed and `collect` adds, once the job that it names has ended.
    fn completed(&mut self, detached: &Ended, flags: &[&str]) -> Result<String> {
        ensure!(detached.code == Some(0), "{detached:?}");
        let words = detached.stderr.split_once("handed over as job ").map(|(_, after)| after);
        let id = words.and_then(|words| words.split(':').next()).with_context(|| format!("no job in {detached:?}"))?;
        self.run(&["wait", id], "")?;
        let collected = self.run(&[&["collect", id], flags].concat(), "")?;
        Ok(format!("{}{}", detached.stdout, collected.stdout))
    }
}

fn ended(mut process: Process) -> Result<Ended> {
    let code = process.wait()?.code();
    Ok(Ended { code, stdout: process.stdout(), stderr: process.stderr() })
}

/// Lines of `sleep`, whose results differ and show the order.
fn naps(count: u32) -> String {
    (0..count).map(|n| format!("0.{:06}\n", 10_000 + n)).collect()
}

#[test]
fn what_failed_in_a_job_is_computed_again_and_nothing_else() -> Result<()> {
    let mut bench = Bench::start(1, &["--exec", "test -e"])?;
    let (here, later) = (bench.path("store"), bench.path("later"));
    let id = bench.print(&["submit", "test", "--lines"], &format!("{here}\n{later}\n{later}\n"))?;
    assert_eq!(bench.run(&["wait", &id], "")?.code, Some(1));
    fs::write(&later, "")?;
    assert_eq!(bench.print(&["retry", &id], "")?, format!("retrying 2 requests of job {id}"));
    bench.print(&["wait", &id], "")?;
    let job = bench.job(&id)?;
    assert_eq!((&job["succeeded"], &job["failed"]), (&3.into(), &0.into()), "{job}");
    let nothing = bench.run(&["retry", &id], "")?;
    ensure!(nothing.code == Some(1) && nothing.stderr.contains("has no request that failed"), "{nothing:?}");
    bench.system.audit()?;
    Ok(())
}

#[test]
fn a_request_that_fails_is_retried_as_often_as_the_job_says() -> Result<()> {
    let mut bench = Bench::start(1, &["--exec", "test -e"])?;
    let later = bench.path("later");
    let id = bench.print(&["submit", "test", &later, "--retries", "5"], "")?;
    wait_for("it has failed once", || {
        let status = bench.system.status().ok()?;
        (status["jobs"]["live"][0]["retrying"] == 1).then_some(())
    })?;
    fs::write(&later, "")?;
    bench.print(&["wait", &id], "")?;
    Ok(())
}

#[test]
fn requests_that_failed_are_lines_from_which_the_same_requests_are_made() -> Result<()> {
    let mut bench = Bench::start(1, &[])?;
    let again = bench.path("again");
    let id = bench.print(&["submit", "div", "--lines"], "6 2\n1 0\n9 3\n-5 0\n")?;
    bench.run(&["wait", &id], "")?;
    let collected = bench.run(&["collect", &id, "--failed", &again], "")?;
    assert_eq!((collected.code, &*collected.stdout), (Some(1), "3\n\n3\n\n"), "{collected:?}");
    assert_eq!(fs::read_to_string(&again)?, "1 0\n-5 0\n");
    let second = bench.print(&["submit", "div", "--lines"], "1 0\n-5 0\n")?;
    bench.run(&["wait", &second], "")?;
    bench.run(&["collect", &second, "--json", "--failed", &again], "")?;
    assert_eq!(fs::read_to_string(&again)?, "[1,0]\n[-5,0]\n");
    // Texts with spaces, as with --line, are no words: nothing is deleted, and JSON has them.
    let id = bench.print(&["submit", "div", "--lines", "--line"], "1 0\n")?;
    bench.run(&["wait", &id], "")?;
    let refused = bench.run(&["collect", &id, "--failed", &again, "--delete"], "")?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("--json writes them"), "{refused:?}");
    bench.run(&["collect", &id, "--failed", &again, "--delete", "--json"], "")?;
    assert_eq!(fs::read_to_string(&again)?, "[\"1 0\"]\n");
    Ok(())
}

#[test]
fn ctrl_c_hands_the_rest_of_a_map_over_and_collect_completes_its_output() -> Result<()> {
    let mut bench = Bench::start(2, &[])?;
    let lines = naps(600);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let map = bench.begin_with(&["map", "sleep", "--detach", "--window", "32"], &lines)?;
        wait_for("some results", || (map.stdout().lines().count() > 20).then_some(()))?;
        map.signal(signal)?;
        let detached = ended(map)?;
        ensure!(detached.stdout.lines().count() < 600, "it was over before the signal");
        let expected: String = lines.lines().map(|line| format!("{}\n", line.trim_end_matches('0'))).collect();
        assert_eq!(bench.completed(&detached, &[])?, expected);
    }
    bench.system.audit()?;
    Ok(())
}

#[test]
fn of_an_unordered_map_only_unanswered_lines_are_handed_over() -> Result<()> {
    let mut bench = Bench::start(2, &[])?;
    let lines = naps(400);
    let args = ["map", "sleep", "--detach", "--unordered", "--json", "--window", "32"];
    let map = bench.begin_with(&args, &format!("1.5\n{lines}"))?;
    wait_for("some results", || (map.stdout().lines().count() > 20).then_some(()))?;
    map.signal(Signal::SIGINT)?;
    let detached = ended(map)?;
    let object = detached.stderr.lines().find(|line| line.starts_with('{')).context("no object")?;
    let object: Json = serde_json::from_str(object)?;
    assert_eq!(object["lines"], 401 - detached.stdout.lines().count(), "{detached:?}");
    let all = bench.completed(&detached, &["--json"])?;
    let mut results = all.lines().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    results.sort_by(f64::total_cmp);
    let mut expected = lines.lines().chain(["1.5"]).map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    expected.sort_by(f64::total_cmp);
    assert_eq!(results, expected);
    Ok(())
}

#[test]
fn a_line_that_failed_or_makes_no_request_keeps_its_place_when_it_is_handed_over() -> Result<()> {
    let mut bench = Bench::start(1, &[])?;
    // Behind the slow first line, all others wait to be printed or to be sent.
    let lines = "[\"sleep\"]\nnonsense\n[0.25]\n[]\n[0.5]\n";
    let map = bench.begin_with(&["map", "sleep", "--detach", "--json"], &format!("[600]\n{lines}"))?;
    wait_for("the failure of a line", || map.stderr().contains("line 3: ").then_some(()))?;
    map.signal(Signal::SIGINT)?;
    let detached = ended(map)?;
    let words = detached.stderr.split_once("handed over as job ").context("no job")?.1;
    let id = words.split(':').next().context("no id")?;
    bench.run(&["cancel", id], "")?;
    let job = bench.job(id)?;
    assert_eq!((&detached.stdout, &job["requests"]), (&String::new(), &6.into()), "{detached:?}");
    Ok(())
}

#[test]
fn a_second_signal_ends_a_pipe_that_never_ends_and_another_gives_up() -> Result<()> {
    for gives_up in [false, true] {
        let mut bench = Bench::start(1, &[])?;
        let mut map = bench.begin(&["map", "sleep", "--detach"], Stdio::piped())?;
        let mut pipe = map.stdin().context("a pipe")?;
        pipe.write_all(b"0.25\n600\n0.5\n")?;
        wait_for("the first result", || (map.stdout() == "0.25\n").then_some(()))?;
        map.signal(Signal::SIGINT)?;
        wait_for("what it does", || map.stderr().contains("to the end of the input").then_some(()))?;
        if gives_up {
            bench.system.broker().signal(Signal::SIGSTOP)?;
            map.signal(Signal::SIGINT)?;
            map.signal(Signal::SIGTERM)?;
            let given_up = ended(map)?;
            bench.system.broker().signal(Signal::SIGCONT)?;
            ensure!(given_up.code == Some(130) && !given_up.stderr.contains("handed over as"), "{given_up:?}");
        } else {
            pipe.write_all(b"0.75\n")?;
            map.signal(Signal::SIGINT)?;
            let detached = ended(map)?;
            // What comes after the rest of the input may be a job of its own.
            let (_, words) =
                detached.stderr.split_once(" handed over as job").with_context(|| format!("{detached:?}"))?;
            let ids = words.trim_start_matches('s').split(':').next().context("no id")?.split_whitespace();
            let mut requests = 0;
            for id in ids {
                let job = bench.job(id)?;
                requests += job["requests"].as_u64().context("no requests")?;
                ensure!(job["state"] == "running", "{job}");
                bench.print(&["cancel", id], "")?;
            }
            // Whether the last line was read before the signal is open.
            ensure!(detached.code == Some(0) && [2, 3].contains(&requests), "{requests}: {detached:?}");
        }
        drop(pipe);
    }
    Ok(())
}

#[test]
fn without_a_store_detaching_is_refused_before_anything_is_computed() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let refused = system.run(&["map", "add", "--detach"])?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("--detach: ") && refused.stderr.contains("--store"));
    for other in ["--journal=done", "--number"] {
        assert_eq!(system.run(&["map", "add", "--detach", other])?.code, Some(2), "{other}");
    }
    Ok(())
}

#[test]
fn a_repeated_submission_of_other_requests_says_that_nothing_was_added() -> Result<()> {
    let mut bench = Bench::start(1, &[])?;
    let args = ["submit", "add", "--lines", "--key", "night"];
    let id = bench.print(&args, "1 2\n3 4\n")?;
    for (args, lines, count) in
        [(&args[..], "1 2\n3 4\n5 6\n", 3), (&["submit", "add", "1", "2", "--key", "night"], "", 1)]
    {
        let again = bench.run(args, lines)?;
        assert_eq!((again.code, again.stdout.trim()), (Some(0), &*id), "{again:?}");
        let said = format!("job {id} under this key has 2 requests, not {count}: nothing was added");
        ensure!(again.stderr.contains(&said), "{again:?}");
    }
    let same = bench.run(&args, "1 2\n3 4\n")?;
    assert_eq!((same.stdout.trim(), &*same.stderr), (&*id, ""));
    Ok(())
}

#[test]
fn a_job_that_is_not_there_is_reported_and_the_others_are_waited_for_and_cancelled() -> Result<()> {
    let mut bench = Bench::start(1, &[])?;
    let ids = [bench.print(&["submit", "sleep", "0.5"], "")?, bench.print(&["submit", "sleep", "600"], "")?];
    let bad = ["00000001-1".to_string(), ids[0].replace("-1", "-99")];
    let waited = bench.run(&["wait", &bad[0], &ids[0], &bad[1]], "")?;
    ensure!(waited.code == Some(1) && waited.stdout.contains("finished  1/1"), "{waited:?}");
    ensure!(bad.iter().all(|id| waited.stderr.contains(&format!("there is no job {id}"))), "{waited:?}");
    let cancelled = bench.run(&["cancel", &bad[0], &ids[1], "--json"], "")?;
    let object: Json = serde_json::from_str(&cancelled.stdout)?;
    ensure!(cancelled.code == Some(1) && object["jobs"][0]["state"] == "cancelled", "{cancelled:?}");
    assert_eq!((&object["refused"][0]["job"], &object["refused"][1]), (&bad[0].as_str().into(), &Json::Null));
    Ok(())
}

#[test]
fn of_input_that_cannot_be_read_it_is_said_once_where_it_ended() -> Result<()> {
    let mut bench = Bench::start(1, &[])?;
    let folder = File::open(bench.folder.path())?;
    let failed = ended(bench.begin(&["submit", "add", "--lines"], folder)?)?;
    ensure!(failed.code == Some(1) && failed.stderr.contains("can't read stdin after line 0: "), "{failed:?}");
    assert_eq!(failed.stderr.matches("line ").count(), 1, "{failed:?}");
    Ok(())
}

#[test]
fn a_job_is_gone_when_it_was_kept_for_long_enough() -> Result<()> {
    let mut bench = Bench::start(1, &[])?;
    let brief = bench.print(&["submit", "add", "1", "2", "--keep", "500ms"], "")?;
    let long = bench.print(&["submit", "add", "1", "2", "--keep", "forever"], "")?;
    bench.print(&["wait", &long], "")?;
    let is_gone = |ended: Ended| ended.stderr.contains("there is no job").then_some(());
    wait_for("it is gone", || bench.run(&["job", &brief], "").ok().and_then(is_gone))?;
    assert_eq!(bench.job(&long)?["keep_ms"], 0);
    bench.system.audit()?;
    Ok(())
}

#[test]
fn waiting_goes_on_when_the_broker_is_restarted_with_and_without_a_bar() -> Result<()> {
    let mut bench = Bench::start(1, &[])?;
    let first = bench.print(&["submit", "sleep", "1.5"], "")?;
    let second = bench.print(&["submit", "sleep", "--lines"], &naps(10))?;
    let waiting = bench.begin_with(&["wait", &first, &second], "")?;
    let mut terminal = bench.system.begin_on_terminal(100, 24, &["wait", &first, &second])?;
    terminal.wait_to_see(" of 11")?;
    bench.system.kill_broker()?;
    bench.system.start_broker()?;
    let waited = ended(waiting)?;
    ensure!(waited.code == Some(0) && waited.stdout.matches("finished").count() == 2, "{waited:?}");
    ensure!(terminal.wait()?.success(), "{}", terminal.screen());
    Ok(())
}

#[test]
fn the_list_of_jobs_tells_what_each_is_and_how_fast_it_goes() -> Result<()> {
    let mut bench = Bench::start(1, &[])?;
    let flags = ["--lines", "--name", "night", "--priority", "high", "--timeout", "10s", "--retries", "2"];
    let id = bench.print(&[&["submit", "sleep"], &flags[..]].concat(), &naps(2000))?;
    let job = wait_for("its rate", || bench.job(&id).ok().filter(|job| job["rate"].as_u64() > Some(0)))?;
    assert_eq!((&job["priority"], &job["timeout_ms"]), (&"high".into(), &10_000.into()), "{job}");
    ensure!(job["retries"] == 2 && job["keep_ms"] == 604_800_000_u64 && job["left_ms"].as_u64() > Some(0), "{job}");
    let table = bench.print(&["jobs"], "")?;
    ensure!(table.contains("RATE") && table.contains("LEFT") && table.contains("night"), "{table}");
    let status = bench.print(&["status"], "")?;
    ensure!(status.contains("1 job open or running") && status.contains("night"), "{status}");
    let mut watching = bench.begin_with(&["jobs", "--watch", "100ms", "--json"], "")?;
    wait_for("several looks", || (watching.stdout().lines().count() >= 3).then_some(()))?;
    watching.signal(Signal::SIGINT)?;
    assert_eq!(watching.wait()?.code(), Some(0));
    bench.print(&["cancel", &id], "")?;
    Ok(())
}

#[tokio::test]
async fn a_shared_client_submits_awaits_and_collects_jobs_at_once() -> Result<()> {
    let bench = Bench::start(2, &[])?;
    let client = SharedClient::connect(Options::new(bench.system.frontend()))?;
    let requests =
        |from: u32, count| (from..from + count).map(|n| body("add", &[n, 1]).expect("numbers can be encoded"));
    let submitted =
        (0..40).map(|job| client.submit_job(JobOptions::default().name(format!("job-{job}")), requests(job, 3000)));
    let submitted: Vec<_> = submitted.collect();
    let mut ids = Vec::new();
    for id in submitted {
        ids.push(id.await?);
    }
    // More questions at once than the broker listens to.
    let waited: Vec<_> = ids.iter().map(|&id| client.job(id).wait_for_end()).collect();
    let looks: Vec<_> = (0..300).map(|n| client.job(ids[n % ids.len()]).status()).collect();
    for look in looks {
        look.await?;
    }
    for (job, ended) in (0..).zip(waited) {
        let ended = ended.await?;
        assert_eq!((ended.state, ended.succeeded), (JobState::Finished, 3000));
        let results = client.job(ended.id).results(2990).await?;
        let sums = results.into_iter().map(|each| Ok((each.number, result::<u32>(each.outcome)?)));
        let expected: Vec<_> = (2990..3000).map(|n| (n, job + n + 1)).collect();
        assert_eq!(sums.collect::<Result<Vec<_>>>()?, expected);
    }
    assert_eq!(client.jobs().await?.len(), 40);
    client.job(ids[0]).delete().await?;
    ensure!(matches!(client.job(ids[0]).status().await, Err(Error::Refused(_))));
    Ok(())
}

#[test]
fn a_shared_client_asks_again_after_a_restart_and_tells_what_failed() -> Result<()> {
    let mut bench = Bench::start(1, &[])?;
    let client = SharedClient::connect(Options::new(bench.system.frontend()))?;
    let requests = [body("sleep", &[0.5])?, body("div", &[1, 0])?];
    let id = client.submit_job(JobOptions::default().priority(Priority::High), requests.clone()).wait()?;
    let job = client.job(id);
    let waiting = job.wait_for_end();
    bench.system.kill_broker()?;
    bench.system.start_broker()?;
    let ended = waiting.wait()?;
    assert_eq!((ended.state, ended.succeeded, ended.failed), (JobState::Finished, 1, 1));
    let results = job.results_with_failed(0).wait()?;
    ensure!(matches!(&results[0].outcome, Outcome::Ok(_)) && results[0].request.is_none(), "{results:?}");
    assert_eq!(results[1].request.as_ref(), Some(&requests[1]));
    assert_eq!(job.retry().wait()?.state, JobState::Running);
    assert_eq!(job.wait_for_end().wait()?.failed, 1);
    Ok(())
}
