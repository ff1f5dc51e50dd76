//! The clients that have asked for the status, and the time of the next one.
//!
//! A status walks through all workers, clients and pools. So one is made for all clients that have
//! asked, and the pause before the next grows with its size: a small system answers at once, a
//! crowd gets four a second.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use giostra_protocol::Identity;

use super::{Broker, Output};

/// The pause after a status for each worker, client and pool in it: some fifty times the time that
/// it takes to make and write that part.
const PAUSE_EACH: Duration = Duration::from_micros(100);

/// The shortest and the longest pause.
const PAUSE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(250)];

/// Clients that have asked for the status and have no answer yet.
#[derive(Debug, Default)]
pub(super) struct Inspections {
    /// In an order that depends on no hash.
    askers: BTreeSet<Identity>,
    /// The time before which no status is made.
    next: Option<Instant>,
}

impl Inspections {
    /// Records a question. A client that asks again before the answer gets one answer.
    pub fn ask(&mut self, from: &Identity) {
        self.askers.insert(from.clone());
    }

    /// Returns when the next answer is due, if there are questions.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.askers.is_empty() { None } else { self.next }
    }
}

impl Broker {
    /// Answers all questions, if it is time.
    pub(super) fn answer_inspections(&mut self, now: Instant) {
        if self.inspections.askers.is_empty() || self.inspections.next.is_some_and(|next| now < next) {
            return;
        }
        let status = Box::new(self.status(now));
        let members = status.workers.len() + status.clients.len() + status.pool_totals.len();
        let pause = PAUSE_EACH.saturating_mul(members.try_into().unwrap_or(u32::MAX));
        self.inspections.next = Some(now + pause.clamp(PAUSE[0], PAUSE[1]));
        let mut askers = std::mem::take(&mut self.inspections.askers);
        askers.retain(|asker| self.clients.find(asker).is_some());
        self.outputs.push_back(Output::Status(askers.into_iter().collect(), status));
    }
}
