//! What the store has done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, JobId, JobState, JobsReply};

use super::Broker;
use super::expected::{Asker, Expected};
use super::part::cost;
use crate::broker::Moment;
use crate::event::Event;
use crate::id_ranges::IdRanges;
use crate::ids::JobNumber;
use crate::stats::pace::Pace;
use crate::store::{Attempts, Done, JobRecord, Op, Read, Write};

/// The store is asked for jobs that are not to be kept any longer when the next one is known not to be,
/// but after this time at most, as clocks are set, and at least, as there may be many.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);
const EXPIRY_PAUSE: Duration = Duration::from_secs(1);

/// How many of them are deleted at a time.
const EXPIRED_AT_ONCE: usize = 100;

impl Broker {
    /// Handles the store's answer to the first [`Output::Store`](super::Output::Store) that has none
    /// yet.
    ///
    /// # Panics
    /// If the store was asked nothing.
    pub fn handle_stored(&mut self, done: Done, now: Instant) {
        let now = self.moment(now);
        let expected = self.jobs.expected.pop_front().expect("the store answers what it was asked");
        match (done, expected) {
            (Done::Failed(reason), expected) => self.store_failed(&reason, &expected),
            (Done::Full { write, reason }, expected) => self.no_room(*write, expected, &reason, now),
            (Done::Exists(record), Expected::Created(job)) => self.job_exists(job, &record),
            (_, Expected::Created(job)) => self.job_created(job, now),
            (_, Expected::Appended { job, count, closes }) => self.appended(job, count, closes, now),
            (_, Expected::Stored { job, requests, succeeded, failed }) => {
                self.results_stored(job, requests, (succeeded, failed), now);
            }
            (Done::Pending { requests, attempts, next }, Expected::Loaded(job)) => {
                self.loaded(job, requests, attempts, next, now);
            }
            (Done::Jobs(records), Expected::Looked { asker, id }) => self.answer_look(&asker, id, records.first()),
            (Done::Jobs(records), Expected::Ended { watchers, id }) => {
                watchers.iter().for_each(|asker| self.answer_look(asker, id, records.first()));
            }
            (Done::Jobs(records), Expected::Listed(asker)) => {
                let jobs = records.iter().map(|record| self.job_status(record)).collect();
                self.answer(&asker, JobsReply::Jobs(jobs));
            }
            (Done::Jobs(records), Expected::ToCollect) => self.jobs.collected = records.into_iter().next(),
            (Done::Results { results, failed }, Expected::Collected { asker, id }) => {
                match self.jobs.collected.take().filter(|record| asker.may_see(&record.owner)) {
                    Some(record) => {
                        let job = self.job_status(&record);
                        self.answer(&asker, JobsReply::Results { job, results, failed });
                    }
                    None => self.refuse_unknown(&asker, id),
                }
            }
            (Done::Jobs(records), Expected::ToDelete { asker, id }) => self.delete_job(asker, id, records),
            (Done::Jobs(records), Expected::ToRetry { asker, id }) => self.retry_job(asker, id, records),
            (Done::Jobs(records), Expected::Retried { asker, id }) => {
                self.job_resumed(&asker, id, records.first(), now);
            }
            (Done::Expired { jobs, next_ms }, Expected::ToExpire) => self.delete_expired(&jobs, next_ms, now),
            (_, Expected::Expired(job)) => self.job_deleted(job),
            (_, Expected::Deleted { asker, record }) => {
                self.job_deleted(record.job);
                self.answer_look(&asker, self.jobs.id(record.job), Some(&record));
            }
            (_, Expected::Cancelled { keep_ms }) => self.job_ended(keep_ms, now),
            (_, Expected::Discarded | Expected::Attempts) => {}
            (done, _) => unreachable!("no answer to what was asked: {done:?}"),
        }
    }

    fn job_created(&mut self, number: JobNumber, now: Moment) {
        self.jobs.totals.submitted += 1;
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        job.is_created = true;
        job.pace = Pace::since(now.millis());
        if job.appended > 0 || job.closes {
            return;
        }
        // What came was not the beginning: it belongs to a job that was deleted meanwhile.
        for asker in std::mem::take(&mut job.submitters) {
            self.refuse_asker(&asker, "the job of this submission is gone: it was deleted");
        }
        self.end_job(number);
        self.log(Event::JobCancelled { job: number });
        self.store(Op::Write(Write::Delete(number)), Expected::Discarded);
    }

