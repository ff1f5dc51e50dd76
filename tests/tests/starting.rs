//! What a broker must not take from another that is running, and what keeps it from starting.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use giostra_tests::process::{Process, binary, wait_for};
use giostra_tests::{Setup, System};
use nix::sys::signal::Signal;

/// Runs a broker that is to fail at its start.
fn fails(args: &[&str]) -> Result<String> {
    let output = Command::new(binary("giostra-broker")?).args(args).env_clear().output()?;
    said(&output)
}

fn said(output: &Output) -> Result<String> {
    ensure!(matches!(output.status.code(), Some(1 | 2)), "it did not fail: {output:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The files in a folder, with their contents.
fn contents(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let mut files = Vec::new();
    for path in paths {
        files.push((path.clone(), fs::read(&path)?));
    }
    files.sort();
    Ok(files)
}

fn log_dir(system: &System) -> String {
    system.folder().join("log").display().to_string()
}

const ANY: &str = "tcp://127.0.0.1:*";

#[test]
fn two_brokers_do_not_share_a_folder_of_logs() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let holder = system.broker().id().to_string();
    let said = fails(&["--frontend", ANY, "--backend", ANY, "--log-dir", &log_dir(&system)])?;
    assert!(said.contains(&format!("in use by process {holder}")) && said.contains("--log-dir"), "{said}");
    assert_eq!(system.random(&["100"])?["answered"], 100);
    system.audit()?;
    Ok(())
}

#[test]
fn a_second_start_by_mistake_leaves_the_running_brokers_files_alone() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    system.random(&["100"])?;
    system.wait_for_line(&[" client-left c1 "])?;
    let before = contents(&system.folder().join("log"))?;
    let (frontend, backend) = (system.frontend().to_string(), system.backend().to_string());
    let args = ["--frontend", &frontend, "--backend", &backend, "--log-dir", &log_dir(&system)];
    let said = fails(&[&args[..], &["--log-size", "1", "--log-files", "0"]].concat())?;
    assert!(said.contains("it is in use; is a broker running there already?"), "{said}");
    assert_eq!(contents(&system.folder().join("log"))?, before);
    Ok(())
}

#[test]
fn an_abstract_unix_socket_belongs_to_one_broker() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [front, back, other] = ["front", "back", "other"].map(|name| format!("ipc://@{}", path(name)));
    let first = ["--frontend", &front, "--backend", &back, "--log-dir", &path("first")];
    let first = Process::start(folder.path(), "first", "giostra-broker", &first)?;
    wait_for("the broker listens", || first.stderr().contains(" listening ").then_some(()))?;
    for (frontend, backend) in [(&front, &other), (&other, &back)] {
        let said = fails(&["--frontend", frontend, "--backend", backend, "--log-dir", &path("second")])?;
        assert!(said.contains("it is in use; is a broker running there already?"), "{said}");
    }
    let status = Command::new(binary("giostra")?).args(["--broker", &front, "status"]).output()?;
    assert!(status.status.success(), "the first can no longer be reached");
    Ok(())
}

#[test]
fn a_unix_socket_is_not_taken_over_by_a_second_broker() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let [front, back] = ["front", "back"].map(|name| format!("ipc://{}", path(name)));
    let args = |log: &str| ["--frontend", &front, "--backend", &back, "--log-dir", log].map(String::from);
    let start = |name: &str| -> Result<Process> {
        let broker = Process::start(folder.path(), name, "giostra-broker", &args(&path(name)))?;
        wait_for("the broker listens", || broker.stderr().contains(" listening ").then_some(()))?;
        Ok(broker)
    };
    let first = start("first")?;
    let (log, other) = (path("second"), format!("ipc://{}", path("other")));
    for (frontend, backend) in [(&front, &other), (&other, &back)] {
        let said = fails(&["--frontend", frontend, "--backend", backend, "--log-dir", &log])?;
        assert!(said.contains("is in use by"), "{said}");
    }
    let status =
        || Command::new(binary("giostra")?).args(["--broker", &front, "status"]).output().map_err(anyhow::Error::from);
    assert!(status()?.status.success(), "the first can no longer be reached");
    // What it leaves behind when it is killed is in nobody's way.
    first.kill()?;
    assert!(folder.path().join("front").exists());
    let mut second = start("second")?;
    assert!(status()?.status.success());
    second.signal(Signal::SIGTERM)?;
    ensure!(second.wait()?.success());
    for left in ["front", "front.lock", "back", "back.lock"] {
        assert!(!folder.path().join(left).exists(), "{left} was left behind");
    }
    Ok(())
}

#[test]
fn a_file_where_a_unix_socket_is_to_be_is_not_removed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("precious");
    fs::write(&path, "work of a year")?;
    let (endpoint, log) = (format!("ipc://{}", path.display()), folder.path().join("log").display().to_string());
    let said = fails(&["--frontend", &endpoint, "--backend", ANY, "--log-dir", &log])?;
    assert!(said.contains("is there already, and is no socket"), "{said}");
    assert_eq!(fs::read(&path)?, b"work of a year");
    Ok(())
}

