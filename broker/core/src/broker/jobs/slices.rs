//! The part of a job that is in memory: read from the store, dispatched, and its results stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use giostra_protocol::{Bytes, Outcome, RequestId};

use super::super::records::{Losses, Submission};
use super::Broker;
use super::expected::Expected;
use super::job::{SLICE_BYTES, number_of};
use super::part::cost;
use crate::broker::Moment;
use crate::event::Event;
use crate::id_ranges::IdRanges;
use crate::ids::{JobNumber, Source};
use crate::store::{Op, Read, Write};
use crate::tables::pending::Place;

impl Broker {
    /// Stores the results of this turn, and reads the next requests of jobs that run low.
    pub(in super::super) fn settle_jobs(&mut self, now: Moment) {
        if self.jobs.touched.is_empty() && self.jobs.hungry.is_empty() {
            return;
        }
        let slice = self.settings.job_slice;
        for number in std::mem::take(&mut self.jobs.touched) {
            let Some(job) = self.jobs.table.get_mut(&number) else { continue };
            job.is_touched = false;
            self.store_results(number);
            self.schedule_retries(number, now);
            self.store_attempts(number);
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
        if replies.is_empty() {
            return;
        }
        let outcomes: Vec<_> = replies.into_iter().map(|reply| (number_of(reply.id), reply.outcome)).collect();
        let succeeded = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Ok(_))).count() as u32;
        job.unstored += outcomes.len();
        let requests = outcomes.iter().map(|&(id, _)| (number, RequestId(id.into()))).collect();
        let expected = Expected::Stored { job: number, requests, succeeded, failed: outcomes.len() as u32 - succeeded };
        self.store(Op::Write(Write::Results { job: number, outcomes }), expected);
    }

    /// Stores what the next life of the broker has to know of attempts.
    fn store_attempts(&mut self, number: JobNumber) {
        let job = self.jobs.table.get_mut(&number).expect("it was just there");
        let unsaved = std::mem::take(&mut job.unsaved).into_iter();
        let attempts: Vec<_> = unsaved.filter_map(|id| Some((id, *job.attempts.get(&id)?))).collect();
        if !attempts.is_empty() {
            self.store(Op::Write(Write::Attempts { job: number, attempts }), Expected::Attempts);
        }
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

    /// Puts the next requests into memory.
    pub(super) fn load(&mut self, number: JobNumber, requests: Vec<(u32, Bytes)>, now: Moment) {
        let Some(&(last, _)) = requests.last() else { return };
        let Some(job) = self.jobs.table.get_mut(&number) else { return };
        job.loaded = last + 1;
        self.enqueue(number, requests, now);
    }

    /// Puts requests of a job that is there into its pool's queue.
    pub(super) fn enqueue(&mut self, number: JobNumber, requests: Vec<(u32, Bytes)>, now: Moment) {
        let spec = Arc::clone(&self.jobs.table[&number].spec);
        let (pool, source, priority) = (self.pool(&spec.pool, None), Source::from(number), spec.priority);
        // A time limit that ends in centuries is none.
        let time_limit = spec.timeout_ms.checked_mul(1_000_000).unwrap_or(0);
        let submission = Submission { source, pool, priority, time_limit, accepted: now };
        let job = self.jobs.table.get_mut(&number).expect("it was just there");
        let (count, first, mut fresh) = (requests.len(), self.last_request + 1, Vec::with_capacity(requests.len()));
        let (mut accepted, mut lost_before) = (IdRanges::default(), BTreeMap::<u32, IdRanges>::new());
        for (id, body) in requests {
            // One more loss ends it, however many there were before, under whatever settings.
            let max_lost = self.settings.max_attempts.saturating_sub(1);
            let lost = job.attempts.get(&id).map_or(0, |attempts| attempts.lost).min(max_lost);
            let id = RequestId(id.into());
            self.bytes += body.len();
            job.account.bytes += body.len();
            accepted.request(source, id);
            let place = if lost == 0 {
                self.last_request += 1;
                Place::Fresh(priority, self.last_request)
            } else {
                lost_before.entry(lost).or_default().request(source, id);
                self.jobs.lost_before += 1;
                Place::Returned(self.jobs.lost_before)
            };
            let mut request = submission.request(id, body, place);
            request.lost = (lost > 0).then(|| Losses::of_an_earlier_life(lost).into());
            let key = request.insert_into(&mut self.requests);
            job.account.unanswered.insert(id, key);
            if let Place::Returned(order) = place {
                self.pools[pool.0].pending.give_back(order, key);
            } else {
                fresh.push(key);
            }
        }
        job.account.pending += count;
        self.pending += count;
        self.jobs.in_memory += count;
        let pool = &mut self.pools[pool.0];
        pool.pending.accept(source, priority, first, &fresh);
        pool.counters.accepted += accepted.len();
        let pool = Arc::clone(&pool.name);
        self.log(Event::Accepted { requests: accepted, pool, priority });
        for (lost, requests) in lost_before {
            self.log(Event::JobLosses { requests, lost });
        }
    }

    /// Removes a job and its requests from memory.
    pub(super) fn end_job(&mut self, number: JobNumber) {
        self.store_results(number);
        self.forget_all(number.into());
        let Some(job) = self.jobs.table.remove(&number) else { return };
        self.jobs.in_memory -= job.in_memory();
        if job.waiting > 0 {
            self.jobs.retries.forget(number);
        }
        self.jobs.coming_bytes -= job.coming.iter().map(|bodies| cost(bodies)).sum::<usize>();
        self.leave_behind(job.account.unanswered);
        let key = super::key_of(job.owner, &job.spec);
        if self.jobs.by_key.get(&key) == Some(&number) {
            self.jobs.by_key.remove(&key);
        }
    }
}
