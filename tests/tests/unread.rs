//! A stderr that nobody reads: a pipe that is full, a terminal that is held.

use std::fs::{self, File};
use std::io::{ErrorKind, PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::os::fd::AsFd;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use giostra_tests::process::{binary, wait_for};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A pipe that takes nothing more until it is read.
fn full_pipe() -> Result<(PipeReader, PipeWriter)> {
    let (reader, mut writer) = pipe()?;
    set_nonblocking(&writer, true)?;
    for part in [4096, 1] {
        let full = fill(&mut writer, part).expect_err("no pipe takes all");
        ensure!(full.kind() == ErrorKind::WouldBlock, "{full}");
    }
    set_nonblocking(&writer, false)?;
    Ok((reader, writer))
}

fn fill(writer: &mut PipeWriter, part: usize) -> std::io::Result<()> {
    loop {
        writer.write_all(&vec![b'.'; part])?;
    }
}

fn set_nonblocking(file: impl AsFd, to: bool) -> Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, to);
    fcntl(&file, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// A process that is killed when this is dropped, and not waited for without end.
struct Running(Child);

impl Running {
    fn start(program: &str, args: &[&str], stderr: PipeWriter) -> Result<Self> {
        let mut command = Command::new(binary(program)?);
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"GIOSTRA_")) {
            command.env_remove(key);
        }
        Ok(Self(command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn()?))
    }

    fn ends_when_asked(&mut self) -> Result<()> {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM)?;
        let status = wait_for("it ends at SIGTERM", || self.0.try_wait().transpose())??;
        ensure!(status.success(), "{status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Broker {
    process: Running,
    log: std::path::PathBuf,
    folder: TempDir,
}

impl Broker {
    fn start(stderr: PipeWriter) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let any = "tcp://127.0.0.1:*";
        let args = ["--frontend", any, "--backend", any, "--log-dir", log.to_str().context("a path")?];
        let process = Running::start("giostra-broker", &args, stderr)?;
        let broker = Self { process, log: log.join("broker.log"), folder };
        wait_for("it listens", || broker.log().contains(" listening ").then_some(()))?;
        Ok(broker)
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn endpoint(&self, key: &str) -> Result<String> {
        let log = self.log();
        let rest = log.split_once(key).context("an endpoint")?.1;
        Ok(rest.split(' ').next().context("an endpoint")?.into())
    }

    fn giostra(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary("giostra")?);
        command.args(["--broker", &self.endpoint("frontend=")?]).args(args).stdin(Stdio::null());
        Ok(command.output()?)
    }
}

/// What is read until all writers are gone, without what filled the pipe.
fn rest(mut reader: PipeReader) -> Result<String> {
    let mut all = String::new();
    reader.read_to_string(&mut all)?;
    Ok(all.trim_start_matches('.').into())
}

#[test]
fn a_broker_whose_stderr_nobody_reads_goes_on_and_loses_no_line_that_memory_can_hold() -> Result<()> {
    let (reader, writer) = full_pipe()?;
    let mut broker = Broker::start(writer)?;
    let any = pipe()?;
    let worker = ["--broker", &broker.endpoint("backend=")?, "--name", "w"];
    let _worker = Running::start("giostra-worker", &worker, any.1)?;
    let sum = broker.giostra(&["send", "add", "1", "2"])?;
    ensure!(sum.stdout == b"3\n", "{sum:?}");
    for _ in 0..20 {
        let status = broker.giostra(&["status"])?;
        ensure!(status.status.success(), "{status:?}");
    }
    // Now somebody reads: what was said meanwhile is there, in its order.
    let reading = std::thread::spawn(move || rest(reader));
    broker.process.ends_when_asked()?;
    let said = reading.join().expect("no panic")?;
    let logged: Vec<_> = broker.log().lines().filter(|line| !line.contains(" DEBUG ")).map(String::from).collect();
    ensure!(logged.len() > 40, "{logged:?}");
    ensure!(said.lines().eq(logged.iter().map(String::as_str)), "{said}\n{}", broker.log());
    Ok(())
}

#[test]
fn a_broker_whose_stderr_nobody_reads_ends_when_it_is_asked_to() -> Result<()> {
    let (_reader, writer) = full_pipe()?;
    let mut broker = Broker::start(writer)?;
    broker.process.ends_when_asked()?;
    ensure!(broker.log().contains(" stopped"), "{}", broker.log());
    Ok(())
}

#[test]
fn a_worker_whose_stderr_nobody_reads_computes_and_ends_when_it_is_asked_to() -> Result<()> {
    let null = pipe()?;
    let broker = Broker::start(null.1)?;
    let (_reader, writer) = full_pipe()?;
    // Each answer is followed by a line too many, which the worker complains of before the next
    // request.
    let chatty = "sh -c 'while read -r line; do echo $line; echo more >&2; sleep 0.01; echo stray; done' sh";
    let backend = broker.endpoint("backend=")?;
    let args = ["--broker", &backend, "--name", "w", "--exec-lines", chatty, "--operation", "x"];
    let mut worker = Running::start("giostra-worker", &args, writer)?;
    let input = broker.folder.path().join("input");
    fs::write(&input, "1\n2\n3\n4\n5\n")?;
    let mut map = Command::new(binary("giostra")?);
    map.args(["--broker", &broker.endpoint("frontend=")?, "map", "x", "--window", "1", "--quiet"]);
    let output = map.stdin(File::open(&input)?).output()?;
    // Whether the stray line comes with the answer or after it is left to chance; an answer there is.
    ensure!(output.stdout.iter().filter(|&&byte| byte == b'\n').count() == 5, "{output:?}");
    worker.ends_when_asked()
}