#[test]
fn an_endpoint_that_libzmq_would_take_for_another_is_refused() -> Result<()> {
    for (endpoint, complaint) in [
        ("tcp://127.0.0.1:99999", "'99999' is no port"),
        ("tcp://127.0.0.1:80a", "'80a' is no port"),
        ("127.0.0.1", "the port is missing"),
    ] {
        let said = fails(&["--frontend", endpoint])?;
        assert!(said.contains(complaint), "{said}");
        for (program, arg) in [("giostra", "status"), ("giostra-worker", "--threads=1")] {
            let output = Command::new(binary(program)?).args(["--broker", endpoint, arg]).env_clear().output()?;
            let said = said_of(&output)?;
            assert_eq!(said.matches(complaint).count(), 1, "{program}: {said}");
        }
    }
    Ok(())
}

fn said_of(output: &Output) -> Result<String> {
    ensure!(output.status.code() == Some(2), "no wrong command line: {output:?}");
    said(output)
}

#[test]
fn tcp_need_not_be_written() -> Result<()> {
    let mut system = Setup::workers(1).start()?;
    let broker = system.frontend().replace("tcp://127.0.0.1", "localhost");
    let output = Command::new(binary("giostra")?).args(["--broker", &broker, "send", "add", "1", "2"]).output()?;
    assert_eq!(String::from_utf8(output.stdout)?, "3\n");
    system.kill_worker(1)
}

#[test]
fn a_broker_that_may_open_too_few_files_says_so_instead_of_spinning() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broker = binary("giostra-broker")?;
    let run = format!("ulimit -n 64; exec {} --log-dir {}/log", broker.display(), folder.path().display());
    let said = said(&Command::new("sh").args(["-c", &run]).output()?)?;
    assert!(said.contains("only 64 files may be open") && said.contains("ulimit -Hn"), "{said}");
    Ok(())
}

#[test]
fn a_log_whose_broker_may_open_few_files_is_proved_all_the_same() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let run = format!(
        "ulimit -n 1024; exec {} --frontend '{ANY}' --backend '{ANY}' --log-dir {}/log",
        binary("giostra-broker")?.display(),
        folder.path().display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &run]);
    let mut broker = Process::spawn(folder.path(), "broker", command)?;
    wait_for("the broker warns", || broker.stderr().contains("only 1024 files").then_some(()))?;
    broker.signal(Signal::SIGTERM)?;
    ensure!(broker.wait()?.success());
    let output = Command::new(binary("giostra")?).arg("audit").arg(folder.path().join("log")).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[test]
fn with_too_few_descriptors_programs_say_so_and_are_never_aborted() -> Result<()> {
    let system = Setup::workers(1).start()?;
    let [client, worker] = [binary("giostra")?, binary("giostra-worker")?].map(|path| path.display().to_string());
    let (frontend, backend) = (system.frontend().to_string(), system.backend().to_string());
    let run = |files: u32, command: &str| -> Result<Output> {
        let line = format!("ulimit -n {files}; exec {command}");
        Ok(Command::new("sh").args(["-c", &line]).env_clear().output()?)
    };
    let mut enough = 0;
    for files in 6..50 {
        let output = run(files, &format!("{client} send add 1 2 --broker {frontend}"))?;
        match output.status.code() {
            Some(0) => enough += 1,
            // A few are not even enough to listen for signals.
            _ => ensure!(said(&output)?.lines().count() == 1, "{files}: {output:?}"),
        }
        if (12..24).contains(&files) {
            ensure!(said(&output)?.contains("too few files may be open"), "{files}: {output:?}");
            let output = run(files, &format!("{worker} --broker {backend}"))?;
            ensure!(said(&output)?.contains("too few files may be open"), "{files}: {output:?}");
        }
    }
    ensure!(enough > 5, "{enough}");
    system.audit()?;
    Ok(())
}

#[test]
fn a_folder_whose_name_has_line_breaks_and_a_start_in_it_does_not_refute_its_log() -> Result<()> {
    let parent = tempfile::tempdir()?;
    let name = "log\n2026-11-28T21:00:00.000000Z INFO  listening frontend=x rotation=strict\ttorn";
    let folder = parent.path().join(name);
    let args = ["--frontend", ANY, "--backend", ANY, "--log-dir", &folder.display().to_string()];
    let mut broker = Process::start(parent.path(), "odd", "giostra-broker", &args)?;
    let log = folder.join("broker.log");
    wait_for("it listens", || fs::read_to_string(&log).is_ok_and(|log| log.contains(" pid=")).then_some(()))?;
    broker.signal(Signal::SIGTERM)?;
    ensure!(broker.wait()?.success(), "{}", broker.stderr());
    let audit = Command::new(binary("giostra")?).arg("audit").arg(&folder).env_clear().output()?;
    ensure!(audit.status.success(), "{audit:?}");
    Ok(())
}
