//! A system whose worker runs a program, and what is left of that.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use giostra_client::Client;
use giostra_protocol::{Bytes, Failure, Outcome};
use giostra_tests::process::{PATIENCE, wait_for};
use giostra_tests::{Setup, System};
use serde_json::Value;

/// A broker, a worker that runs a program, and a client.
pub struct Bench {
    /// The broker and the worker.
    pub system: System,
    /// The client.
    pub client: Client,
    /// What it asks for.
    pub operation: String,
}

impl Bench {
    /// A bench whose worker has these arguments; the second is the command.
    pub fn start(worker: &[&str]) -> Result<Self> {
        let system = Setup::workers(1).worker(worker).start()?;
        let client = system.client()?;
        let command = worker[1].split(' ').next().unwrap_or_default();
        let operation = command.rsplit('/').next().unwrap_or_default().into();
        Ok(Self { system, client, operation })
    }

    /// The body of a request.
    pub fn body(&self, arguments: &Value) -> Bytes {
        rmp_serde::to_vec(&(&self.operation, arguments)).expect("it can be encoded").into()
    }

    /// Sends a request.
    pub fn submit(&mut self, arguments: &Value) -> Result<()> {
        self.client.submit(self.body(arguments))?;
        assert_eq!(self.client.next_reply(Some(Duration::ZERO))?, None);
        Ok(())
    }

    /// Sends a request and waits for its reply.
    pub fn ask(&mut self, arguments: &Value) -> Result<Outcome> {
        let body = self.body(arguments);
        self.ask_body(body)
    }

    /// The same of any body.
    pub fn ask_body(&mut self, body: Bytes) -> Result<Outcome> {
        Ok(self.client.call(body, Some(PATIENCE))?.outcome)
    }

    /// The result, which is no bytes.
    pub fn result(&mut self, arguments: &Value) -> Result<Value> {
        match self.ask(arguments)? {
            Outcome::Ok(body) => Ok(rmp_serde::from_slice(&body)?),
            Outcome::Error(failure) => anyhow::bail!("{failure}"),
        }
    }

    /// The error, which must be one.
    pub fn failure(&mut self, arguments: &Value) -> Result<Failure> {
        match self.ask(arguments)? {
            Outcome::Ok(body) => anyhow::bail!("a result came: {body:?}"),
            Outcome::Error(failure) => Ok(failure),
        }
    }

    /// A file for what programs have to say.
    pub fn file(&self, name: &str) -> String {
        self.system.folder().join(name).display().to_string()
    }

    /// The processes that the worker has started, but for its guard.
    pub fn children(&mut self) -> Vec<i32> {
        children(self.system.worker(1).id())
    }

    pub fn no_child_is_left(&mut self) -> Result<()> {
        let worker = self.system.worker(1).id();
        wait_for("no child is left", || children(worker).is_empty().then_some(()))
    }
}

/// The child processes of a worker, but for its guard.
pub fn children(worker: u32) -> Vec<i32> {
    children_and_guard(worker).0
}

/// The child processes of a worker that are no guard, and one that is.
pub fn children_and_guard(worker: u32) -> (Vec<i32>, Option<i32>) {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_worker = |id: &i32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.contains(&format!("\nPPid:\t{worker}\n"))
    };
    let (guards, others): (Vec<i32>, _) = ids.filter(of_worker).partition(|&id| is_guard(id));
    (others, guards.first().copied())
}

/// Whether a process is a guard. It gives itself its name a moment after its start, but has its first
/// argument from the start on, until it has ended.
fn is_guard(id: i32) -> bool {
    let read = |file: &str| fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
    read("cmdline").starts_with(b"giostra-guard\0") || read("comm") == b"giostra-guard\n"
}

/// Whether it runs: one that nobody has waited for yet does not.
pub fn runs(id: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The process ids that programs have written into a file, once it has this many.
pub fn written(file: &str, count: usize) -> Result<Vec<i32>> {
    wait_for("programs have written their ids", || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let ids: Vec<_> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        (ids.len() >= count && text.ends_with('\n')).then_some(ids)
    })
}

pub fn all_end(ids: &[i32]) -> Result<()> {
    assert!(!ids.is_empty());
    wait_for("all processes end", || ids.iter().all(|&id| !runs(id)).then_some(()))
}
