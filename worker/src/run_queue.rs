//! A computing thread's local run queue: the requests that it has taken, the one that it computes,
//! and its replies until they are collected.
//!
//! Between two requests a thread takes only the lock of its own run queue. The monitor takes it
//! every few milliseconds, to retake what waits behind a long request: see [`crate::scheduler`].

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, Failure, Outcome, Priority, Progress, Ticket, code};

use crate::shared_queue::SharedQueue;

/// Which request: its ticket, and the link over which it came, since each broker numbers on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    /// The link, by the place of its broker in the worker's list.
    pub link: usize,
    /// The broker's ticket.
    pub ticket: Ticket,
}

/// A request to compute.
pub type Request = (Claim, Bytes);

/// The outcome of a request.
pub type Reply = (Claim, Outcome);

/// The progress of a request that is being computed.
pub type Report = (Claim, Progress);

/// The largest chunk that a thread takes at once. At this size the work done once a chunk costs
/// next to nothing a request.
const MAX_CHUNK: usize = 64;

/// Work below which no thread is woken, since a wake-up itself takes 5 to 15 us. A chunk that took
/// less is followed by one of twice the size.
pub const SMALL_WORK: Duration = Duration::from_micros(50);

/// How long replies may wait for others, and I/O leadership for the next leader, while an idle
/// thread could take over. A chunk that took longer is followed by one of a single request.
pub const MAX_DELAY: Duration = Duration::from_micros(200);

/// The shortest time between two reports of a request's progress, which people read.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// The run queues of all threads.
pub struct RunQueues(Box<[Aligned]>);

/// A run queue on cache lines of its own, so that threads do not slow each other down by writing to
/// neighbouring memory.
#[repr(align(128))]
struct Aligned(Mutex<RunQueue>);

/// The run queue of one thread.
pub struct RunQueue {
    waiting: VecDeque<Request>,
    /// The priority of the last chunk.
    pub priority: Priority,
    current: Option<Current>,
    replies: Vec<Reply>,
    /// When the last chunk was taken, until it is computed. The current request began soon after,
    /// since the monitor retakes what has waited for longer.
    taken_at: Option<Instant>,
    /// The number of requests begun since then.
    begun: u32,
    /// The size of the next chunk.
    chunk: usize,
}

/// The request that is being computed.
struct Current {
    claim: Claim,
    fate: Fate,
    reported_at: Option<Instant>,
}

/// What becomes of the current request's outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The client waits for it.
    Wanted,
    /// The client no longer waits. The broker does: the reply frees a place in the window.
    Cancelled,
    /// Nobody waits, since the registration has ended.
    Discarded,
}

impl RunQueues {
    /// Creates an empty run queue for each thread.
    pub fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Aligned(Mutex::new(RunQueue::new()))).collect())
    }

    /// Locks the run queue of a thread.
    pub fn lock(&self, thread: usize) -> MutexGuard<'_, RunQueue> {
        lock(&self.0[thread])
    }

    /// Locks one run queue after the other.
    pub fn each(&self) -> impl Iterator<Item = MutexGuard<'_, RunQueue>> {
        self.0.iter().map(lock)
    }
}

fn lock(queue: &Aligned) -> MutexGuard<'_, RunQueue> {
    // No code of ours panics while it holds the lock; operations run without it.
    queue.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cancelled() -> Outcome {
    Outcome::Error(Failure::new(code::CANCELLED, "nobody waits for it any more"))
}

/// Moves the requests that are not wanted from the queue to the replies, as cancelled. Returns
/// whether there was one.
pub fn cancel(queue: &mut VecDeque<Request>, replies: &mut Vec<Reply>, wanted: &impl Fn(&Claim) -> bool) -> bool {
    let before = replies.len();
    queue.retain(|(claim, _)| {
        let keep = wanted(claim);
        if !keep {
            replies.push((*claim, cancelled()));
        }
        keep
    });
    replies.len() > before
}

