//! Broker and worker as services: what they tell systemd, and the units that start them.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use giostra_client::{Client, Options};
use giostra_protocol::{Bytes, Outcome};
use giostra_tests::process::{PATIENCE, Process, binary};
use giostra_tests::{Setup, System, test, trials};
use nix::sys::signal::Signal;

/// The time within which the services are to give signs of life.
const WATCHDOG: Duration = Duration::from_millis(600);

fn main() -> ExitCode {
    trials::run(&[
        test!(a_broker_is_ready_when_it_serves_and_tells_what_it_does_until_it_stops needs trials::anywhere),
        test!(a_frozen_broker_gives_no_sign_of_life needs trials::anywhere),
        test!(a_worker_is_ready_once_registered_and_again_with_the_next_broker needs trials::anywhere),
        test!(a_worker_gives_signs_of_life_while_it_computes_and_its_programs_can_not needs trials::anywhere),
        test!(a_service_manager_that_is_gone_stops_nothing needs trials::anywhere),
        test!(the_units_are_sound_and_hardened needs systemd),
    ])
}

fn a_broker_is_ready_when_it_serves_and_tells_what_it_does_until_it_stops() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let manager = Manager::at_a_path(folder.path())?;
    let (mut broker, [frontend, backend]) = manager.broker(folder.path(), &["--grace", "7s"])?;
    let mut client = client(&frontend)?;
    client.await_broker()?;
    // An idle loop, too.
    for _ in 0..4 {
        manager.hears("WATCHDOG=1")?;
    }
    let worker = Process::start(folder.path(), "worker", "giostra-worker", &["--broker", &backend])?;
    manager.hears("STATUS=workers: 1; requests pending: 0, in flight: 0")?;
    broker.signal(Signal::SIGHUP)?;
    let reloading = manager.hears("RELOADING=1")?;
    let at: u64 = field(&reloading, "MONOTONIC_USEC=")?.parse()?;
    let now = Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?);
    ensure!((1..=now.as_micros()).contains(&u128::from(at)), "{reloading}");
    manager.hears("READY=1")?;
    worker.kill()?;
    manager.hears("STATUS=workers: 0;")?;
    broker.signal(Signal::SIGTERM)?;
    let stopping = manager.hears("STOPPING=1")?;
    ensure!(field(&stopping, "EXTEND_TIMEOUT_USEC=")?.parse::<u64>()? > 7_000_000, "{stopping}");
    ensure!(stopping.contains("STATUS=closing; workers: 0"), "{stopping}");
    assert_eq!(broker.wait()?.code(), Some(0));
    Ok(())
}

fn a_frozen_broker_gives_no_sign_of_life() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let manager = Manager::at_an_abstract_name(folder.path())?;
    let (broker, _) = manager.broker(folder.path(), &[])?;
    manager.hears("WATCHDOG=1")?;
    broker.signal(Signal::SIGSTOP)?;
    // Those that it gave before.
    while manager.messages.recv_timeout(WATCHDOG / 3).is_ok() {}
    ensure!(manager.messages.recv_timeout(2 * WATCHDOG).is_err(), "it gave a sign of life");
    broker.signal(Signal::SIGCONT)?;
    manager.hears("WATCHDOG=1")?;
    Ok(())
}

