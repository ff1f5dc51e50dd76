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
        let mut askers = std::mem::take(&mut self.inspections.askers);
        askers.retain(|asker| self.clients.find(asker).is_some());
        let (whole, limited): (Vec<_>, Vec<_>) = askers.into_iter().partition(|asker| self.may_administer(asker));
        let mut members = 0;
        if !whole.is_empty() {
            let status = Box::new(self.status(now));
            members += status.workers.len() + status.clients.len() + status.pool_totals.len();
            self.outputs.push_back(Output::Status(whole, status));
        }
        if !limited.is_empty() {
            let status = Box::new(self.limited_status(now));
            // It counts what the workers hold.
            members += self.workers.len() + status.pools.len();
            self.outputs.push_back(Output::Status(limited, status));
        }
        let pause = PAUSE_EACH.saturating_mul(members.try_into().unwrap_or(u32::MAX));
        self.inspections.next = Some(now + pause.clamp(PAUSE[0], PAUSE[1]));
    }

    fn may_administer(&self, client: &Identity) -> bool {
        self.clients.find(client).is_some_and(|number| self.clients[&number].rights.administer)
    }
}
