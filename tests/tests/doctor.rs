//! `giostra doctor`: what it says of brokers that are there, absent, frozen, locked, or something else.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use giostra_tests::process::binary;
use giostra_tests::system::Finished;
use giostra_tests::{Port, Process, Setup, System};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Runs the doctor with this environment. Its endpoint for workers is one where nothing listens,
/// unless the environment names another.
fn doctor(args: &[&str], env: &[(&str, &str)]) -> Result<Finished> {
    let folder = tempfile::tempdir()?;
    let nobody = Port::reserve()?;
    // Variables that are set on purpose come through `env`, since a process of the tests has none.
    let mut command = Command::new("env");
    command.arg(format!("GIOSTRA_BACKEND={}", nobody.endpoint()));
    command.args(env.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(binary("giostra")?).args(["doctor", "--json"]).args(args).current_dir(folder.path());
    Finished::of(&mut Process::spawn(folder.path(), "doctor", command)?)
}

/// Runs the doctor for a system, with its client's keys.
fn of_system(system: &System, args: &[&str]) -> Result<Finished> {
    let keys = system.key_args("client");
    let own: Vec<_> = ["--broker", system.frontend()].into_iter().chain(keys.iter().map(String::as_str)).collect();
    doctor(&[&own[..], args].concat(), &[("GIOSTRA_BACKEND", system.backend())])
}

/// Returns a check's verdict, and its text with the advice.
fn check(finished: &Finished, about: &str) -> Result<(String, String)> {
    let object = finished.json()?;
    let checks = object["checks"].as_array().context("no checks")?;
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_string();
    let check = checks.iter().find(|check| check["about"] == about).with_context(|| format!("{about}: {object}"))?;
    Ok((text(check, "verdict"), format!("{}; {}", text(check, "text"), text(check, "advice"))))
}

/// Fails unless a check has this verdict, and says all of this.
fn says(finished: &Finished, about: &str, verdict: &str, parts: &[&str]) -> Result<()> {
    let (found, text) = check(finished, about)?;
    ensure!(found == verdict && parts.iter().all(|part| text.contains(part)), "{about} is {found}: {text}");
    Ok(())
}

#[test]
fn a_system_that_is_well_has_no_failure() -> Result<()> {
    let store = tempfile::tempdir()?;
    let path = store.path().display().to_string();
    let system = Setup::workers(2).broker(&["--store", &path]).start()?;
    let finished = of_system(&system, &["--store", &path])?;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stderr.is_empty(), "{finished:?}");
    says(&finished, "versions", "ok", &["protocol 4", "libzmq 4.3.5 with keys (CURVE) and its draft options"])?;
    says(&finished, "broker", "ok", &[system.frontend(), "for a round trip"])?;
    says(&finished, "keys", "ok", &["the broker uses none"])?;
    says(&finished, "workers", "ok", &["pool 'compute' has 2 workers with a seat"])?;
    says(&finished, "jobs", "ok", &["0 jobs"])?;
    says(&finished, "ports", "ok", &[system.backend(), "giostra-broker (process "])?;
    let (_, text) = check(&finished, "store")?;
    assert!(text.contains(&path) && text.contains(" free, a sync takes "), "{text}");
    // For people it is a line each.
    let keys = ["doctor", "--broker", system.frontend()];
    let folder = tempfile::tempdir()?;
    let shown = Finished::of(&mut Process::start(folder.path(), "doctor", "giostra", &keys)?)?;
    let lines: Vec<_> = shown.stdout.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("ok    workers      pool 'compute' has 2 ")), "{shown:?}");
    assert!(lines.last().is_some_and(|line| line.starts_with("0 failures, ")), "{shown:?}");
    Ok(())
}

#[test]
fn without_a_broker_it_says_how_to_start_one() -> Result<()> {
    let nobody = Port::reserve()?;
    let began = Instant::now();
    let finished = doctor(&["--broker", &nobody.endpoint()], &[])?;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    says(&finished, "broker", "failure", &["nothing listens at ", "start one with: giostra up"])?;
    says(&finished, "ports", "ok", &["is free"])?;
    assert!(finished.stderr.is_empty(), "{finished:?}");
    // It knows at once.
    assert!(began.elapsed() < Duration::from_secs(30));
    Ok(())
}

