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
mod part;
mod slices;
mod stored;
mod submitting;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use giostra_protocol::name::Label;
use giostra_protocol::{Bytes, JobId, JobSpec, JobState, JobsReply, Outcome, Reply, ToClient, Trace};

use super::records::{Account, Request};
use super::{Broker, Output};
use crate::event::Event;
use crate::ids::{JobNumber, Source};
use crate::store::{JobRecord, Op, Restored};

use expected::{Asker, Expected};

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
}

/// What identifies a submission: owner, pool and key.
type SubmissionKey = (Label, Arc<JobSpec>);

/// A job that is open or running.
#[derive(Default)]
struct Job {
    spec: Arc<JobSpec>,
    owner: Label,
    account: Account,
    /// Whether the store has it.
    is_created: bool,
    /// The number of requests that were handed to the store, and of those that it has.
    appended: u32,
    stored: u32,
    /// Whether the submission is complete, and whether the store knows that.
    closes: bool,
    is_closed: bool,
    /// The bodies of requests on their way to the store, by message.
    coming: VecDeque<Vec<Bytes>>,
    /// The number up to which requests were put into memory or were answered in an earlier life.
    loaded: u32,
    is_loading: bool,
    is_hungry: bool,
    is_touched: bool,
    /// The number of results that were handed to the store, and of those among them that it does not
    /// have yet.
    answered: u32,
    unstored: usize,
    succeeded: u32,
    failed: u32,
    /// Clients that are told when requests are stored.
    submitters: Vec<Asker>,
    /// Clients that are told when it ends.
    watchers: Vec<Asker>,
}

impl Jobs {
    /// Returns the account of a job.
    pub(super) fn account(&mut self, of: Source) -> Option<&mut Account> {
        self.table.get_mut(&of.job()?).map(|job| &mut job.account)
    }

    /// Removes a request from its job's account, and adds the reply to what is to be stored.
    pub(super) fn close_request(&mut self, request: &Request, reply: Option<(Outcome, Trace)>) {
        let Some(number) = request.source.job() else { return };
        let Some(job) = self.table.get_mut(&number) else { return };
        job.account.unanswered.remove(request.id);
        job.account.bytes -= request.body.len();
        match reply {
            Some((outcome, trace)) => {
                job.account.replies.push(Reply { id: request.id, outcome, trace });
            }
            None => self.in_memory -= 1,
        }
        self.touch(number);
    }

    fn touch(&mut self, number: JobNumber) {
        if let Some(job) = self.table.get_mut(&number).filter(|job| !job.is_touched) {
            job.is_touched = true;
            self.touched.push(number);
        }
    }

    fn id(&self, job: JobNumber) -> JobId {
        JobId { home: self.home.unwrap_or_default(), number: job.0 }
    }

    /// For [`Broker::check`]: the sums agree with the jobs.
    pub(super) fn check(&self) {
        let jobs = self.table.values();
        let in_memory: usize = jobs.clone().map(|job| job.account.unanswered.len() + job.unstored).sum();
        assert_eq!(self.in_memory, in_memory, "requests of jobs in memory");
        let coming = jobs.clone().flat_map(|job| &job.coming).map(|bodies| part::cost(bodies)).sum::<usize>();
        assert_eq!(self.coming_bytes, coming, "bytes on their way to the store");
        assert_eq!(self.by_key.len(), self.table.len());
        for (number, job) in &self.table {
            assert!(job.loaded <= job.stored && job.stored <= job.appended, "{number}");
        }
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
        for record in restored.jobs {
            let number = record.job;
            let event = Event::JobRestored { job: number, id: self.jobs.id(number), requests: record.requests };
            self.log(event);
            let job = Job {
                spec: Arc::clone(&record.spec),
                owner: record.owner.clone(),
                is_created: true,
                appended: record.requests,
                stored: record.requests,
                closes: record.state != JobState::Open,
                is_closed: record.state != JobState::Open,
                answered: record.succeeded + record.failed,
                succeeded: record.succeeded,
                failed: record.failed,
                ..Job::default()
            };
            self.jobs.by_key.insert((record.owner, key_of(&record.spec)), number);
            self.jobs.table.insert(number, job);
            self.jobs.touch(number);
        }
        self
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

/// Returns what of a specification identifies a submission.
fn key_of(spec: &JobSpec) -> Arc<JobSpec> {
    Arc::new(JobSpec { name: String::new(), ..spec.clone() })
}
