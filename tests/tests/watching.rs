//! Those who watch: `giostra status --watch`, and `giostra top` on a terminal.

use anyhow::{Context, Result};
use giostra_tests::process::{Process, wait_for};
use giostra_tests::{Batch, Crowd, Port, Setup, System};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// The names of the workers in the newest status, if there is one.
fn newest_workers(watching: &mut Batch) -> Option<Vec<String>> {
    let said = watching.process().stdout();
    // The last line may not be complete yet.
    let (lines, _) = said.rsplit_once('\n')?;
    let status: Value = serde_json::from_str(lines.lines().last()?).ok()?;
    let name = |worker: &Value| worker["name"].as_str().map(String::from);
    status["workers"].as_array()?.iter().map(name).collect()
}

fn wait_for_workers(watching: &mut Batch, expected: &[&str]) -> Result<()> {
    wait_for(&format!("{expected:?} are there"), || (newest_workers(watching)? == expected).then_some(()))
}

#[test]
fn a_watcher_sees_a_killed_worker_go_and_come_back() -> Result<()> {
    let mut system = Setup::workers(3).start()?;
    let mut watching = system.begin(&["status", "--watch", "20ms", "--json"])?;
    wait_for_workers(&mut watching, &["worker-1", "worker-2", "worker-3"])?;
    system.kill_worker(2)?;
    wait_for_workers(&mut watching, &["worker-1", "worker-3"])?;
    system.start_worker(2)?;
    // With a seat at the tail.
    wait_for_workers(&mut watching, &["worker-1", "worker-3", "worker-2"])?;
    watching.process().signal(Signal::SIGINT)?;
    let finished = watching.finish()?;
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
    let each_is_an_object = |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|status| status.is_object());
    assert!(finished.stdout.lines().all(each_is_an_object), "{finished:?}");
    Ok(())
}

#[test]
fn watching_goes_on_with_the_next_broker() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let mut watching = system.begin(&["status", "--watch", "20ms", "--json"])?;
    wait_for_workers(&mut watching, &["worker-1"])?;
    system.kill_broker()?;
    let gone = format!("no broker at {}, trying again", system.frontend());
    wait_for("it says that there is no broker", || watching.process().stderr().contains(&gone).then_some(()))?;
    let before = watching.process().stdout().lines().count();
    system.start_broker()?;
    wait_for("the next broker answers", || (watching.process().stdout().lines().count() > before).then_some(()))?;
    wait_for_workers(&mut watching, &["worker-1"])?;
    watching.process().signal(Signal::SIGINT)?;
    let finished = watching.finish()?;
    assert_eq!((finished.code, finished.stderr.lines().count()), (Some(0), 1), "{finished:?}");
    Ok(())
}

#[test]
fn without_a_terminal_all_columns_are_shown_again_and_again() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let mut watching = system.begin(&["status", "--watch", "20ms"])?;
    wait_for("it is shown for the third time", || {
        (watching.process().stdout().matches("\n\nbroker ").count() >= 2).then_some(())
    })?;
    watching.process().signal(Signal::SIGINT)?;
    let finished = watching.finish()?;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.starts_with("broker ") && !finished.stdout.contains('\u{1b}'), "{finished:?}");
    for expected in ["ADDRESS", "SHARE", "pool compute offers add, div, "] {
        assert!(finished.stdout.contains(expected), "no {expected:?} in {finished:?}");
    }
    Ok(())
}

#[test]
fn without_a_broker_watching_fails_as_status_does() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nobody = Port::reserve()?;
    let broker = nobody.endpoint();
    let args = ["status", "--watch", "--broker", &broker, "--broker-timeout", "300ms"];
    let mut watching = Process::start(folder.path(), "watching", "giostra", &args)?;
    assert_eq!(watching.wait()?.code(), Some(1));
    assert!(watching.stderr().contains("is one running?"), "{}", watching.stderr());
    Ok(())
}

