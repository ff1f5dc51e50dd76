//! A system that `giostra up` starts, in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use giostra_audit::Report;
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, binary, wait_for};
use crate::system::{log_files, proved};

const ANY: &str = "tcp://127.0.0.1:*";

/// A folder for a system. Dropped, it ends what is up there.
#[derive(Debug)]
pub struct Up(TempDir);

impl Up {
    /// A folder in which nothing is up.
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    /// A command of `giostra` about what is up here.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary("giostra")?);
        command.args(words).env("GIOSTRA_DIR", self.dir()).stdin(Stdio::null());
        for variable in ["FRONTEND", "BACKEND", "HTTP", "KEYS", "BROKER_KEY", "STORE"] {
            command.env_remove(format!("GIOSTRA_{variable}"));
        }
        Ok(command)
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        Ok(self.command(words)?.output()?)
    }

    /// Runs a command that succeeds. Returns what it prints.
    pub fn does(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words)?;
        ensure!(output.status.success(), "{words:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs a command that fails. Returns what it says on stderr.
    pub fn fails(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words)?;
        ensure!(output.status.code() == Some(1), "{words:?}: {output:?}");
        Ok(String::from_utf8(output.stderr)?)
    }

    /// Starts a system in the background, on ports that the system picks.
    pub fn up(&self, more: &[&str]) -> Result<String> {
        self.does(&[&["up", "--detach", "--frontend", ANY, "--backend", ANY, "--http", "127.0.0.1:0"], more].concat())
    }

    /// Starts one that stays in the foreground, and waits until it is ready.
    pub fn start(&self) -> Result<Process> {
        let dir = self.dir().display().to_string();
        let words = ["up", "--dir", &dir, "--frontend", ANY, "--backend", ANY, "--http", "off"];
        let up = Process::start(self.dir(), "foreground", "giostra", &words)?;
        wait_for("it is ready", || Some(self.status().ok()?["ready"] == true).filter(|&ready| ready))?;
        Ok(up)
    }

    /// What is up, as `giostra up --status --json` says.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.does(&["up", "--status", "--json"])?)?)
    }

    /// The broker's endpoint for clients.
    pub fn frontend(&self) -> Result<String> {
        Ok(self.status()?["frontend"].as_str().context("frontend")?.into())
    }

    /// Runs a batch. Returns its summary.
    pub fn random(&self, count: &str) -> Result<Value> {
        let frontend = self.frontend()?;
        let printed = self.does(&["random", count, "--json", "--broker", &frontend])?;
        Ok(serde_json::from_str(printed.lines().last().context("no object")?)?)
    }

    /// Sends a request that takes so many seconds, and waits until it is computed.
    pub fn send_sleep(&self, seconds: &str) -> Result<Process> {
        let frontend = self.frontend()?;
        let sent = Process::start(self.dir(), "sent", "giostra", &["send", "sleep", seconds, "--broker", &frontend])?;
        let is_computed = || {
            let status = self.does(&["status", "--json", "--broker", &frontend]).ok()?;
            let status: Value = serde_json::from_str(&status).ok()?;
            status["workers"].as_array()?.iter().any(|worker| worker["in_flight"] == 1).then_some(())
        };
        wait_for("it is computed", is_computed)?;
        Ok(sent)
    }

    /// A command of `giostra` as a client of the system, with its keys if it has any.
    pub fn client(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new("bash");
        command.args(["-c", "source \"$0\" && exec \"$@\""]).arg(self.dir().join("env"));
        command.arg(binary("giostra")?).args(words).stdin(Stdio::null());
        Ok(command)
    }

    /// The process of this name.
    pub fn pid(&self, name: &str) -> Result<Pid> {
        Ok(Pid::from_raw(self.does(&["up", "--pid", name])?.trim().parse()?))
    }

    /// The folder of the broker's log.
    pub fn log_dir(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// The files of the broker's log, the oldest first.
    pub fn log_files(&self) -> Vec<PathBuf> {
        log_files(&self.log_dir())
    }

    /// Audits the log so far.
    ///
    /// # Errors
    /// If a promise is refuted or can't be proved.
    pub fn audit(&self) -> Result<Report> {
        proved(&self.log_dir())
    }

    /// The process ids of all that were started.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let status = self.status()?;
        let ids = status["processes"].as_array().context("processes")?.iter().map(|process| process["pid"].as_i64());
        let ids = ids.chain([status["pid"].as_i64()]).map(|id| Ok(i32::try_from(id.context("no id")?)?));
        ids.collect()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.run(&["down", "--now"]);
    }
}
