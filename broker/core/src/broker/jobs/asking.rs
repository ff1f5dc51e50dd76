//! What clients ask about jobs, and what they order.

use giostra_protocol::name::Label;
use giostra_protocol::{Identity, JobId, JobSpec, JobState, JobStatus, JobsReply, JobsRequest};

use super::expected::{Asker, Expected, MAX_QUESTIONS};
use super::part::Part;
use super::{Broker, key_of};
use crate::event::Event;
use crate::ids::{ClientNumber, JobNumber};
use crate::store::{JobRecord, Op, Read, Write};

/// The maximum number of jobs in one message.
const LISTED: usize = 500;

/// About how many bytes of results are in one message at most.
const COLLECTED_BYTES: usize = 1 << 20;

impl Broker {
    /// Handles what a client says about jobs.
    pub(in super::super) fn ask_about_jobs(
        &mut self,
        client: ClientNumber,
        from: &Identity,
        tag: u64,
        request: JobsRequest,
    ) {
        let owner = self.owner(client);
        let owner = (!self.clients[&client].rights.administer).then_some(owner);
        let asker = Asker { identity: from.clone(), tag, owner };
        if self.jobs.home.is_none() {
            return self.refuse_asker(&asker, "this broker keeps no jobs: it was started without --store");
        }
        if let Some(reason) = self.jobs.failed.clone() {
            return self.refuse_asker(&asker, &*reason);
        }
        if self.asks_too_much(from) {
            return self
                .refuse_asker(&asker, format!("{MAX_QUESTIONS} questions about jobs are open; wait for an answer"));
        }
        match request {
            JobsRequest::Submit { job: spec, first, bodies, closes } => {
                self.submit_to_job(client, &asker, Part { spec, first, bodies, closes });
            }
            JobsRequest::List { before } => {
                // In the store, numbers are signed.
                let before = JobNumber(before.min(i64::MAX as u64));
                let read = Read::Jobs { owner: asker.owner.clone(), before, limit: LISTED };
                self.store(Op::Read(read), Expected::Listed(asker));
            }
            JobsRequest::Look { id, wait } => self.look(asker, id, wait),
            JobsRequest::Collect { id, from, with_failed } => {
                let Some(job) = self.number(&asker, id) else { return };
                self.store(Op::Read(Read::Job(job)), Expected::ToCollect);
                let read = Read::Results { job, from, bytes: COLLECTED_BYTES, with_failed };
                self.store(Op::Read(read), Expected::Collected { asker, id });
            }
            JobsRequest::Cancel(id) => self.cancel_job(asker, id),
            JobsRequest::Retry(id) => {
                let Some(job) = self.number(&asker, id) else { return };
                self.store(Op::Read(Read::Job(job)), Expected::ToRetry { asker, id });
            }
            JobsRequest::GiveUp(spec) => self.give_up(client, &spec),
            JobsRequest::Delete(id) => {
                let Some(job) = self.number(&asker, id) else { return };
                self.store(Op::Read(Read::Job(job)), Expected::ToDelete { asker, id });
            }
        }
    }

    fn asks_too_much(&self, client: &Identity) -> bool {
        let askers = || self.jobs.expected.iter().filter_map(Expected::asker);
        self.jobs.expected.len() >= MAX_QUESTIONS
            && askers().filter(|asker| asker.identity == *client).count() >= MAX_QUESTIONS
    }

    /// Returns the owner of the jobs that a client submits: its key.
    pub(super) fn owner(&self, client: ClientNumber) -> Label {
        self.clients.key(&self.clients[&client].identity).map(|key| key.public).unwrap_or_default()
    }

    /// Returns the job's number, or refuses.
    fn number(&mut self, asker: &Asker, id: JobId) -> Option<JobNumber> {
        if Some(id.home) == self.jobs.home && i64::try_from(id.number).is_ok() {
            return Some(JobNumber(id.number));
        }
        self.refuse_unknown(asker, id);
        None
    }

    fn look(&mut self, asker: Asker, id: JobId, wait: bool) {
        let Some(number) = self.number(&asker, id) else { return };
        match self.jobs.table.get_mut(&number).filter(|job| wait && asker.may_see(&job.owner)) {
            Some(job) => asker.join(&mut job.watchers),
            None => self.store(Op::Read(Read::Job(number)), Expected::Looked { asker, id }),
        }
    }

    fn cancel_job(&mut self, asker: Asker, id: JobId) {
        let Some(number) = self.number(&asker, id) else { return };
        if self.jobs.table.get(&number).is_some_and(|job| asker.may_see(&job.owner)) {
            self.cancel_here(number);
        }
        self.store(Op::Read(Read::Job(number)), Expected::Looked { asker, id });
    }

    /// Cancels the job of a submission that is given up.
    fn give_up(&mut self, client: ClientNumber, spec: &JobSpec) {
        let key = key_of(self.owner(client), spec);
        let number = self.jobs.by_key.get(&key).copied();
        if let Some(number) = number.filter(|number| !self.jobs.table[number].closes) {
            self.cancel_here(number);
        }
    }

    fn cancel_here(&mut self, number: JobNumber) {
        let id = self.jobs.id(number);
        let job = self.jobs.table.get_mut(&number).expect("its callers have found it");
        let (submitters, watchers) = (std::mem::take(&mut job.submitters), std::mem::take(&mut job.watchers));
        let (keep_ms, is_closed) = (job.spec.keep_ms, job.is_closed);
        self.end_job(number);
        self.jobs.totals.cancelled += 1;
        self.log(Event::JobCancelled { job: number });
        self.store(Op::Write(Write::Cancel(number)), Expected::Cancelled { keep_ms });
        self.tell(number, watchers);
        // Of one that is complete they have been told so.
        for asker in submitters.into_iter().filter(|_| !is_closed) {
            self.refuse_asker(&asker, format!("job {id} was cancelled"));
        }
    }

    /// Answers what the store said of a job.
    pub(super) fn answer_look(&mut self, asker: &Asker, id: JobId, record: Option<&JobRecord>) {
        match record.filter(|record| asker.may_see(&record.owner)) {
            Some(record) => self.answer(asker, JobsReply::Jobs(vec![self.job_status(record)])),
            None => self.refuse_unknown(asker, id),
        }
    }

    /// The state of a job that the store knows. One that is going on in the store alone was cancelled, and
    /// there was no room to say so.
    pub(super) fn state_of(&self, record: &JobRecord) -> JobState {
        let is_here = record.state.has_ended() || self.jobs.table.contains_key(&record.job);
        if is_here { record.state } else { JobState::Cancelled }
    }

    pub(super) fn job_status(&self, record: &JobRecord) -> JobStatus {
        JobStatus {
            id: self.jobs.id(record.job),
            spec: (*record.spec).clone(),
            owner: record.owner.to_string(),
            state: self.state_of(record),
            requests: record.requests,
            succeeded: record.succeeded,
            failed: record.failed,
            submitted_ms: record.submitted_ms,
            ended_ms: record.ended_ms,
        }
    }
}
