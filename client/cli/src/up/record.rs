//! The record of what is up: a file that tells others, and the next `up`, of the processes.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::folder::{Folder, cannot};
use super::plan::is_broker;

/// A broker that is up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Broker {
    /// The endpoint for clients.
    pub frontend: String,
    /// The endpoint for workers.
    pub backend: String,
    /// The address of its live page; none with `--http off`.
    pub page: Option<String>,
}

/// What is up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The process id of `giostra up`.
    pub pid: u32,
    /// When it was started, in ticks since boot.
    pub started: u64,
    /// How often workers were started again.
    pub restarts: u32,
    /// Whether all workers have registered.
    pub ready: bool,
    /// The endpoint for clients; of several brokers all, with commas.
    pub frontend: String,
    /// The endpoint for workers; of several brokers all, with commas.
    pub backend: String,
    /// The brokers, each by itself.
    #[serde(default)]
    pub brokers: Vec<Broker>,
    /// The address of the live page, of the first broker; none with `--http off`.
    pub page: Option<String>,
    /// The folder of the broker's log.
    pub log: String,
    /// The folder of the store.
    pub store: String,
    /// The file to source for clients: endpoint and keys.
    pub variables: String,
    /// Whether peers need keys.
    pub secure: bool,
    /// The broker and the workers, in the order in which they were started.
    pub processes: Vec<Process>,
}

/// A process of the system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// `broker`, or `worker-1` and so on.
    pub name: String,
    /// Its id.
    pub pid: u32,
    /// When it was started, in the system's ticks since boot: another process may be given the same id.
    pub started: u64,
    /// How it ended; none while it runs.
    pub ended: Option<String>,
}

impl Record {
    /// Reads the record in a folder; `None` if there is none that can be read.
    pub fn read(folder: &Folder) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.record()).ok()?).ok()
    }

    /// Writes it, so that a reader finds the old one or the new one.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, folder: &Folder) -> anyhow::Result<()> {
        let path = folder.record();
        let new = path.with_extension("new");
        let write = || fs::write(&new, serde_json::to_vec_pretty(self)?).and_then(|()| fs::rename(&new, &path));
        write().with_context(|| cannot("write", &path))
    }

    /// Sets what is known of the brokers together.
    pub fn list_brokers(&mut self) {
        let list = |of: fn(&Broker) -> &str| self.brokers.iter().map(of).collect::<Vec<_>>().join(",");
        (self.frontend, self.backend) = (list(|it| &it.frontend), list(|it| &it.backend));
        self.page = self.brokers.first().and_then(|first| first.page.clone());
    }

    /// Whether it is still up.
    pub fn is_up(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// Returns the process of this name.
    pub fn process(&self, name: &str) -> Option<&Process> {
        self.processes.iter().find(|process| process.name == name)
    }

    /// The names of the processes that have ended, with commas; empty if all run.
    pub fn ended(&self) -> String {
        let ended = self.processes.iter().filter(|process| !process.is_alive());
        ended.map(|process| process.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Ends the processes that a killed `up` has left, workers first. Returns their names.
    pub fn end_leftovers(&self, patience: Duration) -> Vec<String> {
        let (broker, workers): (Vec<_>, Vec<_>) =
            self.processes.iter().filter(|process| process.is_alive()).partition(|process| is_broker(&process.name));
        for group in [&workers, &broker] {
            let end = Instant::now() + patience;
            for process in group {
                process.signal(Signal::SIGTERM);
                // One that is frozen hears nothing.
                process.signal(Signal::SIGCONT);
            }
            for process in group {
                while process.is_alive() && Instant::now() < end {
                    thread::sleep(Duration::from_millis(20));
                }
                process.signal(Signal::SIGKILL);
                while process.is_alive() {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
        workers.into_iter().chain(broker).map(|process| process.name.clone()).collect()
    }
}

impl Process {
    /// Whether it runs. One that has ended and is not waited for does not.
    pub fn is_alive(&self) -> bool {
        self.ended.is_none() && started(self.pid) == Some(self.started)
    }

    fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid as i32), signal);
        }
    }
}

/// Returns when a process was started, in ticks since boot; `None` if it does not run.
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name, in parentheses, may have any characters. After it: the state, and as the 20th the start.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    fields.nth(18)?.parse().ok().filter(|_| !matches!(state, "Z" | "X"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_by_its_id_and_its_start() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let pid = child.id();
        let process = Process { name: "worker-1".into(), pid, started: started(pid).unwrap(), ended: None };
        assert!(process.is_alive());
        assert!(!Process { started: process.started + 1, ..process.clone() }.is_alive(), "another with the same id");
        let record = Record { processes: vec![process.clone()], ..Record::default() };
        // Nobody waits for it meanwhile: a child that has ended does not count as running.
        assert_eq!(record.end_leftovers(Duration::from_secs(10)), ["worker-1"]);
        assert!(!process.is_alive() && record.end_leftovers(Duration::from_secs(10)).is_empty());
        child.wait().unwrap();
        assert_eq!(started(pid), None);
    }

    #[test]
    fn what_is_no_record_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::of(Some(dir.path())).unwrap();
        assert!(Record::read(&folder).is_none());
        fs::write(folder.record(), "{\"pid\": 1, ").unwrap();
        assert!(Record::read(&folder).is_none());
        Record { pid: 7, ..Record::default() }.write(&folder).unwrap();
        assert_eq!(Record::read(&folder).unwrap().pid, 7);
    }
}
