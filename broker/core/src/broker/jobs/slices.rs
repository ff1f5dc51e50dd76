//! The part of a job that is in memory: read from the store, dispatched, and its results stored.

use giostra_protocol::{Bytes, Outcome, RequestId};

use super::super::records::{Request, State};
use super::expected::Expected;
use super::part::cost;
use super::{Broker, Job};
use crate::broker::Moment;
use crate::event::Event;
use crate::id_ranges::IdRanges;
use crate::ids::{JobNumber, RequestKey, Source};
use crate::store::{Op, Read, Write};
use crate::tables::pending::Place;

/// The bytes of a job's requests in memory, at about which no more are read.
const SLICE_BYTES: usize = 16 << 20;

impl Job {
    /// The number of its requests in memory, and of results that are not stored.
    fn in_memory(&self) -> usize {
        self.account.unanswered.len() + self.account.replies.len() + self.unstored
    }

    /// Whether its next requests should be read; a slice has about this many.
    fn wants_more(&self, slice: usize) -> bool {
        let has_room = self.in_memory() <= slice / 2 && self.account.bytes <= SLICE_BYTES / 2;
        has_room && self.loaded < self.stored && !self.is_loading
    }
}

impl Broker {
    /// Stores the results of this turn, and reads the next requests of jobs that run low.
    pub(in super::super) fn settle_jobs(&mut self) {
        if self.jobs.touched.is_empty() && self.jobs.hungry.is_empty() {
            return;
        }
        let slice = self.settings.job_slice;
        for number in std::mem::take(&mut self.jobs.touched) {
            let Some(job) = self.jobs.table.get_mut(&number) else { continue };
            job.is_touched = false;
            self.store_results(number);
            let job = self.jobs.table.get_mut(&number).expect("it was just there");
            if job.wants_more(slice) && !job.is_hungry {
                job.is_hungry = true;
                self.jobs.hungry.push_back(number);
            }
        }
        while !self.closing && self.has_room_for_jobs() {
            let Some(number) = self.jobs.hungry.pop_front() else { break };
            let Some(job) = self.jobs.table.get_mut(&number) else { continue };
            job.is_hungry = false;
            if job.wants_more(slice) {
                job.is_loading = true;
                let read = Read::Pending { job: number, from: job.loaded, requests: slice / 2, bytes: SLICE_BYTES / 2 };
                self.store(Op::Read(read), Expected::Loaded(number));
            }
        }
    }

    /// Whether jobs may have more requests in memory: half of what may be pending is for clients.
    fn has_room_for_jobs(&self) -> bool {
        self.jobs.in_memory < self.settings.max_pending / 2 && self.bytes < self.settings.max_pending_bytes / 2
    }

    fn store_results(&mut self, number: JobNumber) {
        let job = self.jobs.table.get_mut(&number).expect("it was just there");
        let replies = std::mem::take(&mut job.account.replies);
        if self.jobs.failed.is_some() {
            self.jobs.in_memory -= replies.len();
            return;
        }
        // The last result may have been stored before the submission was complete.
        let finishes = job.is_closed && job.answered as usize + replies.len() == job.stored as usize;
        if replies.is_empty() && !finishes {
            return;
        }
        // Numbers of a job's requests are below 2^24.
        let outcomes: Vec<_> = replies.into_iter().map(|reply| (reply.id.0 as u32, reply.outcome)).collect();
        let count = outcomes.len();
        let succeeded = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Ok(_))).count() as u32;
        job.answered += count as u32;
        job.unstored += count;
        let requests = outcomes.iter().map(|&(id, _)| (number, RequestId(id.into()))).collect();
        let failed = count as u32 - succeeded;
        let expected = Expected::Stored { job: number, requests, succeeded, failed, finishes };
        self.store(Op::Write(Write::Results { job: number, outcomes, finishes }), expected);
    }

    /// Puts a part of a submission that was just stored into memory, if it is next and there is room.
    pub(super) fn load_appended(&mut self, number: JobNumber, bodies: Vec<Bytes>, now: Moment) {
        let has_room = self.has_room_for_jobs();
        let job = self.jobs.table.get_mut(&number).expect("it was just found");
        let first = job.stored - bodies.len() as u32;
        if has_room && job.loaded == first && job.in_memory() < self.settings.job_slice {
            self.load(number, (first..).zip(bodies).collect(), now);
        }
        self.jobs.touch(number);
    }

    /// Puts requests into memory.
    pub(super) fn load(&mut self, number: JobNumber, requests: Vec<(u32, Bytes)>, now: Moment) {
        let Some(&(last, _)) = requests.last() else { return };
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        job.loaded = last + 1;
        let (spec, source) = (job.spec.clone(), Source::from(number));
        let pool = self.pool(&spec.pool, None);
        let job = self.jobs.table.get_mut(&number).expect("it was just there");
        let (first, mut fresh, mut accepted) = (self.last_request + 1, Vec::new(), IdRanges::default());
        for (id, body) in requests {
            let id = RequestId(id.into());
            self.bytes += body.len();
            job.account.bytes += body.len();
            self.last_request += 1;
            let state = State::Pending(Place::Fresh(self.last_request));
            let request = Request {
                source,
                id,
                pool,
                body,
                accepted: now,
                time_limit: 0,
                dispatched: now,
                attempts: 0,
                lost: None,
                state,
            };
            let key = RequestKey(self.requests.insert(request).try_into().expect("four thousand million requests"));
            job.account.unanswered.insert(id, key);
            fresh.push(key);
            accepted.request(source, id);
        }
        job.account.pending += fresh.len();
        self.pending += fresh.len();
        self.jobs.in_memory += fresh.len();
        let pool = &mut self.pools[pool.0];
        pool.pending.accept(source, first, &fresh);
        pool.counters.accepted += accepted.len();
        let pool = std::sync::Arc::clone(&pool.name);
        self.log(Event::Accepted { requests: accepted, pool });
    }

    /// Removes a job and its requests from memory.
    pub(super) fn end_job(&mut self, number: JobNumber) {
        self.store_results(number);
        self.forget_all(number.into());
        let Some(job) = self.jobs.table.remove(&number) else { return };
        self.jobs.in_memory -= job.account.unanswered.len() + job.unstored;
        self.jobs.coming_bytes -= job.coming.iter().map(|bodies| cost(bodies)).sum::<usize>();
        self.leave_behind(job.account.unanswered);
        self.jobs.by_key.remove(&(job.owner, super::key_of(&job.spec)));
    }
}