#[test]
fn on_a_terminal_the_status_changes_in_its_place_and_fits() -> Result<()> {
    let mut system = Setup::workers(2).start()?;
    let mut terminal = system.begin_on_terminal(60, 24, &["status", "--watch", "20ms"])?;
    terminal.wait_to_see("worker-2")?;
    system.kill_worker(2)?;
    terminal.wait_until("worker-2 is gone, and named as lost", |screen| {
        !screen.lines().any(|line| line.starts_with("worker-2")) && screen.contains(": worker-2 w")
    })?;
    let screen = terminal.screen();
    assert_eq!((screen.matches("WORKER").count(), screen.contains("ADDRESS")), (1, false), "{screen}");
    assert!(screen.contains("IN FLIGHT") && screen.lines().all(|line| line.chars().count() <= 60), "{screen}");
    system.kill_broker()?;
    terminal.wait_to_see("no broker at ")?;
    system.start_broker()?;
    terminal.wait_until("the next broker is there", |screen| !screen.contains("no broker at "))?;
    terminal.press("\x03")?;
    assert_eq!(terminal.wait()?.code(), Some(0));
    terminal.wait_until_restored()
}

#[test]
fn top_shows_workers_losses_and_drains_a_worker() -> Result<()> {
    let mut system = Setup::workers(3).start()?;
    let mut terminal = system.begin_on_terminal(80, 24, &["top", "--interval", "20ms"])?;
    terminal.wait_to_see("▸worker-1  worker-2  worker-3")?;
    assert!(terminal.is_taken());
    system.random(&["100"])?;
    // A hundred requests later it is the second one's turn.
    terminal.wait_to_see(" worker-1 ▸worker-2  worker-3")?;
    system.kill_worker(2)?;
    terminal.wait_to_see("dropped worker-2 w2")?;
    terminal.wait_to_see("workers: 2")?;

    // The selected one is the first; down, up, and down again to the other.
    terminal.press("jkjd")?;
    terminal.wait_to_see("drain worker-3 (w3)? y/n")?;
    terminal.press("n")?;
    terminal.wait_to_see("q quit")?;
    terminal.press("d")?;
    terminal.wait_to_see("drain worker-3 (w3)? y/n")?;
    terminal.press("y")?;
    terminal.wait_to_see("left worker-3 w3")?;
    terminal.wait_to_see("workers: 1")?;
    assert!(system.worker(3).wait()?.success(), "a drained worker ends");

    terminal.press("?")?;
    terminal.wait_to_see("select a worker")?;
    terminal.press("\x1b")?;
    terminal.wait_until("the help is gone", |screen| !screen.contains("select a worker"))?;
    terminal.press("s")?;
    terminal.wait_to_see("by rate")?;
    terminal.press("q")?;
    assert_eq!(terminal.wait()?.code(), Some(0));
    terminal.wait_until_restored()
}

#[test]
fn top_outlives_the_broker_and_fits_into_any_window() -> Result<()> {
    let mut system = Setup::workers(3).start()?;
    let mut terminal = system.begin_on_terminal(80, 24, &["top", "--interval", "20ms"])?;
    terminal.wait_to_see("workers: 3")?;
    system.kill_broker()?;
    terminal.wait_to_see(&format!("no broker at {}, trying again", system.frontend()))?;
    // The keys work all the same.
    terminal.press("d")?;
    terminal.wait_to_see("without a broker nobody can be drained")?;
    terminal.resize(40, 10)?;
    terminal.wait_until("it is drawn anew", |screen| {
        let last = screen.lines().nth(9).unwrap_or_default();
        screen.contains("worker-3") && last.contains("nobody can be drained")
    })?;
    system.start_broker()?;
    terminal.wait_until("the next broker is there", |screen| screen.contains("0 pending   0 in flight"))?;
    terminal.resize(1, 1)?;
    terminal.resize(120, 40)?;
    terminal.wait_to_see("events ")?;
    terminal.wait_to_see("joined worker-3 ")?;
    terminal.signal(Signal::SIGTERM)?;
    assert_eq!(terminal.wait()?.code(), Some(130));
    terminal.wait_until_restored()
}

