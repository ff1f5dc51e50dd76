//! A process of this workspace, which does not outlive its handle.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything that is bound to happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until `found` finds something. An error that says `what` if that takes
/// longer than [`PATIENCE`].
pub fn wait_for<T>(what: &str, found: impl FnMut() -> Option<T>) -> Result<T> {
    wait_within(PATIENCE, found).with_context(|| format!("{what}: not within {PATIENCE:?}"))
}

/// The same for so long.
pub fn wait_within<T>(patience: Duration, mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return Some(found);
        }
        if began.elapsed() > patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Has programs that are started from here end at SIGINT, also where this process ignores it, as
/// background jobs of scripts do: what has a handler is set to the default in programs.
fn hear_interrupts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored =
            status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
        for signal in [Signal::SIGINT, Signal::SIGQUIT] {
            if ignored.is_some_and(|mask| mask >> (signal as i32 - 1) & 1 == 1) {
                // Where it can't be had, the tests of Ctrl-C fail and say so.
                let _ = signal_hook::flag::register(signal as i32, Arc::default());
            }
        }
    });
}

/// The binary of that name, built by the same `cargo` run into the same folder as the caller's.
pub fn binary(name: &str) -> Result<PathBuf> {
    hear_interrupts();
    let here = std::env::current_exe()?;
    let found = here.ancestors().skip(1).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no {name} beside {}: `cargo build --workspace` first", here.display()))
}

/// A running process, its stdout and stderr in files. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts a binary of the workspace; `name` is what its output files in `folder` are called.
    pub fn start<A: AsRef<OsStr>>(folder: &Path, name: &str, program: &str, args: &[A]) -> Result<Self> {
        Self::start_in(None, folder, name, program, args)
    }

    /// The same in a network namespace, if there is one. Its process id is the program's own all
    /// the same.
    pub fn start_in<A: AsRef<OsStr>>(
        namespace: Option<&str>,
        folder: &Path,
        name: &str,
        program: &str,
        args: &[A],
    ) -> Result<Self> {
        let mut command = match namespace {
            None => Command::new(binary(program)?),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(binary(program)?);
                command
            }
        };
        command.args(args);
        Self::spawn(folder, name, command)
    }

    /// The same for a program of somebody else.
    pub fn spawn(folder: &Path, name: &str, command: Command) -> Result<Self> {
        Self::spawn_with(folder, name, command, Stdio::null())
    }

    /// The same with this stdin.
    pub fn spawn_with(folder: &Path, name: &str, mut command: Command, stdin: impl Into<Stdio>) -> Result<Self> {
        let [stdout, stderr] = ["out", "err"].map(|ending| folder.join(format!("{name}.{ending}")));
        // What the tests' caller has set is not meant for the tests.
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"GIOSTRA_")) {
            command.env_remove(key);
        }
        let child = command
            .stdin(stdin)
            .stdout(append(&stdout)?)
            .stderr(append(&stderr)?)
            .spawn()
            .with_context(|| format!("can't start {}", command.get_program().display()))?;
        Ok(Self { name: name.into(), child, stdout, stderr })
    }

    /// Takes the end of its stdin for writing, if it was started with a pipe.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal. After SIGSTOP, waits until all of its threads stand still: they stop one
    /// by one, some of them after a last request.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), signal).with_context(|| format!("{signal} to {}", self.name))?;
        if signal == Signal::SIGSTOP {
            wait_for("it stands still", || self.stands_still().then_some(()))?;
        }
        Ok(())
    }

    /// Whether all threads are stopped, or have ended.
    fn stands_still(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.child.id())) else { return true };
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // After the name, which is in parentheses and may hold anything.
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
        })
    }

    /// Ends it as `kill -9` does, and waits for that.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until it ends by itself; killed if it does not.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let what = format!("{} ends; its stderr: {}", self.name, self.stderr());
        let child = &mut self.child;
        wait_for(&what, || child.try_wait().transpose())?.map_err(Into::into)
    }

    /// Whether it is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Bytes of its memory that are resident.
    pub fn rss(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim_end().parse()?;
        Ok(kib << 10)
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it has complained about so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, and have been waited for, already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}
