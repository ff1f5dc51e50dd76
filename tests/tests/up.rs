//! `giostra up` and `giostra down`, with real processes: what is up is of use, what is down is gone.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use giostra_tests::Up;
use giostra_tests::process::{binary, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ANY: &str = "tcp://127.0.0.1:*";

/// Whether a process runs; one that nobody has waited for yet does not.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

fn are_gone(processes: &[i32]) -> Result<()> {
    wait_for("all processes are gone", || processes.iter().all(|&pid| !runs(pid)).then_some(()))
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(pid), signal)?)
}

#[test]
fn what_is_up_works_and_what_is_down_is_gone_but_for_the_log() -> Result<()> {
    let place = Up::new()?;
    let said = place.up(&[])?;
    assert!(
        said.starts_with("ready: 3 workers at tcp://127.0.0.1:") && said.contains("giostra down ends it"),
        "{said}"
    );
    assert!(said.contains("the live page is http://127.0.0.1:"), "{said}");
    let done = place.random("3000")?;
    assert_eq!((&done["answered"], done["workers"].as_object().context("workers")?.len()), (&3000.into(), 3), "{done}");
    let processes = place.processes()?;
    assert_eq!(processes.len(), 5);
    assert_eq!(place.does(&["down"])?, "down\n");
    are_gone(&processes)?;
    assert_eq!(place.does(&["down"])?, "nothing was up\n");
    let log = place.dir().join("log").display().to_string();
    assert!(place.does(&["audit", &log])?.ends_with("proved\n"));
    Ok(())
}

#[test]
fn a_worker_that_is_killed_stays_away_until_it_is_started_again() -> Result<()> {
    let place = Up::new()?;
    place.up(&[])?;
    let pid: i32 = place.does(&["up", "--pid", "worker-2"])?.trim().parse()?;
    signal(pid, Signal::SIGKILL)?;
    wait_for("its end is seen", || place.fails(&["up", "--pid", "worker-2"]).ok())?;
    assert_eq!(place.random("300")?["workers"].as_object().context("workers")?.len(), 2);
    assert!(place.does(&["up", "--status"])?.contains("worker-2   ended by SIGKILL"));
    assert_eq!(place.does(&["up", "--again"])?, "worker-2 registered\n");
    assert_eq!(place.random("300")?["workers"].as_object().context("workers")?.len(), 3);
    assert_eq!(place.does(&["up", "--again"])?, "all run\n");
    let unknown = place.fails(&["up", "--pid", "worker-9"])?;
    assert!(unknown.contains("no worker-9, but broker, worker-1, worker-2, worker-3"), "{unknown}");
    Ok(())
}

#[test]
fn the_variables_of_a_broker_are_those_of_up() -> Result<()> {
    let place = Up::new()?;
    let mut up = place.command(&["up", "--detach"])?;
    let output = up.env("GIOSTRA_FRONTEND", ANY).env("GIOSTRA_BACKEND", ANY).env("GIOSTRA_HTTP", "off").output()?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(place.random("300")?["answered"], 300);
    // One that only a broker can have is none to connect to.
    let refused = place.command(&["status"])?.env("GIOSTRA_FRONTEND", ANY).output()?;
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8(refused.stderr)?.contains("'*' is no port to connect to"));
    place.does(&["down"]).map(drop)
}

#[test]
fn a_broker_whose_log_is_json_is_understood() -> Result<()> {
    let place = Up::new()?;
    let up = ["up", "--detach", "--frontend", ANY, "--backend", ANY, "--http", "127.0.0.1:0"];
    let output = place.command(&up)?.env("GIOSTRA_LOG_FORMAT", "json").output()?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(place.random("300")?["answered"], 300);
    assert!(fs::read_to_string(place.dir().join("log/broker.log"))?.starts_with("{\"time\":"));
    Ok(())
}