    /// Handles a submission whose job has ended before, so that no other was created.
    fn job_exists(&mut self, number: JobNumber, record: &JobRecord) {
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        let id = JobId { home: self.jobs.home.unwrap_or_default(), number: record.job.0 };
        let submitters = std::mem::take(&mut job.submitters);
        self.log(Event::JobKnown { job: number, id });
        let state = self.state_of(record);
        for asker in submitters {
            match state {
                JobState::Cancelled => {
                    self.refuse_asker(&asker, format!("job {id} of this key was cancelled"));
                }
                _ => self.answer(&asker, JobsReply::Accepted { id, requests: record.requests, closed: true }),
            }
        }
        self.end_job(number);
    }

    fn appended(&mut self, number: JobNumber, count: u32, closes: bool, now: Moment) {
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        let bodies = job.coming.pop_front().unwrap_or_default();
        self.jobs.coming_bytes -= cost(&bodies);
        let first = job.stored;
        job.stored += count;
        job.is_closed |= closes;
        let (requests, closed, submitters) = (job.stored, job.is_closed, job.submitters.clone());
        let reply = JobsReply::Accepted { id: self.jobs.id(number), requests, closed };
        self.log(Event::JobSaved { job: number, first, count, closed: closes });
        for asker in &submitters {
            self.answer(asker, reply.clone());
        }
        self.jobs.totals.saved += u64::from(count);
        self.jobs.deferred.has_room();
        self.load_appended(number, bodies, now);
        self.finish_job(number, now);
    }

    fn results_stored(&mut self, number: JobNumber, requests: IdRanges, (succeeded, failed): (u32, u32), now: Moment) {
        if !requests.is_empty() {
            self.log(Event::ResultsStored { requests });
        }
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        let count = (succeeded + failed) as usize;
        job.unstored -= count;
        job.succeeded += succeeded;
        job.failed += failed;
        job.pace.add(count as u64, now.millis());
        self.jobs.in_memory -= count;
        self.jobs.totals.succeeded += u64::from(succeeded);
        self.jobs.totals.failed += u64::from(failed);
        self.jobs.deferred.has_room();
        self.jobs.touch(number);
        self.finish_job(number, now);
    }

    /// Ends a job if all its results are safe.
    fn finish_job(&mut self, number: JobNumber, now: Moment) {
        let Some(job) = self.jobs.table.get_mut(&number).filter(|job| job.is_finished()) else { return };
        let (watchers, succeeded, failed) = (std::mem::take(&mut job.watchers), job.succeeded, job.failed);
        let keep_ms = job.spec.keep_ms;
        self.job_ended(keep_ms, now);
        self.end_job(number);
        self.jobs.totals.finished += 1;
        self.log(Event::JobFinished { job: number, succeeded, failed });
        self.tell(number, watchers);
    }

    /// Tells those who have waited for its end how far a job is, once the store has said so.
    pub(super) fn tell(&mut self, number: JobNumber, watchers: Vec<Asker>) {
        if !watchers.is_empty() {
            let id = self.jobs.id(number);
            self.store(Op::Read(Read::Job(number)), Expected::Ended { watchers, id });
        }
    }

    fn loaded(
        &mut self,
        number: JobNumber,
        requests: Vec<(u32, Bytes)>,
        attempts: Vec<(u32, Attempts)>,
        next: Option<u32>,
        now: Moment,
    ) {
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        job.is_loading = false;
        job.attempts.extend(attempts);
        // All that was stored before the question has been answered for.
        let loaded = next.unwrap_or(job.stored);
        self.load(number, requests, now);
        if let Some(job) = self.jobs.table.get_mut(&number) {
            job.loaded = loaded;
        }
        self.jobs.touch(number);
    }

    fn delete_job(&mut self, asker: Asker, id: JobId, records: Vec<JobRecord>) {
        match records.into_iter().next().filter(|record| asker.may_see(&record.owner)) {
            Some(record) if self.state_of(&record).has_ended() => {
                let expected = Expected::Deleted { asker, record: record.clone().into() };
                self.store(Op::Write(Write::Delete(record.job)), expected);
            }
            Some(_) => self.refuse_asker(&asker, format!("job {id} has not ended; cancel it first")),
            None => self.refuse_unknown(&asker, id),
        }
    }

