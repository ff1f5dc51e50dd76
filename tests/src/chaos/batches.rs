//! `giostra random` processes of a fault hunt: some are killed, the others must end well.

use std::time::Instant;

use anyhow::Result;
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::load::{BROKER_TIMEOUT, Tally};
use super::plan::BATCHES;
use crate::system::{Batch, Finished, System};

/// A few processes at a time; one that ends is followed by another.
pub struct Batches {
    slots: [Option<Running>; BATCHES],
    random: StdRng,
    tally: Tally,
    ended_well: u64,
}

struct Running {
    batch: Batch,
    args: String,
    count: u64,
    /// Whether some of its requests are to expire.
    limited: bool,
}

impl Batches {
    /// None yet; what they are to do is drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(!seed);
        Self { slots: [const { None }; BATCHES], random, tally: Tally::default(), ended_well: 0 }
    }

    /// Judges those that have ended, and starts others in their places.
    pub fn tend(&mut self, system: &mut System) -> Result<()> {
        self.judge_ended()?;
        for slot in 0..BATCHES {
            if self.slots[slot].is_none() {
                self.slots[slot] = Some(self.begin(slot, system)?);
            }
        }
        Ok(())
    }

    /// Sends a signal to one of them, if it runs.
    pub fn signal(&mut self, slot: usize, signal: Signal) -> Result<()> {
        if let Some(running) = &mut self.slots[slot]
            && running.batch.process().is_running()
        {
            running.batch.process().signal(signal)?;
            if signal == Signal::SIGKILL {
                // What it was waiting for is nobody's loss.
                self.slots[slot] = None;
            }
        }
        Ok(())
    }

    /// Waits for those that run. What is not answered by then is lost.
    pub fn finish(&mut self, by: Instant) -> Result<Tally> {
        while Instant::now() < by && self.slots.iter().any(Option::is_some) {
            self.judge_ended()?;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        for running in self.slots.iter_mut().filter_map(Option::take) {
            self.tally.lost += running.count;
            self.tally.trouble(format!("giostra {} did not end", running.args));
        }
        Ok(std::mem::take(&mut self.tally))
    }

    /// How many have ended by themselves, with all well.
    pub fn ended_well(&self) -> u64 {
        self.ended_well
    }

    fn begin(&mut self, slot: usize, system: &mut System) -> Result<Running> {
        // The last one is the one with the short time limit.
        let limited = slot == BATCHES - 1;
        let (window, count) = match self.random.random_range(0..3) {
            0 => (1, self.random.random_range(100..1000)),
            1 => (64, self.random.random_range(1000..20_000)),
            _ => (4096, self.random.random_range(10_000..100_000)),
        };
        let seed: u32 = self.random.random();
        let mut args =
            format!("random {count} --json --window {window} --seed {seed} --broker-timeout {BROKER_TIMEOUT:?}");
        if limited {
            args += &format!(" --timeout {}ms", self.random.random_range(1..100));
        }
        let batch = system.begin(&args.split(' ').collect::<Vec<_>>())?;
        Ok(Running { batch, args, count, limited })
    }

    fn judge_ended(&mut self) -> Result<()> {
        for slot in 0..BATCHES {
            if let Some(mut running) = self.slots[slot].take() {
                if running.batch.process().is_running() {
                    self.slots[slot] = Some(running);
                    continue;
                }
                let (args, limited) = (running.args, running.limited);
                let finished = running.batch.finish()?;
                if !self.judge(&finished, limited)? {
                    self.tally.trouble(format!("giostra {args}: {finished:?}"));
                }
            }
        }
        Ok(())
    }

    /// Whether it ended as it should.
    fn judge(&mut self, finished: &Finished, limited: bool) -> Result<bool> {
        let summary = finished.json()?;
        let number = |key: &str| summary[key].as_u64().unwrap_or(u64::MAX);
        let [sent, lost, duplicated, wrong] = ["sent", "unanswered", "duplicated", "wrong"].map(number);
        let expired = ["expired", "no-broker"].iter().filter_map(|code| summary["errors"][code].as_u64()).sum();
        let wrong = wrong + number("failed") - if limited { expired } else { 0 };
        self.tally.requests += sent;
        self.tally.lost += lost;
        self.tally.duplicated += duplicated;
        self.tally.wrong += wrong;
        self.tally.expired += expired;
        self.tally.redispatched += number("redispatched");
        let code = if limited && expired > 0 { 1 } else { 0 };
        let well = [lost, duplicated, wrong] == [0; 3] && finished.code == Some(code);
        self.ended_well += u64::from(well);
        Ok(well)
    }
}
