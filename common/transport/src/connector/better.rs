//! Going back to a broker that is listed before the one in use, once it is there again.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{Connector, Error};
use crate::endpoint::Endpoint;
use crate::greeting;
use crate::socket::LINGER;

/// The time from one look to the next, and the longest such time: it doubles each time that a broker
/// was gone back to, so that one that comes and goes disturbs less and less.
const EVERY: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(300)];

/// How long after a look what it found counts.
const FRESH: Duration = Duration::from_secs(2);

/// The time from one look at the answer of a look to the next.
const PULSE: Duration = Duration::from_millis(100);

/// What a look has found: the place of a broker in the list, and when.
type Found = (usize, Instant);

/// The looks for a better broker, each in a thread of its own.
#[derive(Debug)]
pub struct Better {
    every: Duration,
    /// When to look next; `None` while the first broker is in use.
    look_at: Option<Instant>,
    /// When to see what the look that is under way has found.
    see_at: Option<Instant>,
    found: Option<Found>,
    answers: Receiver<Option<Found>>,
    sender: Sender<Option<Found>>,
}

impl Default for Better {
    fn default() -> Self {
        let (sender, answers) = channel();
        Self { every: EVERY[0], look_at: None, see_at: None, found: None, answers, sender }
    }
}

impl Better {
    /// Takes what was found, and looks when it is time. `better` are the brokers before the one in use.
    fn poll(&mut self, better: &[Endpoint], now: Instant) -> Option<usize> {
        match self.answers.try_recv() {
            Ok(found) => (self.found, self.see_at) = (found, None),
            Err(_) if self.see_at.is_some() => self.see_at = Some(now + PULSE),
            Err(_) => {}
        }
        self.found.take_if(|&mut (broker, at)| broker >= better.len() || at + FRESH <= now);
        if better.is_empty() {
            self.look_at = None;
        } else if *self.look_at.get_or_insert(now + self.every) <= now && self.see_at.is_none() {
            self.look_at = Some(now + self.every);
            if self.look(better.to_vec()) {
                self.see_at = Some(now + PULSE);
            }
        }
        self.found.map(|(broker, _)| broker)
    }

    /// Begins to look; returns whether there is a thread for it.
    fn look(&self, better: Vec<Endpoint>) -> bool {
        let sender = self.sender.clone();
        let look = move || {
            let is_there = |endpoint: &Endpoint| greeting::uses_keys(endpoint, greeting::TIMEOUT).is_ok();
            let found = better.iter().position(is_there);
            // Nobody listens once the connection was given up.
            let _ = sender.send(found.map(|broker| (broker, Instant::now())));
        };
        thread::Builder::new().name("better".into()).spawn(look).is_ok()
    }
}

impl Connector {
    /// Returns whether a broker that is listed before the one in use is there again. It is looked for
    /// from time to time, as long as this is called.
    pub fn has_better(&mut self, now: Instant) -> bool {
        let used = self.route.current().filter(|_| self.is_up()).map_or(0, |(broker, _)| broker);
        self.better.poll(&self.brokers[..used], now).is_some()
    }

    /// When to call [`Self::has_better`] next.
    pub fn better_timeout(&self) -> Option<Instant> {
        self.better.see_at.or(self.better.look_at)
    }

    /// Goes back to the broker that [`Self::has_better`] found. What was sent still goes out.
    pub fn go_back(&mut self, now: Instant) -> Result<(), Error> {
        if let Some((broker, _)) = self.better.found.take() {
            self.better.every = (2 * self.better.every).min(EVERY[1]);
            self.better.look_at = None;
            self.route.aim(broker);
            self.lost(now);
            self.replace(now, LINGER)?;
        }
        Ok(())
    }
}
