//! What one computing thread has before it: the requests it has taken, the one it computes, the
//! results of those it has computed.
//!
//! The lock of a hand is all that a thread takes between two requests. Nobody else wants it but the
//! watchman, every few milliseconds: he takes out what lies behind a request that goes on and on,
//! see [`crate::board`].

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, Failure, Outcome, Progress, Ticket, code};

/// What is to be computed.
pub type Request = (Ticket, Bytes);

/// What has been computed.
pub type Reply = (Ticket, Outcome);

/// How far something is that is being computed.
pub type News = (Ticket, Progress);

/// The most requests that a thread takes at once. With so many, what is done once a chunk costs
/// next to nothing a request.
const MOST: usize = 64;

/// A chunk that was computed faster may be followed by one of twice the size; and for less work
/// nobody is woken, which takes 5 to 15 us itself.
pub const SHORT: Duration = Duration::from_micros(50);

/// What takes longer is not small work: results do not wait for so long on purpose, and so long
/// nobody idle leaves the desk alone.
pub const LONG: Duration = Duration::from_micros(200);

/// What a request that is being computed says of itself is passed on no more often than this:
/// people read it.
const NEWS: Duration = Duration::from_millis(100);

/// All hands, one a thread.
pub struct Hands(Box<[Shared]>);

/// Far enough apart that threads do not slow each other down by writing to neighbouring memory.
#[repr(align(128))]
struct Shared(Mutex<Hand>);

/// One thread's.
pub struct Hand {
    waiting: VecDeque<Request>,
    computing: Computing,
    done: Vec<Reply>,
    /// When the last chunk was taken. Close to when the request that is being computed was begun,
    /// since the watchman leaves nothing to be begun later.
    since: Option<Instant>,
    /// How many were begun since.
    begun: u32,
    /// What is being computed, and when it last said how far it was. Mean nothing while nothing is.
    ticket: Ticket,
    news: Option<Instant>,
    /// The size of the next chunk.
    most: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Computing {
    Nothing,
    Wanted,
    /// When nobody waits for the result any more; the broker for the reply, so that it knows that
    /// there is room.
    Cancelled,
    /// When nobody waits for a reply.
    Forgotten,
}

impl Hands {
    /// So many empty ones.
    pub fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Shared(Mutex::new(Hand::new()))).collect())
    }

    /// That of a thread.
    pub fn lock(&self, thread: usize) -> MutexGuard<'_, Hand> {
        lock(&self.0[thread])
    }

    /// One after the other.
    pub fn each(&self) -> impl Iterator<Item = MutexGuard<'_, Hand>> {
        self.0.iter().map(lock)
    }
}

fn lock(hand: &Shared) -> MutexGuard<'_, Hand> {
    // Nothing of ours panics while it holds the lock; operations run outside it.
    hand.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unwanted() -> Outcome {
    Outcome::Error(Failure::new(code::CANCELLED, "nobody waits for it any more"))
}

/// Ends the requests that are no longer wanted; whether there was one.
pub fn cancel(queue: &mut VecDeque<Request>, done: &mut Vec<Reply>, wanted: &impl Fn(&Ticket) -> bool) -> bool {
    let before = done.len();
    queue.retain(|(ticket, _)| {
        let keep = wanted(ticket);
        if !keep {
            done.push((*ticket, unwanted()));
        }
        keep
    });
    done.len() > before
}

impl Hand {
    fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            computing: Computing::Nothing,
            done: Vec::new(),
            since: None,
            begun: 0,
            ticket: Ticket(0),
            news: None,
            most: 1,
        }
    }

    /// Takes a chunk from the front of the queue, of `share` requests at most. The hand must hold
    /// nothing that waits.
    pub fn take(&mut self, queue: &mut VecDeque<Request>, share: usize, now: Instant) {
        self.waiting.extend(queue.drain(..share.min(self.most)));
        self.since = Some(now);
        self.begun = 0;
    }

    /// The next request, if there is one. It is being computed from now on.
    pub fn begin(&mut self) -> Option<Request> {
        let request = self.waiting.pop_front()?;
        self.computing = Computing::Wanted;
        (self.ticket, self.news) = (request.0, None);
        self.begun += 1;
        Some(request)
    }

    /// What became of it.
    pub fn finish(&mut self, ticket: Ticket, outcome: Outcome) {
        match std::mem::replace(&mut self.computing, Computing::Nothing) {
            Computing::Wanted | Computing::Cancelled => self.done.push((ticket, outcome)),
            Computing::Forgotten | Computing::Nothing => {}
        }
    }

    /// It was not computed, since its operation can't for now: whether it is to be handed back.
    pub fn put_back(&mut self, ticket: Ticket) -> bool {
        match std::mem::replace(&mut self.computing, Computing::Nothing) {
            Computing::Wanted => true,
            Computing::Cancelled => {
                self.done.push((ticket, unwanted()));
                false
            }
            Computing::Forgotten | Computing::Nothing => false,
        }
    }

    /// Moves the tickets of what waits to the end of `tickets`.
    pub fn hand_back(&mut self, tickets: &mut Vec<Ticket>) {
        tickets.extend(self.waiting.drain(..).map(|(ticket, _)| ticket));
    }

    /// When a chunk has been computed: how long that took for each request. Settles the size of the
    /// next one.
    pub fn end_chunk(&mut self, now: Instant) -> Option<Duration> {
        let took = now.saturating_duration_since(self.since.take()?);
        if took < SHORT {
            self.most = (2 * self.most).min(MOST);
        } else if took > LONG {
            self.most = 1;
        }
        Some(took / self.begun.max(1))
    }

    /// Moves the results to the end of `done`; since when they may have been there, if there are
    /// any.
    pub fn lay_down(&mut self, done: &mut Vec<Reply>) -> Option<Instant> {
        if self.done.is_empty() {
            return None;
        }
        done.append(&mut self.done);
        self.since
    }

    /// Moves what waits back to the front of the queue; whether there was anything.
    pub fn give_back(&mut self, queue: &mut VecDeque<Request>) -> bool {
        let any = !self.waiting.is_empty();
        for request in self.waiting.drain(..).rev() {
            queue.push_front(request);
        }
        any
    }

    /// Forgets everything; what is being computed is thrown away when it is done.
    pub fn discard(&mut self) {
        self.waiting.clear();
        self.done.clear();
        if self.computing != Computing::Nothing {
            self.computing = Computing::Forgotten;
        }
    }

    /// Nobody waits any more for the results of these tickets. Those that are not begun are done
    /// now, with an error; whether there was one.
    pub fn cancel(&mut self, wanted: &impl Fn(&Ticket) -> bool) -> bool {
        if self.computing == Computing::Wanted && !wanted(&self.ticket) {
            self.computing = Computing::Cancelled;
        }
        let Self { waiting, done, .. } = self;
        cancel(waiting, done, wanted)
    }

    /// Whether nobody waits any more for what is being computed.
    pub fn is_unwanted(&self) -> bool {
        matches!(self.computing, Computing::Cancelled | Computing::Forgotten)
    }

    /// The ticket of what is being computed, if it is time for news of it.
    pub fn has_news(&mut self, now: Instant) -> Option<Ticket> {
        let due = self.news.is_none_or(|before| now.saturating_duration_since(before) >= NEWS);
        if !due || self.computing != Computing::Wanted {
            return None;
        }
        self.news = Some(now);
        Some(self.ticket)
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Since when a request has been computed, if one is: some milliseconds too early at most.
    pub fn computing_since(&self) -> Option<Instant> {
        self.since.filter(|_| self.computing != Computing::Nothing)
    }
}