impl RunQueue {
    fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            priority: Priority::Normal,
            current: None,
            replies: Vec::new(),
            taken_at: None,
            begun: 0,
            chunk: 1,
        }
    }

    /// Takes a chunk of at most `limit` requests of this priority from the front of their queue.
    /// Nothing may wait here.
    pub fn take(&mut self, priority: Priority, queue: &mut VecDeque<Request>, limit: usize, now: Instant) {
        self.priority = priority;
        self.waiting.extend(queue.drain(..limit.min(self.chunk).min(queue.len())));
        self.taken_at = Some(now);
        self.begun = 0;
    }

    /// Makes the next waiting request the current one.
    pub fn begin(&mut self) -> Option<Request> {
        let request = self.waiting.pop_front()?;
        self.current = Some(Current { claim: request.0, fate: Fate::Wanted, reported_at: None });
        self.begun += 1;
        Some(request)
    }

    /// Ends the current request with its outcome.
    pub fn finish(&mut self, outcome: Outcome) {
        if let Some(Current { claim, fate: Fate::Wanted | Fate::Cancelled, .. }) = self.current.take() {
            self.replies.push((claim, outcome));
        }
    }

    /// Ends the current request without an outcome, since its operation is unable to compute.
    /// Returns it if its broker is to hand it to another worker.
    pub fn put_back(&mut self) -> Option<Claim> {
        let Current { claim, fate, .. } = self.current.take()?;
        if fate == Fate::Cancelled {
            self.replies.push((claim, cancelled()));
        }
        (fate == Fate::Wanted).then_some(claim)
    }

    /// Moves the waiting requests to the end of `claims`.
    pub fn hand_back(&mut self, claims: &mut Vec<Claim>) {
        claims.extend(self.waiting.drain(..).map(|(claim, _)| claim));
    }

    /// Ends a chunk that has been computed, and settles the size of the next one. Returns the time
    /// that each request took.
    pub fn end_chunk(&mut self, now: Instant) -> Option<Duration> {
        let took = now.saturating_duration_since(self.taken_at.take()?);
        if took < SMALL_WORK {
            self.chunk = (2 * self.chunk).min(MAX_CHUNK);
        } else if took > MAX_DELAY {
            self.chunk = 1;
        }
        Some(took / self.begun.max(1))
    }

    /// Moves the replies to the end of `replies`. Returns the earliest time at which they may have
    /// been made, if there are any.
    pub fn collect(&mut self, replies: &mut Vec<Reply>) -> Option<Instant> {
        if self.replies.is_empty() {
            return None;
        }
        replies.append(&mut self.replies);
        self.taken_at
    }

    /// Moves the waiting requests back to the front of their queue. Returns whether there were any.
    pub fn give_back(&mut self, queue: &mut SharedQueue) -> bool {
        let any = !self.waiting.is_empty();
        for request in self.waiting.drain(..).rev() {
            queue.give_back(self.priority, request);
        }
        any
    }

    /// Forgets all requests and replies of a link. The outcome of the current request is dropped when
    /// it comes.
    pub fn discard(&mut self, link: usize) {
        self.waiting.retain(|(claim, _)| claim.link != link);
        self.replies.retain(|(claim, _)| claim.link != link);
        if let Some(current) = self.current.as_mut().filter(|current| current.claim.link == link) {
            current.fate = Fate::Discarded;
        }
    }

    /// Cancels the requests that are not wanted. Those that wait end at once, with an error.
    /// Returns whether there was one.
    pub fn cancel(&mut self, wanted: &impl Fn(&Claim) -> bool) -> bool {
        if let Some(current) = &mut self.current
            && current.fate == Fate::Wanted
            && !wanted(&current.claim)
        {
            current.fate = Fate::Cancelled;
        }
        cancel(&mut self.waiting, &mut self.replies, wanted)
    }

    /// Whether the outcome of the current request is no longer wanted.
    pub fn is_cancelled(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.fate != Fate::Wanted)
    }

    /// Returns the current request.
    pub fn current(&self) -> Option<Claim> {
        self.current.as_ref().map(|current| current.claim)
    }

    /// Returns the current request if its progress is to be reported now.
    pub fn begin_report(&mut self, now: Instant) -> Option<Claim> {
        let current = self.current.as_mut().filter(|current| current.fate == Fate::Wanted)?;
        if current.reported_at.is_some_and(|before| now.saturating_duration_since(before) < REPORT_INTERVAL) {
            return None;
        }
        current.reported_at = Some(now);
        Some(current.claim)
    }

    /// The waiting requests.
    pub fn waiting(&self) -> impl Iterator<Item = Claim> {
        self.waiting.iter().map(|(claim, _)| *claim)
    }

    /// When the current request began, if there is one; some milliseconds early at most.
    pub fn computing_since(&self) -> Option<Instant> {
        self.taken_at.filter(|_| self.current.is_some())
    }
}