#[test]
fn a_second_up_is_refused_and_another_folder_is_another_system() -> Result<()> {
    let (place, other) = (Up::new()?, Up::new()?);
    place.up(&["--workers", "1"])?;
    let refused = place.fails(&["up", "--detach"])?;
    assert!(refused.contains("already up (process ") && refused.contains("giostra down ends it"), "{refused}");
    other.up(&["--workers", "2"])?;
    assert_eq!(place.random("100")?["workers"].as_object().context("workers")?.len(), 1);
    assert_eq!(other.random("100")?["workers"].as_object().context("workers")?.len(), 2);
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_is_left() -> Result<()> {
    let (place, other) = (Up::new()?, Up::new()?);
    place.up(&["--workers", "1"])?;
    let taken = place.frontend()?;
    let refused = other.fails(&["up", "--detach", "--frontend", &taken, "--backend", ANY, "--http", "off"])?;
    assert!(refused.contains(&taken) && refused.contains("--frontend takes another endpoint"), "{refused}");
    assert!(other.fails(&["up", "--status"])?.contains("nothing is up in "));
    assert_eq!(place.random("100")?["answered"], 100);
    Ok(())
}

#[test]
fn workers_that_can_not_start_are_heard_and_nothing_is_left() -> Result<()> {
    let place = Up::new()?;
    let words = ["up", "--frontend", ANY, "--backend", ANY, "--http", "off", "--", "--no-such-option"];
    let output = place.run(&words)?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout)?;
    assert!(
        said.contains("worker-1 | error: unexpected argument '--no-such-option'") && said.ends_with("down\n"),
        "{said}"
    );
    assert!(String::from_utf8(output.stderr)?.contains("worker-1 has ended before it was ready"));
    assert!(place.fails(&["up", "--status"])?.contains("nothing is up"));
    Ok(())
}

#[test]
fn when_up_is_killed_so_is_what_it_has_started() -> Result<()> {
    let place = Up::new()?;
    let up = place.start()?;
    let processes = place.processes()?;
    up.kill()?;
    are_gone(&processes)?;
    let said = place.up(&[])?;
    assert!(said.starts_with("ready"), "{said}");
    Ok(())
}

#[test]
fn what_a_killed_up_leaves_frozen_or_computing_is_ended_by_down_and_by_the_next_up() -> Result<()> {
    let place = Up::new()?;
    for ending in ["down", "up"] {
        let up = place.start()?;
        let processes = place.processes()?;
        let _sent = place.send_sleep("600")?;
        // A frozen one stays; the other for as long as its broker waits for the result, some seconds.
        signal(processes[3], Signal::SIGSTOP)?;
        up.kill()?;
        if ending == "down" {
            let said = place.does(&["down"])?;
            assert!(said.starts_with("down; ended what was left: ") && said.contains("worker-1"), "{said}");
        } else {
            place.up(&[])?;
            let said = fs::read_to_string(place.dir().join("up.log"))?;
            assert!(said.starts_with("ended what an earlier giostra up has left: worker-1"), "{said}");
        }
        are_gone(&processes)?;
    }
    Ok(())
}

#[test]
fn an_end_by_ctrl_c_lets_requests_be_finished() -> Result<()> {
    let place = Up::new()?;
    let mut up = place.start()?;
    let processes = place.processes()?;
    let mut sent = place.send_sleep("0.7")?;
    up.signal(Signal::SIGINT)?;
    assert_eq!(up.wait()?.code(), Some(0));
    assert_eq!(sent.wait()?.code(), Some(0), "{}", sent.stderr());
    are_gone(&processes)
}

#[test]
fn a_broker_that_ends_ends_all_with_status_1() -> Result<()> {
    let place = Up::new()?;
    let mut up = place.start()?;
    let processes = place.processes()?;
    let broker: i32 = place.does(&["up", "--pid", "broker"])?.trim().parse()?;
    signal(broker, Signal::SIGKILL)?;
    assert_eq!(up.wait()?.code(), Some(1));
    assert!(up.stderr().contains("the broker has ended; its log is in "), "{}", up.stderr());
    are_gone(&processes)
}

