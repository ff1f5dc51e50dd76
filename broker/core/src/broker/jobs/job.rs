//! One job that is open or running.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use giostra_protocol::name::Label;
use giostra_protocol::{Bytes, Failure, JobSpec, JobState, RequestId, code};

use super::expected::Asker;
use crate::broker::records::Account;
use crate::stats::pace::Pace;
use crate::store::{Attempts, JobRecord};

/// The bytes of a job's requests in memory, at about which no more are read.
pub(super) const SLICE_BYTES: usize = 16 << 20;

/// A job that is open or running.
#[derive(Default)]
pub(super) struct Job {
    pub spec: Arc<JobSpec>,
    pub owner: Label,
    pub account: Account,
    /// Whether the store has it.
    pub is_created: bool,
    /// The number of requests that were handed to the store, and of those that it has.
    pub appended: u32,
    pub stored: u32,
    /// Whether the submission is complete, and whether the store knows that.
    pub closes: bool,
    pub is_closed: bool,
    /// The bodies of requests on their way to the store, by message.
    pub coming: VecDeque<Vec<Bytes>>,
    /// The number of such messages that were refused, and that the store has not refused yet.
    pub refused: usize,
    /// The number up to which requests were put into memory or were answered in an earlier life.
    pub loaded: u32,
    pub is_loading: bool,
    pub is_hungry: bool,
    pub is_touched: bool,
    /// The number of results that were handed to the store and are not safe yet.
    pub unstored: usize,
    /// The number of results and of errors that are safe.
    pub succeeded: u32,
    pub failed: u32,
    /// What is known of the attempts at requests that are not answered, if it is worth knowing.
    pub attempts: BTreeMap<u32, Attempts>,
    /// Those of which the store does not know it.
    pub unsaved: BTreeSet<u32>,
    /// Requests that have failed in this turn and are to be computed again.
    pub failing: Vec<(u32, Bytes)>,
    /// The number of requests that failed and wait to be computed again, and the bytes of their
    /// bodies.
    pub waiting: usize,
    pub waiting_bytes: usize,
    pub pace: Pace,
    /// Clients that are told when requests are stored.
    pub submitters: Vec<Asker>,
    /// Clients that are told when it ends.
    pub watchers: Vec<Asker>,
}

impl Job {
    /// A job that the store has, whose pace begins now.
    pub fn restored(record: &JobRecord, pace: Pace) -> Self {
        let is_closed = record.state != JobState::Open;
        Self {
            spec: Arc::clone(&record.spec),
            owner: record.owner.clone(),
            is_created: true,
            appended: record.requests,
            stored: record.requests,
            closes: is_closed,
            is_closed,
            succeeded: record.succeeded,
            failed: record.failed,
            pace,
            ..Self::default()
        }
    }

    /// The number of its requests in memory, and of results that are not stored.
    pub fn in_memory(&self) -> usize {
        self.account.unanswered.len() + self.account.replies.len() + self.unstored + self.waiting
    }

    /// Whether its next requests should be read; a slice has about this many.
    pub fn wants_more(&self, slice: usize) -> bool {
        let has_room = self.in_memory() <= slice / 2 && self.account.bytes + self.waiting_bytes <= SLICE_BYTES / 2;
        has_room && self.loaded < self.stored && !self.is_loading
    }

    /// Whether each of its requests has a result that is safe, and there will be no more.
    pub fn is_finished(&self) -> bool {
        self.is_closed && self.succeeded + self.failed == self.stored
    }

    /// Whether a request that failed is to be computed again. One that is invalid would fail again,
    /// and one that was given up has been with enough workers.
    pub fn may_retry(&self, id: RequestId, failure: &Failure) -> bool {
        let failed = self.attempts.get(&number_of(id)).map_or(0, |attempts| attempts.failed);
        failed < self.spec.retries && failure.code != code::INVALID && failure.code != code::POISON
    }

    /// Has a request that failed computed again.
    pub fn fails(&mut self, id: RequestId, body: Bytes) {
        let number = number_of(id);
        let attempts = self.attempts.entry(number).or_default();
        *attempts = Attempts { lost: 0, failed: attempts.failed + 1 };
        self.unsaved.insert(number);
        self.waiting += 1;
        self.waiting_bytes += body.len();
        self.failing.push((number, body));
    }

    /// Notes how many lost workers count against a request.
    pub fn loses_workers(&mut self, id: RequestId, lost: usize) {
        let attempts = self.attempts.entry(number_of(id)).or_default();
        attempts.lost = lost.try_into().unwrap_or(u32::MAX);
        self.unsaved.insert(number_of(id));
    }

    /// Forgets the attempts at a request that has ended.
    pub fn forget_attempts(&mut self, id: RequestId) {
        if !self.attempts.is_empty() {
            self.attempts.remove(&number_of(id));
            self.unsaved.remove(&number_of(id));
        }
    }
}

/// Returns the number of a request in its job.
pub(super) fn number_of(id: RequestId) -> u32 {
    // Numbers of a job's requests are below 2^24.
    id.0 as u32
}
