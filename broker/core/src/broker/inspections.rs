//! The clients that have asked for the status, and the time of the next one.
//!
//! A status walks through all workers, clients and pools. So one is made for all clients that have
//! asked, and the pause before the next grows with its size: a small system answers at once, a
//! crowd gets four a second.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use giostra_protocol::Identity;
use giostra_protocol::Status;

use super::{Broker, Output};

/// The pause after a status for each worker, client and pool in it: some fifty times the time that
/// it takes to make and write that part.
const PAUSE_EACH: Duration = Duration::from_micros(100);

/// The shortest and the longest pause.
const PAUSE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(250)];

/// Clients that have asked and have no answer yet.
#[derive(Debug, Default)]
pub(super) struct Inspections {
    /// In the order in which they asked.
    askers: Vec<Identity>,
    known: HashSet<Identity>,
    /// The time before which no status is made.
    next: Option<Instant>,
}

impl Inspections {
    /// Records a question. A client that asks again before the answer gets one answer.
    pub fn ask(&mut self, from: &Identity) {
        if self.known.insert(from.clone()) {
            self.askers.push(from.clone());
        }
    }

    /// Returns when the next answer is due, if there are questions.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.askers.is_empty() { None } else { self.next }
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.askers.is_empty() && self.next.is_none_or(|next| next <= now)
    }

    fn answer(&mut self, status: &Status, now: Instant) -> Vec<Identity> {
        let members = status.workers.len() + status.clients.len() + status.pool_totals.len();
        let pause = PAUSE_EACH.saturating_mul(members.try_into().unwrap_or(u32::MAX));
        self.next = Some(now + pause.clamp(PAUSE[0], PAUSE[1]));
        self.known.clear();
        std::mem::take(&mut self.askers)
    }
}

impl Broker {
    /// Answers all questions, if it is time.
    pub(super) fn answer_inspections(&mut self, now: Instant) {
        if !self.inspections.is_due(now) {
            return;
        }
        let status = Box::new(self.status(now));
        let mut askers = self.inspections.answer(&status, now);
        askers.retain(|asker| self.client_of.contains_key(asker));
        self.outputs.push_back(Output::Status(askers, status));
    }
}