#[test]
fn a_pool_without_workers_is_a_failure_or_another_pool_is_named() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let finished = of_system(&system, &[])?;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    says(&finished, "broker", "ok", &[])?;
    says(&finished, "workers", "failure", &["pool 'compute' has no worker", "giostra-worker --pool compute"])?;
    system.start_worker(1)?;
    let finished = of_system(&system, &["--pool", "text"])?;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    says(&finished, "workers", "warning", &["pool 'text' has no worker", "(--pool): compute"])
}

#[test]
fn a_broker_with_keys_is_told_from_one_that_does_not_answer() -> Result<()> {
    let system = Setup::workers(1).secured().start()?;
    let finished = of_system(&system, &[])?;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    says(&finished, "keys", "ok", &["yours are safe from others"])?;
    says(&finished, "broker", "ok", &[])?;
    let without = doctor(&["--broker", system.frontend()], &[])?;
    assert_eq!(without.code, Some(1), "{without:?}");
    says(&without, "keys", "failure", &["the broker uses keys, and none are given", "--keys FILE --broker-key FILE"])?;
    says(&without, "broker", "warning", &["one listens at "])?;
    // Keys that the broker does not know, and a broker's key that is another's.
    system.make_keys("stranger")?;
    let keys = system.key_args("stranger");
    let mut args: Vec<_> = ["--broker", system.frontend()].into_iter().chain(keys.iter().map(String::as_str)).collect();
    says(&doctor(&args, &[])?, "broker", "failure", &["this key is not allowed", "giostra keys allow"])?;
    let wrong = system.keys_dir().join("later-worker.key").display().to_string();
    *args.last_mut().context("no arguments")? = &wrong;
    let finished = doctor(&args, &[])?;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    says(&finished, "broker", "failure", &["Is --broker-key the broker's public key?"])
}

#[test]
fn a_key_without_the_role_admin_learns_that_the_broker_is_there() -> Result<()> {
    let mut system = Setup::workers(1).secured().start()?;
    system.make_keys("guest")?;
    system.allow("guest", giostra_transport::keys::Role::Client)?;
    system.reload()?;
    let args = system.key_args("guest");
    let args: Vec<_> = ["--broker", system.frontend()].into_iter().chain(args.iter().map(String::as_str)).collect();
    let finished = doctor(&args, &[])?;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    says(&finished, "broker", "warning", &["answers", "role 'admin'"])
}

#[test]
fn keys_that_others_can_read_are_a_failure_also_without_a_broker() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir()?;
    let keys = giostra_transport::keys::KeyPair::generate()?;
    let [public, secret] = keys.write(folder.path(), "me")?.map(|path| path.display().to_string());
    let nobody = Port::reserve()?;
    let endpoint = nobody.endpoint();
    let args = ["--broker", &endpoint, "--keys", &secret, "--broker-key", &public];
    says(&doctor(&args, &[])?, "keys", "failure", &["--broker-key is your own public key"])?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644))?;
    says(&doctor(&args, &[])?, "keys", "failure", &["mode 0644", "chmod 600"])?;
    says(&doctor(&args[..4], &[])?, "keys", "failure", &["belong together"])?;
    says(
        &doctor(&["--broker", &endpoint, "--keys", "/nonexistent", "--broker-key", &public], &[])?,
        "keys",
        "failure",
        &["/nonexistent"],
    )
}

/// Answers each connection so, after it has read something; never with `None`.
fn serve(listener: TcpListener, answer: Option<&'static [u8]>) {
    let Some(answer) = answer else {
        std::mem::forget(listener);
        return;
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                let mut asked = [0; 4];
                let _ = stream.read_exact(&mut asked).and_then(|()| stream.write_all(answer));
            });
        }
    });
}

