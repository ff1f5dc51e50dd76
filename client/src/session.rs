//! A client's side of the conversation with the broker, without a socket and a clock.
//!
//! Messages and instants go in; messages to send and replies come out. A request is kept until its
//! reply arrives: after a broken connection, all unanswered requests are sent again, in their
//! order. The broker answers each request once over each connection; a reply to a request that is
//! no longer unanswered is counted and discarded.

mod outgoing;
mod record;
#[cfg(test)]
mod tests;
mod timeouts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use giostra_protocol::sparse_queue::SparseQueue;
use giostra_protocol::{
    Bytes, Failure, FromClient, JobsReply, MAX_BATCH, Outcome, Priority, Progress, Reply, RequestId, Status, ToClient,
    Trace, code,
};
use rustc_hash::FxHashSet;

use outgoing::{Batch, Outgoing};
use record::Recorder;

pub use outgoing::BATCH;
pub use record::Record;

/// The largest number of abandoned requests that are remembered, so that a reply to one of them
/// does not count as a duplicate.
const MAX_ABANDONED: usize = 1 << 20;

/// The state of the connection to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// When no broker has welcomed this client, or the connection broke; since this instant.
    Down(Instant),
    /// When a broker has welcomed this client.
    Up,
    /// When the broker has announced that it is closing; since this instant.
    Closing(Instant),
}

/// The state of a client: its requests, and its connection to the broker.
#[derive(Debug)]
pub struct Session {
    pool: String,
    /// Whether requests wait for a worker if their pool has none.
    wait: bool,
    broker_timeout: Duration,
    link: Link,
    /// The number of this connection's session, from the broker's welcome.
    session: u64,
    /// The number of the store of the broker that has welcomed this client last, if it keeps jobs;
    /// `None` before the first welcome.
    home: Option<Option<u32>>,
    last_id: u64,
    unanswered: SparseQueue<Request>,
    outgoing: Outgoing,
    /// The deadlines of unanswered requests, by id within an instant.
    deadlines: BTreeSet<(Instant, RequestId)>,
    /// Replies that the user has not taken yet.
    replies: VecDeque<Reply>,
    /// The progress of unanswered requests whose workers have reported it.
    progress: BTreeMap<RequestId, Progress>,
    progress_has_changed: bool,
    status: Option<Status>,
    draining: Option<Vec<u64>>,
    /// Answers about jobs, with the numbers of their questions.
    jobs: VecDeque<(u64, JobsReply)>,
    refused: Option<String>,
    /// How many requests were sent over connections that broke, and are to be sent again.
    to_resend: usize,
    /// Requests that ended here, to which the broker may still reply over this connection.
    abandoned: FxHashSet<RequestId>,
    duplicated: u64,
    /// What the client sends and gets, if somebody wants to know.
    pub record: Recorder,
    /// Why there is no broker, if what listens there is none or no handshake succeeds with it.
    obstacle: Option<String>,
}

/// An unanswered request.
#[derive(Debug)]
pub struct Request {
    body: Bytes,
    deadline: Option<Instant>,
    priority: Priority,
}

impl Session {
    /// Creates a session that has no broker yet, since `now`.
    pub fn new(pool: &str, wait: bool, broker_timeout: Duration, now: Instant) -> Self {
        Self {
            pool: pool.into(),
            wait,
            broker_timeout,
            link: Link::Down(now),
            session: 0,
            home: None,
            last_id: 0,
            unanswered: SparseQueue::default(),
            outgoing: Outgoing::new(),
            deadlines: BTreeSet::new(),
            replies: VecDeque::new(),
            progress: BTreeMap::new(),
            progress_has_changed: false,
            status: None,
            draining: None,
            jobs: VecDeque::new(),
            refused: None,
            to_resend: 0,
            abandoned: FxHashSet::default(),
            duplicated: 0,
            record: Recorder::default(),
            obstacle: None,
        }
    }

    /// Adds a request, which expires at its deadline.
    pub fn submit(&mut self, body: Bytes, deadline: Option<Instant>, priority: Priority) -> RequestId {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        self.unanswered.push(id.0, Request { body, deadline, priority });
        self.outgoing.push(id, priority, &self.unanswered);
        id
    }

    /// Cancels all unanswered requests. Returns the messages for the broker, none if it does not
    /// know of them.
    pub fn cancel_all(&mut self) -> Vec<FromClient> {
        let ids: Vec<_> = self.ids();
        self.cancel(ids)
    }

