//! A system that faults are done to, and that is put right again.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::batches::Batches;
use super::journal::{BROKER, Journal};
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
    /// The system, and the broker of number 0.
    pub system: System,
    /// The other brokers, from number 1 on, without workers of their own.
    pub others: Vec<System>,
    /// `giostra` processes that come and go.
    pub batches: Batches,
    /// What was done.
    pub journal: Journal,
    /// Faults so far.
    pub faults: u64,
    /// Lives of the brokers so far.
    pub lives: u64,
    /// Workers that are to run, and those of them that are frozen.
    running: BTreeSet<usize>,
    frozen: BTreeSet<usize>,
    /// Workers that are down and will be started again.
    down: BTreeSet<usize>,
    /// Workers that were told to leave.
    leaving: Vec<(String, Process)>,
    brokers: Vec<BrokerState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BrokerState {
    Running,
    Frozen,
    Finishing,
    Down,
}

impl Stage {
    /// So many brokers, and some workers that know all of them.
    pub fn set(seed: u64, secure: bool, brokers: usize) -> Result<Self> {
        // Unlucky requests are not poison here, and a worker may freeze while the broker finishes.
        let broker = format!("--ping-interval {PING_INTERVAL:?} --max-attempts 1000000 --grace 2s --log-files 1000");
        let broker: Vec<_> = broker.split(' ').collect();
        let alone = if brokers == 1 { WORKERS } else { 0 };
        let setup = |workers| Setup::workers(workers).broker(&broker).worker(&["--threads", "2"]);
        let mut system = setup(alone).secured_if(secure).start()?;
        let others = (1..brokers).map(|_| setup(0).secured_as(&system).start()).collect::<Result<Vec<_>>>()?;
        others.iter().for_each(|other| system.beside(other));
        for number in alone + 1..=WORKERS {
            system.start_worker(number)?;
            others.iter().try_for_each(|other| other.wait_for_registration(number, 1))?;
        }
        let journal = Journal::create(system.folder())?;
        Ok(Self {
            system,
            others,
            batches: Batches::new(seed),
            journal,
            faults: 0,
            lives: brokers as u64,
            running: (1..=WORKERS).collect(),
            frozen: BTreeSet::new(),
            down: BTreeSet::new(),
            leaving: Vec::new(),
            brokers: vec![BrokerState::Running; brokers],
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
            Fault::KillBroker(number)
            | Fault::FreezeBroker(number)
            | Fault::ThawBroker(number)
            | Fault::RelayBroker(number)
            | Fault::StartBroker(number) => self.act_on_broker(number, fault)?,
        }
        Ok(())
    }

    /// The brokers, each with what it has logged.
    pub fn systems(&self) -> impl Iterator<Item = &System> {
        [&self.system].into_iter().chain(&self.others)
    }

    fn broker(&mut self, number: usize) -> &mut System {
        if number == 0 { &mut self.system } else { &mut self.others[number - 1] }
    }

    fn act_on_broker(&mut self, number: usize, fault: Fault) -> Result<()> {
        if self.brokers[number] == BrokerState::Finishing {
            // It takes longer than planned. Its successor comes as soon as it has finished.
            return self.journal.note(Instant::now(), "not done: the broker is finishing");
        }
        let name = broker(number);
        match fault {
            Fault::KillBroker(_) => {
                self.journal.stalls(&name);
                self.broker(number).kill_broker()?;
                self.brokers[number] = BrokerState::Down;
            }
            Fault::FreezeBroker(_) => {
                self.journal.stalls(&name);
                self.broker(number).broker().signal(Signal::SIGSTOP)?;
                self.brokers[number] = BrokerState::Frozen;
            }
            Fault::ThawBroker(_) => {
                self.broker(number).broker().signal(Signal::SIGCONT)?;
                self.brokers[number] = BrokerState::Running;
                self.journal.resumes(&name, Duration::ZERO);
            }
            Fault::RelayBroker(_) => {
                self.journal.stalls(&name);
                self.broker(number).broker().signal(Signal::SIGTERM)?;
                self.brokers[number] = BrokerState::Finishing;
            }
            _ if self.brokers[number] == BrokerState::Down => self.start_broker(number)?,
            _ => {}
        }
        Ok(())
    }

    fn start_broker(&mut self, number: usize) -> Result<()> {
        self.broker(number).start_broker()?;
        self.journal.note(Instant::now(), &format!("{} listens", broker(number)))?;
        self.journal.resumes(&broker(number), RECONNECTED_AFTER);
        self.brokers[number] = BrokerState::Running;
        self.lives += 1;
        Ok(())
    }

    /// Replaces what has ended in order. An error if something has ended that should not have.
    pub fn tend(&mut self) -> Result<()> {
        for number in 0..self.brokers.len() {
            let state = self.brokers[number];
            if state == BrokerState::Finishing && !self.broker(number).broker().is_running() {
                let code = self.broker(number).broker().wait()?.code();
                ensure!(code == Some(0), "{}, told to finish, exited with {code:?}", broker(number));
                self.start_broker(number)?;
            }
            let ended = state != BrokerState::Down && !self.broker(number).broker().is_running();
            ensure!(!ended, "{} has ended by itself", broker(number));
        }
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
        for number in 0..self.brokers.len() {
            match self.brokers[number] {
                BrokerState::Running => {}
                BrokerState::Frozen => self.act(Fault::ThawBroker(number))?,
                BrokerState::Down => self.start_broker(number)?,
                BrokerState::Finishing => {
                    self.broker(number).broker().wait()?;
                    self.tend()?;
                }
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

fn broker(number: usize) -> String {
    format!("{BROKER}{number}")
}