fn a_worker_is_ready_once_registered_and_again_with_the_next_broker() -> Result<()> {
    let mut system = Setup::workers(0).start()?;
    let backend = system.backend().to_string();
    let manager = Manager::at_a_path(system.folder())?;
    system.kill_broker()?;
    let mut worker = manager.worker(system.folder(), &["--broker", &backend, "--name", "w", "--grace", "1m"])?;
    let first = manager.hears("STATUS=")?;
    ensure!(first == format!("STATUS=connecting to {backend}"), "{first}");
    // Also without a broker.
    manager.hears("WATCHDOG=1")?;
    ensure!(system.count(" joined w ") == 0);
    for life in 1..=2 {
        system.start_broker()?;
        let ready = manager.hears("READY=1")?;
        ensure!(ready == format!("READY=1\nSTATUS=registered as w (w1) at {backend}"), "{ready}");
        ensure!(system.line(&[" joined w "]).is_some());
        if life == 1 {
            system.kill_broker()?;
            manager.hears(&format!("STATUS=reconnecting to {backend}"))?;
        }
    }
    worker.signal(Signal::SIGTERM)?;
    let stopping = manager.hears("STOPPING=1")?;
    ensure!(field(&stopping, "EXTEND_TIMEOUT_USEC=")?.parse::<u64>()? > 60_000_000, "{stopping}");
    assert_eq!(worker.wait()?.code(), Some(0));
    // Drained by the broker, it says so, too.
    let mut worker = manager.worker(system.folder(), &["--broker", &backend, "--name", "drained"])?;
    manager.hears("READY=1")?;
    let drain = Command::new(binary("giostra")?).args(["--broker", system.frontend(), "drain", "drained"]).output()?;
    ensure!(drain.status.success(), "{}", String::from_utf8_lossy(&drain.stderr));
    manager.hears("STOPPING=1")?;
    assert_eq!(worker.wait()?.code(), Some(0));
    Ok(())
}

fn a_worker_gives_signs_of_life_while_it_computes_and_its_programs_can_not() -> Result<()> {
    let system = Setup::workers(0).start()?;
    let manager = Manager::at_a_path(system.folder())?;
    let args = ["--broker", system.backend(), "--exec", r#"sh -c 'eval "$1"' sh"#];
    let _worker = manager.worker(system.folder(), &args)?;
    manager.hears("READY=1")?;
    let environment = ask(&system, "env")?;
    ensure!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");
    let mut client = client(system.frontend())?;
    let gate = system.folder().join("gate").display().to_string();
    let script = format!("until [ -e {gate} ]; do sleep 0.01; done; echo done");
    let waiting = thread::spawn(move || -> Result<Outcome> {
        let body = Bytes::from(rmp_serde::to_vec(&("sh", [script]))?);
        Ok(client.call(body, Some(PATIENCE))?.outcome)
    });
    system.wait_for_lines(" dispatch ", 2)?;
    while manager.messages.try_recv().is_ok() {}
    for _ in 0..4 {
        manager.hears("WATCHDOG=1")?;
    }
    fs::write(gate, "")?;
    let outcome = waiting.join().expect("it does not panic")?;
    ensure!(matches!(outcome, Outcome::Ok(_)), "{outcome:?}");
    Ok(())
}

fn a_service_manager_that_is_gone_stops_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (number, socket) in ["/nowhere/notify", "@giostra-nobody", "relative", "vsock:2:1", ""].into_iter().enumerate()
    {
        let mut manager = Manager::at_a_path(folder.path())?;
        manager.name = socket.into();
        let log = folder.path().join(format!("log{number}")).display().to_string();
        let args = ["--frontend", "tcp://127.0.0.1:*", "--backend", "tcp://127.0.0.1:*", "--log-dir", &log];
        let mut broker = manager.start(folder.path(), &format!("broker{number}"), "giostra-broker", &args)?;
        let frontend = field(&listening(&broker)?, "frontend=")?;
        client(&frontend)?.await_broker()?;
        broker.signal(Signal::SIGTERM)?;
        assert_eq!(broker.wait()?.code(), Some(0), "{socket}");
    }
    Ok(())
}

fn the_units_are_sound_and_hardened() -> Result<()> {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
    let folder = tempfile::tempdir()?;
    for (unit, program, most) in
        [("giostra-broker.service", "giostra-broker", 3.0), ("giostra-worker@.service", "giostra-worker", 4.0)]
    {
        let text = fs::read_to_string(units.join(unit))?;
        // As they are installed, but for the program's place.
        let installed = format!("/usr/bin/{program} ");
        ensure!(text.contains(&format!("ExecStart={installed}--config /etc/giostra/")), "{unit}");
        let copy = folder.path().join(unit);
        fs::write(&copy, text.replace(&installed, &format!("{} ", binary(program)?.display())))?;
        let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output()?;
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        // What it says of other units of this machine is not about this one.
        let own: Vec<_> = said.lines().filter(|line| line.contains("giostra")).collect();
        ensure!(verified.status.success() && own.is_empty(), "{unit}: {said}");
        let rated = Command::new("systemd-analyze").args(["security", "--offline=yes"]).arg(&copy).output()?;
        let rated = String::from_utf8(rated.stdout)?;
        let level = rated.lines().find_map(|line| line.split_once("Overall exposure level for "));
        let level = level.and_then(|(_, rest)| rest.split_whitespace().nth(1)).context("no level")?.parse::<f64>()?;
        ensure!(level < most, "{unit}: {level}\n{rated}");
    }
    Ok(())
}