    /// Cancels these requests, and discards the replies to them that have not been taken. Returns
    /// the messages for the broker, none if it does not know of them.
    pub fn cancel(&mut self, mut ids: Vec<RequestId>) -> Vec<FromClient> {
        if !self.replies.is_empty() {
            let ids: FxHashSet<_> = ids.iter().collect();
            self.replies.retain(|reply| !ids.contains(&reply.id));
        }
        ids.retain(|&id| match self.unanswered.take(id.0) {
            Some(request) => {
                self.forget(id, &request);
                true
            }
            None => false,
        });
        self.remember(&ids);
        if self.link != Link::Up {
            return Vec::new();
        }
        ids.chunks(MAX_BATCH).map(|ids| FromClient::Cancel(ids.to_vec())).collect()
    }

    /// The number of requests whose reply has not been taken yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len() + self.replies.len()
    }

    /// The number of requests that wait to be sent.
    pub fn unsent(&self) -> usize {
        self.outgoing.len()
    }

    /// The number of unanswered requests that were sent over this connection.
    pub fn under_way(&self) -> usize {
        self.unanswered.len() - self.outgoing.unanswered(&self.unanswered)
    }

    /// The number of replies to requests that had one already.
    pub fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// Records why an attempt to connect failed.
    pub fn connecting_failed(&mut self, reason: &str) {
        self.obstacle = Some(reason.into());
    }

    /// Records why a message from the broker's endpoint can't be read.
    pub fn answer_was_unreadable(&mut self, reason: &str) {
        self.obstacle = Some(format!("what answered can't be read: {reason}"));
    }

    /// The state of the connection.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Takes the next reply.
    pub fn take_reply(&mut self) -> Option<Reply> {
        self.replies.pop_front()
    }

    /// Whether a reply can be taken.
    pub fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Takes the next reply to this request or a later one.
    pub fn take_reply_since(&mut self, first: RequestId) -> Option<Reply> {
        // Mostly the very first: only replies that were kept for later come before it.
        let place = self.replies.iter().position(|reply| reply.id >= first)?;
        self.replies.remove(place)
    }

    /// Takes the reply to this request.
    pub fn take_reply_to(&mut self, id: RequestId) -> Option<Reply> {
        let place = self.replies.iter().position(|reply| reply.id == id)?;
        self.replies.remove(place)
    }

    /// The progress of requests that are being computed, if their workers report it.
    pub fn progress(&self) -> &BTreeMap<RequestId, Progress> {
        &self.progress
    }

    /// Whether progress was reported since the last call.
    pub fn progress_has_changed(&mut self) -> bool {
        std::mem::take(&mut self.progress_has_changed)
    }

    /// Takes the broker's status, if it has arrived.
    pub fn take_status(&mut self) -> Option<Status> {
        self.status.take()
    }

    /// Takes the numbers of the workers that are being drained, if the broker has confirmed it.
    pub fn take_draining(&mut self) -> Option<Vec<u64>> {
        self.draining.take()
    }

    /// Whether an answer about jobs or the broker's status can be taken.
    pub fn has_answers(&self) -> bool {
        !self.jobs.is_empty() || self.status.is_some()
    }

    /// The store's number of the broker that has welcomed this client last, `None` in it for one that
    /// keeps no jobs; `None` before the first welcome.
    pub fn home(&self) -> Option<Option<u32>> {
        self.home
    }

    /// Takes the next answer about jobs, and the number of its question.
    pub fn take_jobs_reply(&mut self) -> Option<(u64, JobsReply)> {
        self.jobs.pop_front()
    }

    /// The limits that the broker has told: the bytes of a request's body, and the requests in one
    /// message.
    pub fn limits(&self) -> (u64, usize) {
        (self.outgoing.max_bytes, self.outgoing.max_batch)
    }

    /// The number of this connection's session: another one after each broken connection.
    pub fn number(&self) -> u64 {
        self.session
    }

    /// Takes the reason why the broker refused a message, if it did.
    pub fn take_refused(&mut self) -> Option<String> {
        self.refused.take()
    }

    /// Takes the number of requests that were lost with the last connection, and are sent again
    /// over this one.
    pub fn take_to_resend(&mut self) -> usize {
        std::mem::take(&mut self.to_resend).min(self.unanswered.len())
    }

    /// Returns the next message with requests, if a broker is there.
    pub fn poll_send(&mut self, now: Instant) -> Option<FromClient> {
        if self.link != Link::Up {
            return None;
        }
        let Batch { requests, priority, limit, too_large } = self.outgoing.next_batch(&self.unanswered, now);
        for (id, bytes) in too_large {
            let max = self.outgoing.max_bytes;
            let message = format!("the request has {bytes} bytes, and this broker takes {max} at most (--max-message)");
            self.end(id, Failure::new(code::INVALID, message));
        }
        let timeout_ms =
            limit.map_or(0, |limit| limit.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX).max(1));
        let (session, pool, wait) = (self.session, self.pool.clone(), self.wait);
        self.record.sent(&requests);
        (!requests.is_empty()).then_some(FromClient::Submit { session, pool, timeout_ms, priority, wait, requests })
    }

    /// Handles a message from the broker.
    pub fn handle(&mut self, message: ToClient, now: Instant) {
        match message {
            ToClient::Welcome { client, session, max_message_bytes, max_batch, home, .. } => {
                self.outgoing.set_limits(max_message_bytes, max_batch);
                self.home = Some(home);
                self.link = Link::Up;
                self.obstacle = None;
                self.session = session;
                self.record.number = client;
            }
            ToClient::Closing | ToClient::Goodbye if matches!(self.link, Link::Closing(_)) => {}
            ToClient::Closing | ToClient::Goodbye => self.link = Link::Closing(now),
            ToClient::Hiccup | ToClient::HelloAgain => {
                if !matches!(self.link, Link::Down(_)) {
                    self.link = Link::Down(now);
                }
                self.abandoned.clear();
                self.to_resend += self.under_way();
                self.outgoing.restart(&self.unanswered);
            }
            ToClient::Rejected(ids) => {
                let unanswered = &self.unanswered;
                let known = ids.into_iter().filter_map(|id| Some((id, unanswered.get(id.0)?.priority)));
                self.outgoing.reject(known);
            }
            ToClient::Credit { requests } => self.outgoing.credit = Some(requests),
            ToClient::Replies(replies) => {
                for reply in replies {
                    match self.unanswered.take(reply.id.0) {
                        Some(request) => {
                            self.forget(reply.id, &request);
                            self.record.replied(&reply);
                            self.replies.push_back(reply);
                        }
                        None if self.abandoned.remove(&reply.id) => {}
                        None => {
                            self.duplicated += 1;
                            self.record.duplicated(reply.id);
                        }
                    }
                }
            }
            ToClient::Progress(progress) => {
                let known = progress.into_iter().filter(|(id, _)| self.unanswered.get(id.0).is_some());
                self.progress.extend(known);
                self.progress_has_changed = true;
            }
            ToClient::NoWorker { pool, pools, requests } => {
                let others = match pools.is_empty() {
                    true => "no pool has any".into(),
                    false => format!("there are workers in {}", pools.join(", ")),
                };
                let failure = Failure::new(code::NO_WORKER, format!("pool '{pool}' has no worker; {others}"));
                self.end_all(&requests, &failure);
            }
            ToClient::Status(status) => self.status = Some(*status),
            ToClient::Draining { numbers, .. } => self.draining = Some(numbers),
            ToClient::Jobs { tag, reply } => self.jobs.push_back((tag, reply)),
            ToClient::Refused { reason } => self.refused = Some(reason),
            ToClient::Declined { reason, requests } => self.end_all(&requests, &Failure::new(code::REFUSED, reason)),
        }
    }

    /// Remembers that these requests ended here, while the broker may still reply to them. Over
    /// another connection it never does.
    fn remember(&mut self, ids: &[RequestId]) {
        if matches!(self.link, Link::Down(_)) {
            return;
        }
        // After a million over one connection, replies to the first of them are no longer expected.
        if self.abandoned.len() > MAX_ABANDONED {
            self.abandoned.clear();
        }
        self.abandoned.extend(ids);
    }

    fn end_all(&mut self, ids: &[RequestId], failure: &Failure) {
        for &id in ids {
            self.end(id, failure.clone());
        }
    }

    /// Ends an unanswered request with a failure, which becomes its reply.
    fn end(&mut self, id: RequestId, failure: Failure) {
        let Some(request) = self.unanswered.take(id.0) else { return };
        self.forget(id, &request);
        self.record.gave_up(id, &failure.code);
        self.replies.push_back(Reply { id, outcome: Outcome::Error(failure), trace: Trace::default() });
    }

    /// The ids of all unanswered requests, in their order.
    fn ids<L: FromIterator<RequestId>>(&self) -> L {
        self.unanswered.numbers().map(RequestId).collect()
    }

    /// Removes what is kept of a request that is no longer unanswered.
    fn forget(&mut self, id: RequestId, request: &Request) {
        if !self.progress.is_empty() {
            self.progress.remove(&id);
        }
        if let Some(deadline) = request.deadline {
            self.deadlines.remove(&(deadline, id));
        }
    }
}
