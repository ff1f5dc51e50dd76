//! What the store has done.

use std::sync::Arc;
use std::time::Instant;

use giostra_protocol::{Bytes, JobId, JobState, JobsReply};

use super::Broker;
use super::expected::{Asker, Expected};
use super::part::cost;
use crate::broker::Moment;
use crate::event::Event;
use crate::id_ranges::IdRanges;
use crate::ids::JobNumber;
use crate::store::{Done, JobRecord, Op, Read, Write};

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
            (Done::Exists(record), Expected::Created(job)) => self.job_exists(job, &record),
            (_, Expected::Created(job)) => self.job_created(job),
            (_, Expected::Appended { job, count, closes }) => self.appended(job, count, closes, now),
            (_, Expected::Stored { job, requests, succeeded, failed, finishes }) => {
                self.results_stored(job, requests, (succeeded, failed), finishes);
            }
            (Done::Pending { requests, next, .. }, Expected::Loaded(job)) => self.loaded(job, requests, next, now),
            (Done::Jobs(records), Expected::Looked { asker, id }) => self.answer_look(&asker, id, records.first()),
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
            (_, Expected::Deleted { asker, record }) => {
                self.log(Event::JobDeleted { job: record.job });
                self.answer_look(&asker, self.jobs.id(record.job), Some(&record));
            }
            (_, Expected::Cancelled) => {}
            (done, _) => unreachable!("no answer to what was asked: {done:?}"),
        }
    }

    fn job_created(&mut self, number: JobNumber) {
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        job.is_created = true;
        if job.appended > 0 || job.closes {
            return;
        }
        // What came was not the beginning: it belongs to a job that was deleted meanwhile.
        for asker in std::mem::take(&mut job.submitters) {
            self.refuse_asker(&asker, "the job of this submission is gone: it was deleted");
        }
        self.end_job(number);
        self.log(Event::JobCancelled { job: number });
        self.store(Op::Write(Write::Delete(number)), Expected::Cancelled);
    }

    /// Handles a submission whose job has ended before, so that no other was created.
    fn job_exists(&mut self, number: JobNumber, record: &JobRecord) {
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        let id = JobId { home: self.jobs.home.unwrap_or_default(), number: record.job.0 };
        let submitters = std::mem::take(&mut job.submitters);
        self.log(Event::JobKnown { job: number, id });
        for asker in submitters {
            match record.state {
                JobState::Cancelled => self.refuse_asker(&asker, format!("job {id} of this key was cancelled")),
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
        self.load_appended(number, bodies, now);
    }

    fn results_stored(
        &mut self,
        number: JobNumber,
        requests: IdRanges,
        (succeeded, failed): (u32, u32),
        finishes: bool,
    ) {
        if !requests.is_empty() {
            self.log(Event::ResultsStored { requests });
        }
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        let count = (succeeded + failed) as usize;
        job.unstored -= count;
        job.succeeded += succeeded;
        job.failed += failed;
        self.jobs.in_memory -= count;
        self.jobs.touch(number);
        if finishes {
            self.job_finished(number);
        }
    }

    fn job_finished(&mut self, number: JobNumber) {
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        let (watchers, succeeded, failed) = (std::mem::take(&mut job.watchers), job.succeeded, job.failed);
        self.end_job(number);
        self.log(Event::JobFinished { job: number, succeeded, failed });
        for asker in watchers {
            let id = self.jobs.id(number);
            self.store(Op::Read(Read::Job(number)), Expected::Looked { asker, id });
        }
    }

    fn loaded(&mut self, number: JobNumber, requests: Vec<(u32, Bytes)>, next: Option<u32>, now: Moment) {
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        job.is_loading = false;
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
            Some(record) if record.state.has_ended() => {
                let expected = Expected::Deleted { asker, record: record.clone().into() };
                self.store(Op::Write(Write::Delete(record.job)), expected);
            }
            Some(_) => self.refuse_asker(&asker, format!("job {id} has not ended; cancel it first")),
            None => self.refuse_unknown(&asker, id),
        }
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
