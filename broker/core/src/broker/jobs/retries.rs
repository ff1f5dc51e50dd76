//! Requests that failed and are to be computed again, after a pause that doubles each time.

use std::collections::BTreeMap;
use std::time::Duration;

use giostra_protocol::{Bytes, RequestId};

use super::job::Job;
use super::{Broker, Moment};
use crate::config::AT_ONCE;
use crate::event::Event;
use crate::id_ranges::IdRanges;
use crate::ids::JobNumber;

/// The pause before the first time that a request is computed again.
const FIRST: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// The requests, by the time at which they are due.
#[derive(Default)]
pub(super) struct Retries {
    waiting: BTreeMap<(Moment, u64), (JobNumber, u32, Bytes)>,
    /// Distinguishes requests that are due at the same time.
    count: u64,
}

impl Retries {
    /// Returns when the first is due.
    pub fn due(&self) -> Option<Moment> {
        self.waiting.first_key_value().map(|(&(due, _), _)| due)
    }

    fn add(&mut self, due: Moment, job: JobNumber, number: u32, body: Bytes) {
        self.count += 1;
        self.waiting.insert((due, self.count), (job, number, body));
    }

    /// Removes the requests of a job.
    pub fn forget(&mut self, job: JobNumber) {
        self.waiting.retain(|_, &mut (other, ..)| other != job);
    }

    /// For the self-check: each job knows how many of its requests wait.
    pub fn check(&self, jobs: &BTreeMap<JobNumber, Job>) {
        let mut counts: BTreeMap<JobNumber, (usize, usize)> = BTreeMap::new();
        for (job, _, body) in self.waiting.values() {
            let (requests, bytes) = counts.entry(*job).or_default();
            *requests += 1;
            *bytes += body.len();
        }
        for (number, job) in jobs {
            let waiting = counts.remove(number).unwrap_or_default();
            assert_eq!((job.waiting, job.waiting_bytes), waiting, "requests of {number} that wait after a failure");
        }
        assert!(counts.is_empty(), "requests of jobs wait that are gone");
    }
}

impl Broker {
    /// Sets when the requests of a job that have failed in this turn are computed again.
    pub(super) fn schedule_retries(&mut self, number: JobNumber, now: Moment) {
        let Some(job) = self.jobs.table.get_mut(&number).filter(|job| !job.failing.is_empty()) else { return };
        let mut requests = IdRanges::default();
        for (id, body) in std::mem::take(&mut job.failing) {
            let failed = job.attempts.get(&id).map_or(1, |attempts| attempts.failed);
            self.jobs.retries.add(now.after(pause(failed)), number, id, body);
            requests.request(number, RequestId(id.into()));
        }
        self.jobs.totals.retried += requests.len();
        self.log(Event::JobRetries { requests });
    }

    /// Puts the requests that are due back into their pools' queues, some at a time.
    pub(super) fn retry_due(&mut self, now: Moment) {
        let mut due: BTreeMap<JobNumber, Vec<(u32, Bytes)>> = BTreeMap::new();
        for _ in 0..AT_ONCE {
            let Some(first) = self.jobs.retries.waiting.first_entry().filter(|first| first.key().0 <= now) else {
                break;
            };
            let (number, id, body) = first.remove();
            if let Some(job) = self.jobs.table.get_mut(&number) {
                job.waiting -= 1;
                job.waiting_bytes -= body.len();
                self.jobs.in_memory -= 1;
                due.entry(number).or_default().push((id, body));
            }
        }
        for (number, requests) in due {
            self.enqueue(number, requests, now);
        }
    }
}

/// Returns the pause after a request has failed for the `failed`th time.
fn pause(failed: u32) -> Duration {
    FIRST.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        assert_eq!([1, 2, 3, 7, 1_000_000].map(|failed| pause(failed).as_secs()), [1, 2, 4, 60, 60]);
    }
}