#[test]
fn what_is_no_broker_is_named_within_the_time_limit() -> Result<()> {
    const HTTP: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\nServer: something-that-is-no-broker\r\n\r\n";
    let servers: [(Option<&'static [u8]>, &str); 3] =
        [(Some(HTTP), "is an HTTP server, no broker"), (None, "says nothing"), (Some(&[]), "without a word")];
    for (answer, part) in servers {
        let port = Port::reserve()?;
        serve(port.listen()?, answer);
        let endpoint = port.endpoint();
        let began = Instant::now();
        let finished = doctor(&["--broker", &endpoint, "--broker-timeout", "2s"], &[("GIOSTRA_BACKEND", &endpoint)])?;
        let took = began.elapsed();
        assert_eq!(finished.code, Some(1), "{finished:?}");
        // The tests themselves listen there, and are named if /proc tells.
        says(&finished, "broker", "failure", &[part, "(process "])?;
        says(&finished, "ports", "failure", &["is taken by ", "--backend"])?;
        assert!(took < Duration::from_secs(30), "{took:?}");
    }
    Ok(())
}

#[test]
fn a_frozen_broker_is_named_with_what_thaws_it() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    system.broker().signal(Signal::SIGSTOP)?;
    let finished = of_system(&system, &["--broker-timeout", "1s"])?;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let thaws = format!("kill -CONT {} ", system.broker().id());
    says(&finished, "broker", "failure", &["giostra-broker (process ", "but is stopped", &thaws])?;
    assert!(check(&finished, "ports").is_err(), "its other port is not taken: {finished:?}");
    system.broker().signal(Signal::SIGCONT)?;
    Ok(())
}

#[test]
fn a_client_at_the_port_for_workers_is_told_so() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let finished = doctor(&["--broker", system.backend()], &[])?;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    says(&finished, "broker", "failure", &["this is the workers' endpoint (backend)"])
}

#[test]
fn folders_that_cannot_be_written_or_are_missing_are_told() -> Result<()> {
    let nobody = Port::reserve()?;
    let endpoint = nobody.endpoint();
    let finished = doctor(&["--broker", &endpoint, "--store", "/nonexistent/store", "--log-dir", "/proc"], &[])?;
    says(&finished, "store", "warning", &["/nonexistent/store is not there"])?;
    says(&finished, "log", "failure", &["/proc: can't write there"])?;
    let full = Path::new("/dev/full").display().to_string();
    says(&doctor(&["--broker", &endpoint, "--store", &full], &[])?, "store", "failure", &["/dev/full"])
}

/// Returns a help text with single spaces in the place of line breaks.
fn help(program: &str, args: &[String]) -> Result<String> {
    let text = String::from_utf8(Command::new(binary(program)?).args(args).output()?.stdout)?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn each_variable_that_a_program_reads_is_known_and_others_are_not() -> Result<()> {
    let mut known = BTreeSet::new();
    for program in ["giostra", "giostra-broker", "giostra-worker"] {
        let mut helps = vec![vec!["--help".to_string()]];
        if program == "giostra" {
            helps.extend(
                ["up", "map", "random", "bench", "send", "submit"].map(|name| vec![name.into(), "--help".into()]),
            );
        }
        for args in helps {
            let help = help(program, &args)?;
            let named = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
            known.extend(named.map(|name| name.trim().to_string()));
        }
    }
    assert!(known.len() > 50, "{known:?}");
    let own = help("giostra", &["doctor".into(), "--help".into()])?;
    let nobody = Port::reserve()?;
    // Those that the doctor reads itself need values of their own.
    let others: Vec<_> = known.iter().filter(|name| !own.contains(&format!("[env: {name}="))).collect();
    let set: Vec<_> = others.iter().filter(|name| !name.ends_with("BACKEND")).map(|name| (name.as_str(), "")).collect();
    let endpoint = nobody.endpoint();
    says(&doctor(&["--broker", &endpoint], &set)?, "environment", "ok", &["GIOSTRA_"])?;
    let finished = doctor(&["--broker", &endpoint], &[("GIOSTRA_PING_INTERVALL", "1s")])?;
    let meant = "GIOSTRA_PING_INTERVAL is meant in place of GIOSTRA_PING_INTERVALL?";
    says(&finished, "environment", "warning", &["GIOSTRA_PING_INTERVALL is set, and nothing reads it", meant])
}
