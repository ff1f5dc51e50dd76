//! A system that faults are done to, and that is put right again.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::batches::Batches;
use super::journal::Journal;
use super::plan::{Fault, WORKERS};
use crate::process::Process;
use crate::system::{Setup, System};

/// Time between two pings of a worker.
const PING_INTERVAL: Duration = Duration::from_millis(200);

/// After how long a frozen worker is surely dropped: three pings it may miss.
pub const NOTICED_AFTER: Duration = PING_INTERVAL.saturating_mul(4);

/// How long after a broker's start everybody is surely connected again: libzmq tries every half
/// second at the longest.
const RECONNECTED_AFTER: Duration = Duration::from_millis(600);

/// The system, and what is wrong with it at the moment.
pub struct Stage {
    /// The system.
    pub system: System,
    /// `giostra` processes that come and go.
    pub batches: Batches,
    /// What was done.
    pub journal: Journal,
    /// Faults so far.
    pub faults: u64,
    /// Lives of the broker so far.
    pub lives: u64,
    /// Workers that are to run, and those of them that are frozen.
    running: BTreeSet<usize>,
    frozen: BTreeSet<usize>,
    /// Workers that are down and will be started again.
    down: BTreeSet<usize>,
    /// Workers that were told to leave.
    leaving: Vec<(String, Process)>,
    broker: BrokerState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BrokerState {
    Running,
    Frozen,
    Finishing,
    Down,
}

impl Stage {
    /// A broker and some workers.
    pub fn set(seed: u64, secure: bool) -> Result<Self> {
        // Unlucky requests are not poison here, and a worker may freeze while the broker finishes.
        let broker = format!("--ping-interval {PING_INTERVAL:?} --max-attempts 1000000 --grace 2s --log-files 1000");
        let broker: Vec<_> = broker.split(' ').collect();
        let setup = Setup::workers(WORKERS).broker(&broker).worker(&["--threads", "2"]);
        let system = setup.secured_if(secure).start()?;
        let journal = Journal::create(system.folder())?;
        Ok(Self {
            system,
            batches: Batches::new(seed),
            journal,
            faults: 0,
            lives: 1,
            running: (1..=WORKERS).collect(),
            frozen: BTreeSet::new(),
            down: BTreeSet::new(),
            leaving: Vec::new(),
            broker: BrokerState::Running,
        })
    }

    /// Does a fault, or mends one.
    pub fn act(&mut self, fault: Fault) -> Result<()> {
        self.journal.note(Instant::now(), &format!("{fault:?}"))?;
        self.faults += u64::from(!fault.mends());
        match fault {
            Fault::KillWorker(number) => {
                self.system.kill_worker(number)?;
                self.running.remove(&number);
                self.frozen.remove(&number);
                self.down.insert(number);
                self.journal.resumes(&worker(number), Duration::ZERO);
            }
            Fault::FreezeWorker(number) => {
                self.journal.stalls(&worker(number));
                self.system.worker(number).signal(Signal::SIGSTOP)?;
                self.frozen.insert(number);
            }
            Fault::ThawWorker(number) => {
                self.system.worker(number).signal(Signal::SIGCONT)?;
                self.frozen.remove(&number);
                self.journal.resumes(&worker(number), Duration::ZERO);
            }
            Fault::DismissWorker(number) => {
                let process = self.system.take_worker(number)?;
                process.signal(Signal::SIGTERM)?;
                self.running.remove(&number);
                self.down.insert(number);
                self.leaving.push((worker(number), process));
            }
            Fault::StartWorker(number) => {
                self.system.launch_worker(number)?;
                self.down.remove(&number);
                self.running.insert(number);
            }
            Fault::KillBatch(slot) => self.batches.signal(slot, Signal::SIGKILL)?,
            Fault::FreezeBatch(slot) => self.batches.signal(slot, Signal::SIGSTOP)?,
            Fault::ThawBatch(slot) => self.batches.signal(slot, Signal::SIGCONT)?,
            Fault::KillBroker | Fault::FreezeBroker | Fault::ThawBroker | Fault::RelayBroker | Fault::StartBroker => {
                self.act_on_broker(fault)?;
            }
        }
        Ok(())
    }

    fn act_on_broker(&mut self, fault: Fault) -> Result<()> {
        if self.broker == BrokerState::Finishing {
            // It takes longer than planned. Its successor comes as soon as it has finished.
            return self.journal.note(Instant::now(), "not done: the broker is finishing");
        }
        match fault {
            Fault::KillBroker => {
                self.journal.stalls("broker");
                self.system.kill_broker()?;
                self.broker = BrokerState::Down;
            }
            Fault::FreezeBroker => {
                self.journal.stalls("broker");
                self.system.broker().signal(Signal::SIGSTOP)?;
                self.broker = BrokerState::Frozen;
            }
            Fault::ThawBroker => {
                self.system.broker().signal(Signal::SIGCONT)?;
                self.broker = BrokerState::Running;
                self.journal.resumes("broker", Duration::ZERO);
            }
            Fault::RelayBroker => {
                self.journal.stalls("broker");
                self.system.broker().signal(Signal::SIGTERM)?;
                self.broker = BrokerState::Finishing;
            }
            _ if self.broker == BrokerState::Down => self.start_broker()?,
            _ => {}
        }
        Ok(())
    }

    fn start_broker(&mut self) -> Result<()> {
        self.system.start_broker()?;
        self.journal.note(Instant::now(), "the broker listens")?;
        self.journal.resumes("broker", RECONNECTED_AFTER);
        self.broker = BrokerState::Running;
        self.lives += 1;
        Ok(())
    }

    /// Replaces what has ended in order. An error if something has ended that should not have.
    pub fn tend(&mut self) -> Result<()> {
        if self.broker == BrokerState::Finishing && !self.system.broker().is_running() {
            let code = self.system.broker().wait()?.code();
            ensure!(code == Some(0), "the broker that was told to finish exited with {code:?}");
            self.start_broker()?;
        }
        let up = self.broker != BrokerState::Down;
        ensure!(!up || self.system.broker().is_running(), "the broker has ended by itself");
        for &number in &self.running {
            ensure!(self.system.worker(number).is_running(), "{} has ended by itself", worker(number));
        }
        Ok(())
    }

    /// Mends all that is broken. The faults are over.
    pub fn mend(&mut self) -> Result<()> {
        self.journal.note(Instant::now(), "the faults are over")?;
        for number in std::mem::take(&mut self.frozen) {
            self.act(Fault::ThawWorker(number))?;
        }
        for slot in 0..super::plan::BATCHES {
            self.batches.signal(slot, Signal::SIGCONT)?;
        }
        match self.broker {
            BrokerState::Running => {}
            BrokerState::Frozen => self.act(Fault::ThawBroker)?,
            BrokerState::Down => self.start_broker()?,
            BrokerState::Finishing => {
                self.system.broker().wait()?;
                self.tend()?;
            }
        }
        for number in std::mem::take(&mut self.down) {
            self.act(Fault::StartWorker(number))?;
        }
        Ok(())
    }

    /// Waits for the workers that were told to leave. An error unless each has left in order.
    pub fn see_off(&mut self) -> Result<()> {
        for (name, mut process) in self.leaving.drain(..) {
            let status = process.wait()?;
            // SIGTERM itself ends one that had only just been started.
            let in_order = status.success() || status.signal() == Some(Signal::SIGTERM as i32);
            ensure!(in_order, "{name}, told to leave: {status}");
        }
        Ok(())
    }
}

fn worker(number: usize) -> String {
    format!("worker-{number}")
}