    fn job_deleted(&mut self, job: JobNumber) {
        self.jobs.totals.deleted += 1;
        self.log(Event::JobDeleted { job });
    }

    fn retry_job(&mut self, asker: Asker, id: JobId, records: Vec<JobRecord>) {
        match records.into_iter().next().filter(|record| asker.may_see(&record.owner)) {
            Some(record) if record.state != JobState::Finished => {
                let state = self.state_of(&record);
                self.refuse_asker(&asker, format!("job {id} is {state}: only finished jobs can be retried"));
            }
            Some(record) => self.store(Op::Write(Write::Retry(record.job)), Expected::Retried { asker, id }),
            None => self.refuse_unknown(&asker, id),
        }
    }

    fn job_resumed(&mut self, asker: &Asker, id: JobId, record: Option<&JobRecord>, now: Moment) {
        if let Some(record) = record.filter(|record| !record.state.has_ended()) {
            let (job, requests) = (record.job, record.requests);
            let again = requests - record.succeeded - record.failed;
            self.log(Event::JobResumed { job, id: self.jobs.id(job), requests, again });
            self.go_on_with(record, now);
            let unread = self.unread_bytes(job.into());
            self.jobs.table.get_mut(&job).expect("it was just added").account.bytes = unread;
        }
        self.answer_look(asker, id, record);
    }

    /// Looks at the expiry of a job that the store knows to have ended.
    fn job_ended(&mut self, keep_ms: u64, now: Moment) {
        if keep_ms > 0 {
            self.expect_expiry(keep_ms, now);
        }
    }

    /// Has the store asked for a job that expires in so many milliseconds.
    fn expect_expiry(&mut self, ms: u64, now: Moment) {
        let due = now.after(Duration::from_millis(ms).max(EXPIRY_PAUSE));
        self.jobs.next_expiry = self.jobs.next_expiry.min(due);
    }

    /// Asks the store which jobs are not to be kept any longer, if it is time.
    pub(super) fn expire_jobs(&mut self, now: Moment) {
        if self.jobs.next_expiry <= now {
            self.jobs.next_expiry = now.after(EXPIRY_INTERVAL);
            self.store(Op::Read(Read::Expired { limit: EXPIRED_AT_ONCE }), Expected::ToExpire);
        }
    }

    fn delete_expired(&mut self, records: &[JobRecord], next_ms: Option<u64>, now: Moment) {
        for record in records {
            self.store(Op::Write(Write::Delete(record.job)), Expected::Expired(record.job));
        }
        // There may be more than were asked for.
        let more = (records.len() == EXPIRED_AT_ONCE).then_some(0);
        more.or(next_ms).into_iter().for_each(|ms| self.expect_expiry(ms, now));
    }

    /// Ends durable service: what the store holds, another life of the broker will find. Whatever
    /// was not acknowledged is unknown.
    fn store_failed(&mut self, reason: &str, expected: &Expected) {
        if self.jobs.failed.is_none() {
            let reason: Arc<str> =
                format!("the store of jobs is out of order until the broker is restarted: {reason}").into();
            self.jobs.failed = Some(Arc::clone(&reason));
            self.log(Event::StoreFailed { reason });
            let numbers: Vec<_> = self.jobs.table.keys().copied().collect();
            for number in numbers {
                let job = self.jobs.table.get_mut(&number).expect("it was just there");
                let askers: Vec<_> = job.submitters.drain(..).chain(job.watchers.drain(..)).collect();
                self.end_job(number);
                askers.iter().for_each(|asker| self.refuse_failed(asker));
            }
        }
        if let Expected::Ended { watchers, .. } = expected {
            watchers.iter().for_each(|asker| self.refuse_failed(asker));
        }
        if let Some(asker) = expected.asker() {
            self.refuse_failed(asker);
        }
    }

    fn refuse_failed(&mut self, asker: &Asker) {
        if let Some(reason) = self.jobs.failed.clone() {
            self.refuse_asker(asker, &*reason);
        }
    }
}
