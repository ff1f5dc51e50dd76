//! A store without room: new requests are refused, and what else there is to write waits.

use std::sync::Arc;
use std::time::Duration;

use super::expected::Expected;
use super::part::cost;
use super::{Broker, Moment};
use crate::event::Event;
use crate::ids::JobNumber;
use crate::store::{Op, Write};

/// The time after which what had no room is written again.
const PAUSE: Duration = Duration::from_secs(1);

/// Writes for which there was no room, and which nobody would make again.
#[derive(Default)]
pub(super) struct Deferred {
    writes: Vec<(Write, Expected)>,
    until: Moment,
    /// Whether the log knows that there is no room.
    is_logged: bool,
}

impl Deferred {
    /// Returns when they are to be written again.
    pub fn due(&self) -> Option<Moment> {
        (!self.writes.is_empty()).then_some(self.until)
    }

    /// Notes that there was room.
    pub fn has_room(&mut self) {
        self.is_logged = false;
    }
}

impl Broker {
    /// Handles a write for which the store has no room. Results wait; clients are told.
    pub(super) fn no_room(&mut self, write: Write, expected: Expected, reason: &Arc<str>, now: Moment) {
        if !std::mem::replace(&mut self.jobs.deferred.is_logged, true) {
            self.log(Event::StoreFull { reason: Arc::clone(reason) });
        }
        match expected {
            Expected::Created(number) => self.refuse_new_job(number, reason),
            Expected::Appended { job, .. } => self.refuse_requests(job, reason),
            Expected::Deleted { asker, .. } | Expected::Retried { asker, .. } => self.refuse_asker(&asker, &**reason),
            Expected::Stored { .. } | Expected::Cancelled { .. } | Expected::Discarded => {
                self.jobs.deferred.writes.push((write, expected));
                self.jobs.deferred.until = now.after(PAUSE);
            }
            // What is known of attempts is written again when it changes; a job that is not to be kept
            // is found again.
            _ => {}
        }
    }

    /// Writes again what had no room.
    pub(super) fn store_deferred(&mut self, now: Moment) {
        if self.jobs.deferred.due().is_some_and(|due| due <= now) {
            for (write, expected) in std::mem::take(&mut self.jobs.deferred.writes) {
                self.store(Op::Write(write), expected);
            }
        }
    }

    fn refuse_new_job(&mut self, number: JobNumber, reason: &Arc<str>) {
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        let submitters = std::mem::take(&mut job.submitters);
        submitters.iter().for_each(|asker| self.refuse_asker(asker, &**reason));
        self.end_job(number);
        self.log(Event::JobCancelled { job: number });
    }

    /// Refuses requests on their way to the store, all of them: the later ones follow a gap, and the
    /// store refuses them, too. The job stays open.
    fn refuse_requests(&mut self, number: JobNumber, reason: &Arc<str>) {
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        if job.refused > 0 {
            job.refused -= 1;
            return;
        }
        job.refused = job.coming.len() - 1;
        let refused: usize = job.coming.drain(..).map(|bodies| cost(&bodies)).sum();
        (job.appended, job.closes) = (job.stored, job.is_closed);
        let submitters = std::mem::take(&mut job.submitters);
        self.jobs.coming_bytes -= refused;
        submitters.iter().for_each(|asker| self.refuse_asker(asker, &**reason));
    }
}
