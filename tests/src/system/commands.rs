//! `giostra` commands of a system: started, waited for, their output.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::System;
use super::keys::CLIENT;
use crate::process::Process;
use crate::terminal::Terminal;

/// A running `giostra` command, killed when it is dropped.
#[derive(Debug)]
pub struct Batch {
    process: Process,
}

/// A `giostra` command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Everything written to stdout.
    pub stdout: String,
    /// Everything written to stderr.
    pub stderr: String,
}

impl Batch {
    pub(crate) fn of(process: Process) -> Self {
        Self { process }
    }

    /// Returns the process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until the command ends.
    pub fn finish(mut self) -> Result<Finished> {
        Finished::of(&mut self.process)
    }
}

impl Finished {
    /// Waits until a process ends.
    pub fn of(process: &mut Process) -> Result<Self> {
        let code = process.wait()?.code();
        Ok(Self { code, stdout: process.stdout(), stderr: process.stderr() })
    }

    /// Returns the JSON object on the last line of stdout.
    pub fn json(&self) -> Result<Value> {
        let line = self.stdout.lines().last().with_context(|| format!("no output: {self:?}"))?;
        serde_json::from_str(line).with_context(|| format!("no JSON: {self:?}"))
    }

    /// Returns the summary of `giostra random --json`.
    ///
    /// # Errors
    /// If a request was not answered, answered twice, or wrongly.
    pub fn all_well(&self) -> Result<Value> {
        let summary = self.json()?;
        let well = self.code == Some(0)
            && summary["answered"] == summary["sent"]
            && ["failed", "unanswered", "wrong", "duplicated"].iter().all(|bad| summary[bad] == 0);
        ensure!(well, "not all went well: {self:?}");
        Ok(summary)
    }
}

impl System {
    /// Starts a `giostra` command, with the keys of the system's own client if there are any.
    pub fn begin(&mut self, args: &[&str]) -> Result<Batch> {
        let keys = self.key_args(CLIENT);
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        self.begin_as(&keys, args)
    }

    /// Starts a `giostra` command with other keys ([`Self::key_args`]), or with none.
    pub fn begin_as(&mut self, keys: &[&str], args: &[&str]) -> Result<Batch> {
        self.clients += 1;
        let name = format!("client-{}", self.clients);
        let args: Vec<_> =
            ["--broker", &self.frontends()].iter().chain(keys).chain(args).map(ToString::to_string).collect();
        Ok(Batch { process: self.process(&name, "giostra", &args)? })
    }

    /// Starts a `giostra` command on a terminal, with the keys of the system's own client if there
    /// are any.
    pub fn begin_on_terminal(&self, columns: u16, rows: u16, args: &[&str]) -> Result<Terminal> {
        let own = ["--broker".into(), self.frontend().into()].into_iter().chain(self.key_args(CLIENT));
        let args: Vec<_> = own.chain(args.iter().map(ToString::to_string)).collect();
        Terminal::start(columns, rows, "giostra", &args)
    }

    /// Starts `giostra random REQUESTS --json`, and waits until a worker has answered twenty of its
    /// requests.
    pub fn begin_random(&mut self, requests: &str, args: &[&str], worker: &str) -> Result<Batch> {
        let replies = format!(" reply {worker}");
        let before = self.count(&replies);
        let all: Vec<_> = ["random", requests, "--json"].iter().chain(args).copied().collect();
        let batch = self.begin(&all)?;
        self.wait_for_lines(&replies, before + 20)?;
        Ok(batch)
    }

    /// Runs a `giostra` command to its end.
    pub fn run(&mut self, args: &[&str]) -> Result<Finished> {
        self.begin(args)?.finish()
    }

    /// Runs `giostra random` and returns its summary, which must be [`Finished::all_well`].
    pub fn random(&mut self, args: &[&str]) -> Result<Value> {
        let all: Vec<_> = ["random", "--json"].iter().chain(args).copied().collect();
        self.run(&all)?.all_well()
    }

    /// Returns the output of `giostra status --json`.
    pub fn status(&mut self) -> Result<Value> {
        self.run(&["status", "--json"])?.json()
    }
}