/// A stand-in for systemd: its socket, and what arrives there.
struct Manager {
    name: String,
    messages: Receiver<String>,
}

impl Manager {
    fn at_a_path(folder: &Path) -> Result<Self> {
        let path = folder.join("notify");
        let _ = fs::remove_file(&path);
        Ok(Self::reading(UnixDatagram::bind(&path)?, path.display().to_string()))
    }

    fn at_an_abstract_name(folder: &Path) -> Result<Self> {
        let name = folder.join("notify").display().to_string();
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        Ok(Self::reading(socket, format!("@{name}")))
    }

    /// Reads all the time, since a socket holds only some messages.
    fn reading(socket: UnixDatagram, name: String) -> Self {
        let (sender, messages) = channel();
        thread::spawn(move || {
            let mut message = [0; 4096];
            while let Ok(length) = socket.recv(&mut message) {
                if sender.send(String::from_utf8_lossy(&message[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { name, messages }
    }

    /// Waits for a message that begins so.
    fn hears(&self, beginning: &str) -> Result<String> {
        loop {
            let message = self.messages.recv_timeout(PATIENCE).with_context(|| format!("nobody said {beginning}"))?;
            if message.starts_with(beginning) {
                return Ok(message);
            }
        }
    }

    fn start(&self, folder: &Path, name: &str, program: &str, args: &[&str]) -> Result<Process> {
        let mut command = Command::new(binary(program)?);
        command.args(args).env("NOTIFY_SOCKET", &self.name).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        Process::spawn(folder, name, command)
    }

    /// Starts a broker, and waits until it is ready. Returns its endpoints.
    fn broker(&self, folder: &Path, args: &[&str]) -> Result<(Process, [String; 2])> {
        let log = folder.join("log").display().to_string();
        let own = ["--frontend", "tcp://127.0.0.1:*", "--backend", "tcp://127.0.0.1:*", "--log-dir", &log];
        let broker = self.start(folder, "broker", "giostra-broker", &[&own[..], args].concat())?;
        let ready = self.hears("READY=1")?;
        ensure!(ready == "READY=1\nSTATUS=workers: 0; requests pending: 0, in flight: 0", "{ready}");
        // Without waiting for anything else.
        let line = broker.stderr();
        let line =
            line.lines().find(|line| line.contains(" listening ")).context("it is ready and has said nothing")?;
        Ok((broker, [field(line, "frontend=")?, field(line, "backend=")?]))
    }

    fn worker(&self, folder: &Path, args: &[&str]) -> Result<Process> {
        self.start(folder, "worker", "giostra-worker", args)
    }
}

/// The value behind a key in a message or a line.
fn field(text: &str, key: &str) -> Result<String> {
    let value = text.split([' ', '\n']).find_map(|word| word.strip_prefix(key));
    value.map(String::from).with_context(|| format!("{key} in {text}"))
}

fn listening(broker: &Process) -> Result<String> {
    giostra_tests::process::wait_for("it listens", || {
        broker.stderr().lines().find(|line| line.contains(" listening ")).map(String::from)
    })
}

fn client(frontend: &str) -> Result<Client> {
    Ok(Client::connect(Options { broker: frontend.into(), ..Options::default() })?)
}

/// What the program `sh` of a worker prints for this script.
fn ask(system: &System, script: &str) -> Result<String> {
    let body = Bytes::from(rmp_serde::to_vec(&("sh", [script]))?);
    match client(system.frontend())?.call(body, Some(PATIENCE))?.outcome {
        Outcome::Ok(body) => Ok(rmp_serde::from_slice(&body)?),
        Outcome::Error(failure) => anyhow::bail!("{failure}"),
    }
}

fn systemd() -> Result<()> {
    trials::program("systemd-analyze", "systemd").map(drop)
}
