//! What a seed draws before its run begins: settings, a crowd, and which faults there are to be.

use std::time::Duration;

use giostra_core::config::Settings;
use giostra_core::policy::rotation::Rotation;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use crate::BROKERS;
use crate::faults::Fault;

/// A millisecond, in the microseconds in which the simulation counts.
pub const MS: u64 = 1000;

/// A run's own source of chance.
pub struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// That of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A number from `from` to `to`, both included.
    pub fn range(&mut self, from: u64, to: u64) -> u64 {
        self.0.random_range(from..=to)
    }

    /// Any index of something with `len` places.
    pub fn index(&mut self, len: usize) -> usize {
        self.0.random_range(0..len)
    }

    /// Yes, once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.range(1, times) == 1
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// Any number at all.
    pub fn any(&mut self) -> u64 {
        self.0.random()
    }
}

/// What a run is like. Times in microseconds.
pub struct Plan {
    /// How many brokers there are. Each knows nothing of the others.
    pub brokers: usize,
    /// After how long a client of several brokers gives up one that is silent.
    pub heartbeat: u64,
    /// What the core goes by.
    pub settings: Settings,
    /// How many pools there are.
    pub pools: usize,
    /// How many workers there are at the beginning.
    pub workers: usize,
    /// How many clients there are.
    pub clients: usize,
    /// The most messages that the shell takes from one side in one turn.
    pub messages_a_turn: usize,
    /// How long a worker computes, at most.
    pub computing: u64,
    /// Kills the worker that computes one in this many requests; 0: none.
    pub poison: u64,
    /// Gives one in this many requests a time limit; 0: none.
    pub limits: u64,
    /// Between two batches of a client, at most.
    pub submit_every: u64,
    /// Whether no worker is lost but in order, or by a connection that is soon made anew.
    pub orderly: bool,
    /// The faults that may happen.
    pub faults: Vec<Fault>,
    /// Between two faults, at most.
    pub fault_every: u64,
    /// When the faults stop.
    pub calm_at: u64,
}

impl Plan {
    /// Draws one.
    pub fn draw(dice: &mut Dice) -> Self {
        let brokers = dice.one_of(BROKERS);
        let pools = dice.one_of(&[1, 1, 2, 3]);
        let mut faults: Vec<_> = Fault::ALL.into_iter().filter(|_| dice.once_in(2)).collect();
        if faults.is_empty() {
            faults.push(Fault::Crash);
        }
        let (orderly, mut settings) = (dice.once_in(10), Self::settings(dice));
        if orderly {
            settings.await_return = Duration::from_millis(500);
            faults.retain(|fault| fault.is_orderly());
            // A worker that leaves while its connection breaks has not been heard.
            faults.push(dice.one_of(&[Fault::Break, Fault::Leave]));
            if faults.last() == Some(&Fault::Break) {
                // Nor has one that a broker drains, by the others.
                faults.retain(|fault| *fault != Fault::Leave && (*fault != Fault::Drain || brokers == 1));
            }
        }
        Self {
            brokers,
            heartbeat: dice.one_of(&[150, 400]) * MS,
            settings,
            orderly,
            pools,
            workers: pools + dice.index(5),
            clients: 1 + dice.index(3),
            messages_a_turn: dice.one_of(&[16, 32, 256]),
            computing: dice.one_of(&[2 * MS, 10 * MS, 40 * MS]),
            poison: if orderly { 0 } else { dice.one_of(&[0, 0, 30, 100]) },
            limits: dice.one_of(&[0, 0, 2, 10]),
            submit_every: dice.one_of(&[30 * MS, 100 * MS, 200 * MS]),
            faults,
            fault_every: dice.one_of(&[20 * MS, 50 * MS, 150 * MS]),
            // Mostly short, so that there are many: what a run is like differs more from one to the
            // next than its first second from its second. Some are long.
            calm_at: dice.one_of(&[50, 100, 200, 400, 1600]) * MS,
        }
    }

    fn settings(dice: &mut Dice) -> Settings {
        Settings {
            ping_interval: Duration::from_millis(dice.one_of(&[100, 150, 300])),
            ping_max_out: dice.one_of(&[1, 2, 3]),
            max_attempts: dice.one_of(&[1, 2, 3, 3, 5]),
            await_return: Duration::from_millis(dice.one_of(&[5, 50, 500])),
            max_pending: dice.one_of(&[3, 20, 1_000_000, 1_000_000]),
            max_pending_bytes: dice.one_of(&[40, 400, 1 << 30, 1 << 30]),
            max_client_pending: dice.one_of(&[2, 10, usize::MAX, usize::MAX, usize::MAX]),
            window: dice.one_of(&[1, 2, 4, 64]),
            freed_at_once: dice.one_of(&[1, 2, 5, 4096]),
            hold: Duration::from_millis(dice.one_of(&[0, 1, 20])),
            rotation: dice.one_of(&[Rotation::Strict, Rotation::Strict, Rotation::Available]),
            coalesce: Duration::from_micros(dice.one_of(&[0, 50, 5000])),
            // Sometimes shortly before the numbers end.
            first_ticket: if dice.once_in(8) { u64::MAX - dice.range(0, 50) } else { dice.any() },
            ..Settings::default()
        }
    }
}