#[test]
fn top_gives_its_terminal_back_whatever_ends_it() -> Result<()> {
    let system = Setup::workers(1).start()?;
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let mut terminal = system.begin_on_terminal(80, 24, &["top"])?;
        terminal.wait_to_see("worker-1")?;
        terminal.signal(signal)?;
        assert_eq!(terminal.wait()?.code(), Some(130), "{signal}");
        terminal.wait_until_restored().with_context(|| format!("{signal}"))?;
    }
    for key in ["q", "\x1b", "\x03"] {
        let mut terminal = system.begin_on_terminal(80, 24, &["top"])?;
        terminal.wait_to_see("worker-1")?;
        terminal.press(key)?;
        assert_eq!(terminal.wait()?.code(), Some(0), "{key:?}");
        terminal.wait_until_restored().with_context(|| format!("{key:?}"))?;
    }
    Ok(())
}

#[test]
fn top_without_a_terminal_names_the_alternative() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let piped = system.run(&["top"])?;
    assert_eq!(piped.code, Some(1));
    assert!(piped.stderr.contains("giostra status --watch"), "{piped:?}");
    let json = system.run(&["top", "--json"])?;
    assert_eq!(json.code, Some(2));
    assert!(json.stderr.contains("giostra status --watch --json"), "{json:?}");
    Ok(())
}

#[test]
fn top_reports_a_missing_role_before_it_takes_the_screen() -> Result<()> {
    let mut system = Setup::workers(0).secured().start()?;
    std::fs::remove_file(system.certificate("client", giostra_transport::keys::Role::Admin))?;
    system.reload()?;
    let mut terminal = system.begin_on_terminal(80, 24, &["top"])?;
    assert_eq!(terminal.wait()?.code(), Some(1));
    terminal.wait_to_see("it has not the role 'admin'")?;
    assert!(!terminal.is_taken());
    Ok(())
}

#[test]
fn the_status_by_host_sums_up_the_workers_of_each_the_one_that_lost_some_first() -> Result<()> {
    let mut system = Setup::workers(2).worker(&["--host", "lonely", "--threads", "3"]).start()?;
    let _crowd = Crowd::on_hosts(system.backend(), "compute", 60, 25);
    wait_for("all are there", || (system.status().ok()?["workers"].as_array()?.len() == 62).then_some(()))?;
    let by_host = |system: &mut System| -> Result<Vec<Value>> {
        let json: Value = serde_json::from_str(&system.run(&["status", "--by-host", "--json"])?.stdout)?;
        Ok(json["hosts"].as_array().context("hosts")?.clone())
    };
    let sums = |hosts: &[Value]| -> Vec<_> {
        let sum = |host: &Value| json!([host["name"], host["workers"], host["threads"], host["lost"]]);
        hosts.iter().map(sum).collect()
    };
    let nodes = [json!(["node-1", 25, 25, 0]), json!(["node-2", 25, 25, 0]), json!(["node-3", 10, 10, 0])];
    let before = [&[json!(["lonely", 2, 6, 0])], &nodes[..]].concat();
    assert_eq!(sums(&by_host(&mut system)?), before);
    let whole = system.status()?;
    assert_eq!(
        (whole["workers"][0]["host"].as_str(), whole["hosts"].as_array().map(Vec::len)),
        (Some("lonely"), Some(4))
    );

    system.kill_worker(2)?;
    wait_for("it is lost", || (by_host(&mut system).ok()?[0]["lost"] == 1).then_some(()))?;
    let text = system.run(&["status", "--by-host"])?.stdout;
    let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let at = rows.iter().position(|row| row.first() == Some(&"HOST")).context("a table")?;
    let names: Vec<_> = rows[at + 1..at + 6].iter().map(|row| row[0]).collect();
    assert_eq!(names, ["lonely", "node-1", "node-2", "node-3", "4"], "{text}");
    assert!(text.contains("in trouble: 1 host\nlost ") && text.contains(": worker-2 w"), "{text}");
    assert_eq!(system.lines("joined worker-1 ")[0].split(' ').filter(|word| *word == "host=lonely").count(), 1);
    Ok(())
}
