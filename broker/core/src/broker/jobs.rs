//! Durable jobs: sets of requests that outlive their client and their broker.
//!
//! The store keeps what a client submitted and what workers answered; this module decides what to
//! store and when. A submission is acknowledged once it is stored, a result counts once it is
//! stored. In between, a job is to the rest of the core what a client is: a [`Source`] of requests,
//! with its turns in the pool's queue.
//!
//! Of a long job only a slice is in memory: when few of its requests are left, the next are read
//! from the store. After a restart the slice begins anew, with the first request that has no result.

mod asking;
mod expected;
mod full;
mod job;
mod part;
mod retries;
mod slices;
mod snapshot;
mod stored;
mod submitting;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use giostra_protocol::name::Label;
use giostra_protocol::{JobId, JobSpec, JobTotals, JobsReply, Outcome, Reply, RequestId, ToClient, Trace};

use super::records::{Account, Request};
use super::{Broker, Moment, Output};
use crate::event::Event;
use crate::ids::{JobNumber, Source};
use crate::stats::pace::Pace;
use crate::store::{JobRecord, Op, Restored};

use expected::{Asker, Expected};
use full::Deferred;
use job::Job;
use retries::Retries;

/// The jobs that are open or running, and what the store has been asked.
#[derive(Default)]
pub(super) struct Jobs {
    /// The store's number; `None` if this broker keeps no jobs.
    home: Option<u32>,
    /// Why the store is out of order, if it is.
    failed: Option<Arc<str>>,
    last: u64,
    table: BTreeMap<JobNumber, Job>,
    by_key: HashMap<SubmissionKey, JobNumber>,
    /// What the store has not answered yet, in the order of the questions.
    expected: VecDeque<Expected>,
    /// Writes for which there was no room.
    deferred: Deferred,
    /// Requests that failed and are to be computed again.
    retries: Retries,
    /// Jobs with replies to store or with room for more requests.
    touched: Vec<JobNumber>,
    /// Jobs that have room for more requests while there is none for all.
    hungry: VecDeque<JobNumber>,
    /// Requests in memory, and results that are not stored yet.
    in_memory: usize,
    /// What requests that are not stored yet take, in bytes.
    coming_bytes: usize,
    /// What the store said of the job whose results it is to say next.
    collected: Option<JobRecord>,
    /// When the store is asked next which jobs are not to be kept any longer.
    next_expiry: Moment,
    /// The number of requests that an earlier life of the broker has dispatched, and that were loaded.
    lost_before: u64,
    totals: JobTotals,
}

/// What identifies a submission: its owner, its pool and its key.
type SubmissionKey = (Label, String, String);

impl Jobs {
    /// Returns the account of a job.
    pub(super) fn account(&mut self, of: Source) -> Option<&mut Account> {
        self.table.get_mut(&of.job()?).map(|job| &mut job.account)
    }

    /// Removes a request from its job's account. Adds the reply to what is to be stored, or the
    /// request to those that are to be computed again.
    pub(super) fn close_request(&mut self, request: &Request, reply: Option<(Outcome, Trace)>) {
        let Some(number) = request.source.job() else { return };
        let Some(job) = self.table.get_mut(&number) else { return };
        job.account.unanswered.remove(request.id);
        job.account.bytes -= request.body.len();
        match reply {
            Some((Outcome::Error(failure), _)) if job.may_retry(request.id, &failure) => {
                job.fails(request.id, request.body.clone());
            }
            Some((outcome, trace)) => {
                job.forget_attempts(request.id);
                job.account.replies.push(Reply { id: request.id, outcome, trace });
            }
            None => self.in_memory -= 1,
        }
        self.touch(number);
    }

    /// Notes how many lost workers count against a request, if it is a job's: the next life of the
    /// broker has to know.
    pub(super) fn note_losses(&mut self, of: Source, id: RequestId, lost: usize) {
        let Some(number) = of.job() else { return };
        if let Some(job) = self.table.get_mut(&number) {
            job.loses_workers(id, lost);
            self.touch(number);
        }
    }