#[test]
fn with_keys_only_who_has_the_variables_is_served() -> Result<()> {
    let place = Up::new()?;
    let said = place.up(&["--secure"])?;
    let variables = place.dir().join("env").display().to_string();
    assert!(said.contains(&format!("source {variables}")), "{said}");
    let frontend = place.frontend()?;
    let stranger = place.run(&["status", "--broker", &frontend, "--broker-timeout", "2s"])?;
    assert_eq!(stranger.status.code(), Some(1), "{stranger:?}");
    let giostra = binary("giostra")?.display().to_string();
    let script = format!("source {variables} && {giostra} random 1000 && {giostra} status");
    let known = Command::new("bash").args(["-c", &script]).output()?;
    assert!(known.status.success(), "{known:?}");
    // Fresh ones each time.
    place.does(&["down"])?;
    assert!(!place.dir().join("keys").exists());
    place.up(&["--secure", "--workers", "1"])?;
    Ok(())
}

#[test]
fn workers_run_programs_and_take_the_options_of_giostra_worker() -> Result<()> {
    let place = Up::new()?;
    place.up(&["--workers", "2", "--pool", "text", "--exec", "tr a-z A-Z", "--", "--stdin"])?;
    let frontend = place.frontend()?;
    let mut command = place.command(&["map", "tr", "--pool", "text", "--text", "--quiet", "--broker", &frontend])?;
    let script = "printf 'uno\\ndue\\n'";
    let lines = Command::new("bash").args(["-c", script]).stdout(std::process::Stdio::piped()).spawn()?;
    let output = command.stdin(lines.stdout.context("no stdout")?).output()?;
    assert_eq!(String::from_utf8(output.stdout)?, "UNO\nDUE\n");
    Ok(())
}

#[test]
fn of_several_brokers_one_may_be_killed_and_started_again() -> Result<()> {
    let place = Up::new()?;
    let said = place.up(&["--brokers", "2", "--secure"])?;
    let both = place.status()?["brokers"].as_array().context("brokers")?.len();
    assert_eq!(both, 2, "{said}");
    let all_answered = |place: &Up| -> Result<String> {
        let output = place.client(&["random", "3000", "--json"])?.output()?;
        anyhow::ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    all_answered(&place)?;
    let status = place.client(&["status"])?.output()?;
    let (frontends, shown) = (place.frontend()?, String::from_utf8(status.stdout)?);
    assert!(frontends.split(',').all(|one| shown.contains(&format!("{one}\n"))), "{shown}");
    // Each page has a link to the other.
    let links = |place: &Up, from: usize| -> Result<bool> {
        let pages = place.status()?["brokers"].as_array().context("brokers")?.clone();
        let pages: Vec<_> = pages.iter().filter_map(|broker| broker["page"].as_str()).collect();
        let html = ureq::get(pages[from]).call()?.body_mut().read_to_string()?;
        Ok(html.contains(&format!("<a href=\"{}/\">", pages[1 - from].trim_end_matches('/'))))
    };
    assert!(links(&place, 1)?);
    // Also in a shell that has the variables.
    assert!(place.client(&["up", "--status", "--dir", &place.dir().display().to_string()])?.output()?.status.success());
    kill(place.pid("broker-1")?, Signal::SIGKILL)?;
    wait_for("its end is seen", || place.fails(&["up", "--pid", "broker-1"]).ok())?;
    all_answered(&place)?;
    let one_is_gone = place.client(&["status"])?.output()?;
    assert_eq!(one_is_gone.status.code(), Some(1), "{one_is_gone:?}");
    assert!(String::from_utf8(one_is_gone.stdout)?.contains("no broker at tcp://127.0.0.1:"));
    assert_eq!(place.does(&["up", "--again"])?, "broker-1 registered\n");
    assert!(links(&place, 0)?);
    assert!(place.client(&["status"])?.output()?.status.success());
    let processes = place.processes()?;
    place.does(&["down"])?;
    are_gone(&processes)?;
    for name in ["broker-1", "broker-2"] {
        let log = place.dir().join("log").join(name).display().to_string();
        assert!(place.does(&["audit", &log])?.ends_with("proved\n"));
    }
    Ok(())
}
