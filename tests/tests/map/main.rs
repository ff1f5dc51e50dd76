//! `giostra map`, with real processes: what comes out is what a loop would have printed, whatever
//! happens meanwhile.

mod answers;
mod journal;
mod streams;

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use anyhow::{Context, Result};
use giostra_tests::System;
use giostra_tests::process::binary;
use giostra_transport::shutdown::Shutdown;
use giostra_worker::{Operations, Options, serve};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// `giostra map` for the broker of a system, without what the tests' caller has set.
fn map(system: &System, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("giostra")?);
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"GIOSTRA_")) {
        command.env_remove(key);
    }
    command.args(["map", "--broker", system.frontend()]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Runs it to its end, with that on its stdin.
fn run(system: &System, args: &[&str], input: &str) -> Result<Ran> {
    feed(map(system, args)?.spawn()?, input)
}

/// Writes that to its stdin, and waits for its end.
fn feed(mut child: Child, input: &str) -> Result<Ran> {
    let mut stdin = child.stdin.take().context("stdin")?;
    let input = input.to_string();
    // It may end before it has read all.
    let writer = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    writer.join().expect("no panic");
    Ok(Ran { code: status.code(), stdout: String::from_utf8(stdout)?, stderr: String::from_utf8(stderr)? })
}

/// How it went.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// What `seq 1 LAST` prints.
fn seq(last: u64) -> String {
    (1..=last).map(|n| format!("{n}\n")).collect()
}

/// What a loop prints that asks of each of these numbers whether it is prime.
fn primes(last: u64) -> String {
    let is_prime = |n: u64| n > 1 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
    (1..=last).map(|n| format!("{}\n", is_prime(n))).collect()
}

/// A file with this content.
fn file(system: &System, name: &str, content: &str) -> Result<File> {
    let path = system.folder().join(name);
    std::fs::write(&path, content)?;
    Ok(File::open(path)?)
}

fn path(system: &System, name: &str) -> String {
    system.folder().join(name).display().to_string()
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(child.id() as i32), signal)?)
}

/// Waits until replies have come, for as many dispatches.
fn wait_until_under_way(system: &System, replies: usize) -> Result<()> {
    system.wait_for_lines(" reply worker-", replies + 1)
}

/// A worker of the tests' own, in this process.
struct OwnWorker {
    stop: Shutdown,
    thread: Option<thread::JoinHandle<()>>,
}

impl OwnWorker {
    /// Starts it, with several threads, and waits until it is registered.
    fn start(system: &System, operations: Operations) -> Result<Self> {
        Self::start_with(system, 4, operations)
    }

    /// The same with this many threads.
    fn start_with(system: &System, threads: usize, operations: Operations) -> Result<Self> {
        let stop = Shutdown::new()?;
        let options = Options { broker: system.backend().into(), name: "own".into(), threads, ..Options::default() };
        let thread = thread::spawn({
            let stop = stop.clone();
            move || serve(&options, operations, &stop).expect("it serves")
        });
        system.wait_for_line(&[" joined own "])?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for OwnWorker {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(thread) = self.thread.take() {
            // That it failed has been said.
            let _ = thread.join();
        }
    }
}
