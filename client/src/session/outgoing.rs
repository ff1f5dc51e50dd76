//! The requests that are to be sent, and how many of them go into one message.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use giostra_protocol::sparse_queue::SparseQueue;
use giostra_protocol::{Bytes, Priority, RequestId};

use super::Request;

/// The largest number of requests in one message. More bring no more throughput.
pub const BATCH: usize = 512;

/// The number of bytes of bodies that completes a message: large bodies gain nothing by waiting for
/// others.
const BATCH_BYTES: usize = 256 << 10;

/// The number of requests that have ended and may still be queued, in addition to as many as have
/// not ended.
pub(super) const SPARE: usize = 32;

/// The queues of requests that are to be sent, and what the broker accepts.
#[derive(Debug)]
pub struct Outgoing {
    /// The queue of each priority, the most urgent first.
    queues: [Queue; Priority::ALL.len()],
    /// How many requests may be sent; `None` until the broker has rejected one.
    pub credit: Option<u64>,
    /// The largest frame that the broker accepts, in bytes.
    pub max_bytes: u64,
    /// The largest number of requests that the broker accepts in one message, [`BATCH`] at most.
    max_requests: usize,
    /// The largest number of requests that the broker takes in one message.
    pub max_batch: usize,
}

/// The requests of one priority that are to be sent, by id. Some may have ended since.
#[derive(Debug, Default)]
struct Queue {
    /// Requests that were not sent over this connection.
    unsent: VecDeque<RequestId>,
    /// Requests that the broker rejected for lack of room: they are sent before the others.
    rejected: VecDeque<RequestId>,
}

/// The requests of one message.
#[derive(Debug, Default)]
pub struct Batch {
    /// The requests in their order.
    pub requests: Vec<(RequestId, Bytes)>,
    /// How urgent they are.
    pub priority: Priority,
    /// The longest of their time limits, from now; `None` without one.
    pub limit: Option<Duration>,
    /// Requests that are larger than the broker accepts, with their size in bytes. They are not
    /// sent: that would break the connection again and again.
    pub too_large: Vec<(RequestId, usize)>,
}

impl Outgoing {
    /// Creates empty queues without limits.
    pub fn new() -> Self {
        Self { queues: Default::default(), credit: None, max_bytes: u64::MAX, max_requests: BATCH, max_batch: BATCH }
    }

    /// Sets what the broker of a new connection accepts. Credit begins anew.
    pub fn set_limits(&mut self, max_bytes: u64, max_requests: u64) {
        self.max_bytes = max_bytes;
        self.max_batch = usize::try_from(max_requests).unwrap_or(BATCH).max(1);
        self.max_requests = self.max_batch.min(BATCH);
        self.credit = None;
    }

    /// The number of queued requests.
    pub fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.rejected.len() + queue.unsent.len()).sum()
    }

    /// The number of queued requests that have not ended.
    pub fn unanswered(&self, unanswered: &SparseQueue<Request>) -> usize {
        let queued = self.queues.iter().flat_map(|queue| queue.rejected.iter().chain(&queue.unsent));
        queued.filter(|id| unanswered.get(id.0).is_some()).count()
    }

    /// Queues a new request, which is in `unanswered` already.
    pub fn push(&mut self, id: RequestId, priority: Priority, unanswered: &SparseQueue<Request>) {
        let unsent = &mut self.queues[priority as usize].unsent;
        unsent.push_back(id);
        // Without a broker nothing is sent, so that requests that have ended would stay here.
        if unsent.len() > 2 * unanswered.len() + SPARE {
            unsent.retain(|id| unanswered.get(id.0).is_some());
        }
    }

    /// Queues all unanswered requests and no others, after the connection broke.
    pub fn restart(&mut self, unanswered: &SparseQueue<Request>) {
        self.queues = Default::default();
        for id in unanswered.numbers() {
            let priority = unanswered.get(id).map(|request| request.priority).unwrap_or_default();
            self.queues[priority as usize].unsent.push_back(RequestId(id));
        }
    }

    /// Queues requests that the broker rejected, and waits for credit.
    pub fn reject(&mut self, ids: impl Iterator<Item = (RequestId, Priority)>) {
        for (id, priority) in ids {
            self.queues[priority as usize].rejected.push_back(id);
        }
        self.credit = Some(0);
    }

    /// Takes the next requests that fit into one message, the most urgent that there are: they share
    /// a priority and a time limit. Requests that have ended since they were queued are skipped.
    pub fn next_batch(&mut self, unanswered: &SparseQueue<Request>, now: Instant) -> Batch {
        let credit = self.credit.map_or(BATCH, |credit| usize::try_from(credit).unwrap_or(BATCH));
        let max = credit.min(self.max_requests);
        let mut batch = Batch { requests: Vec::with_capacity(self.len().min(max)), ..Batch::default() };
        for (priority, queue) in Priority::ALL.into_iter().zip(&mut self.queues) {
            batch.priority = priority;
            queue.fill(&mut batch, (max, self.max_bytes), unanswered, now);
            if !batch.requests.is_empty() {
                break;
            }
        }
        if let Some(credit) = &mut self.credit {
            *credit -= batch.requests.len() as u64;
        }
        batch
    }
}

impl Queue {
    /// Moves requests to the batch: so many at most, of so many bytes each.
    fn fill(
        &mut self,
        batch: &mut Batch,
        (max, max_bytes): (usize, u64),
        unanswered: &SparseQueue<Request>,
        now: Instant,
    ) {
        let mut bytes = 0;
        while batch.requests.len() < max && bytes < BATCH_BYTES {
            let queue = if self.rejected.is_empty() { &mut self.unsent } else { &mut self.rejected };
            let Some(&id) = queue.front() else { break };
            let Some(request) = unanswered.get(id.0) else {
                queue.pop_front();
                continue;
            };
            let size = request.body.len();
            if size as u64 > max_bytes {
                queue.pop_front();
                batch.too_large.push((id, size));
                continue;
            }
            let limit = request.deadline.map(|deadline| deadline.saturating_duration_since(now));
            if batch.requests.is_empty() {
                batch.limit = limit;
            } else if !are_close(batch.limit, limit) {
                break;
            }
            batch.limit = batch.limit.max(limit);
            bytes += size;
            batch.requests.push((id, request.body.clone()));
            queue.pop_front();
        }
    }
}

/// Whether two requests may share a time limit, the longer one: the limits differ by one percent at
/// most.
fn are_close(a: Option<Duration>, b: Option<Duration>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.abs_diff(b) <= Duration::from_millis(1).max(a / 100),
        (a, b) => a == b,
    }
}