    /// Returns when [`Broker::handle_due_jobs`] is to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        if self.home.is_none() || self.failed.is_some() {
            return None;
        }
        [Some(self.next_expiry), self.deferred.due(), self.retries.due()].into_iter().flatten().min()
    }

    fn touch(&mut self, number: JobNumber) {
        if let Some(job) = self.table.get_mut(&number).filter(|job| !job.is_touched) {
            job.is_touched = true;
            self.touched.push(number);
        }
    }

    /// The store's number; `None` if this broker keeps no jobs.
    pub(super) fn home(&self) -> Option<u32> {
        self.home
    }

    fn id(&self, job: JobNumber) -> JobId {
        JobId { home: self.home.unwrap_or_default(), number: job.0 }
    }

    /// For [`Broker::check`]: the sums agree with the jobs.
    pub(super) fn check(&self) {
        let jobs = self.table.values();
        assert_eq!(self.in_memory, jobs.clone().map(Job::in_memory).sum::<usize>(), "requests of jobs in memory");
        let coming = jobs.clone().flat_map(|job| &job.coming).map(|bodies| part::cost(bodies)).sum::<usize>();
        assert_eq!(self.coming_bytes, coming, "bytes on their way to the store");
        assert!(self.by_key.len() <= self.table.len());
        for (number, job) in &self.table {
            assert!(job.loaded <= job.stored && job.stored <= job.appended, "{number}");
            assert!(job.failing.is_empty(), "{number} has failures that nobody retries");
        }
        self.retries.check(&self.table);
    }

    /// Iterates over the accounts, for the self-check.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (Source, &Account)> {
        self.table.iter().map(|(&number, job)| (number.into(), &job.account))
    }
}

impl Broker {
    /// Keeps jobs from now on, beginning with those of the store.
    #[must_use]
    pub fn with_store(mut self, restored: Restored) -> Self {
        self.jobs.home = Some(restored.home);
        self.jobs.last = restored.last_job;
        self.jobs.totals.restored = restored.jobs.len() as u64;
        for record in restored.jobs {
            let number = record.job;
            let event = Event::JobRestored { job: number, id: self.jobs.id(number), requests: record.requests };
            self.log(event);
            // The broker's start.
            self.go_on_with(&record, Moment::default());
        }
        self
    }

    /// Goes on with a job that the store has.
    fn go_on_with(&mut self, record: &JobRecord, now: Moment) {
        let key = (record.owner.clone(), record.spec.pool.clone(), record.spec.key.clone());
        self.jobs.by_key.insert(key, record.job);
        self.jobs.table.insert(record.job, Job::restored(record, Pace::since(now.millis())));
        self.jobs.touch(record.job);
    }

    /// Does for jobs what is due.
    pub(super) fn handle_due_jobs(&mut self, now: Moment) {
        if self.jobs.poll_timeout().is_some_and(|due| due <= now) {
            self.store_deferred(now);
            self.retry_due(now);
            self.expire_jobs(now);
        }
    }

    fn store(&mut self, op: Op, expected: Expected) {
        self.jobs.expected.push_back(expected);
        self.outputs.push_back(Output::Store(op));
    }

    fn answer(&mut self, asker: &Asker, reply: JobsReply) {
        if self.clients.find(&asker.identity).is_some() {
            let message = ToClient::Jobs { tag: asker.tag, reply };
            self.outputs.push_back(Output::ToClient(asker.identity.clone(), message));
        }
    }

    /// Refuses to say anything of a job, in the same words whether it is another's or not there.
    fn refuse_unknown(&mut self, asker: &Asker, id: JobId) {
        self.refuse_asker(asker, format!("there is no job {id} here, or it is another client's"));
    }

    fn refuse_asker(&mut self, asker: &Asker, reason: impl Into<String>) {
        self.answer(asker, JobsReply::Refused { reason: reason.into() });
    }
}

/// Returns what identifies a submission.
fn key_of(owner: Label, spec: &JobSpec) -> SubmissionKey {
    (owner, spec.pool.clone(), spec.key.clone())
}
