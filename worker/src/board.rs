//! Where the threads of a worker see what is to be done, and who does it. It decides, and does
//! nothing: no threads, no socket, no clock.
//!
//! There is one *desk*: the socket and the conversation ([`crate::session`]). Whoever takes it off
//! the board sits there: sends the results that lie on the board, sleeps until something comes,
//! puts requests into the queue; then he puts it back and looks at the board again. A thread that
//! computes looks at the board after each chunk of requests, lays its results down, and does the
//! first of these that applies ([`Board::next`]):
//!
//! 1. results have waited long enough and the desk is free: sit down for a moment, send them, hear
//!    what has come;
//! 2. requests wait: take a chunk of them;
//! 3. the desk is free: send what results there are, and sleep there;
//! 4. sleep until somebody calls.
//!
//! So a single thread receives, computes and sends, and wakes nobody but, after a rest, the
//! watchman.
//!
//! The *watchman* never computes ([`patrol`]). While threads take requests he looks at the board
//! every [`TICK`], and when the desk has stood there for that long, he calls an idle thread to it
//! or, if all compute, sits down himself. He also takes out of the hands what lies behind or before
//! a long computation: waiting requests go back into the queue, results onto the board.
//!
//! # Why no wake-up is lost
//!
//! All of the board is under one lock. Each of those who sleep is woken by whoever, under that
//! lock, makes it necessary:
//!
//! - *Whoever sits at the desk* has taken all results when he took the desk off the board. Who lays
//!   down results that are to be sent, and finds no desk, rings the alarm. It goes on ringing until
//!   a poll has ended by it, and after that poll the board is looked at.
//! - *An idle thread* sleeps while no request waits and the desk is taken. Requests get into the
//!   queue from the desk, or out of a hand by the watchman. Who sat at the desk looks at the board
//!   afterwards, and who takes some and leaves some calls one idle thread, unless one is called
//!   already; that one does the same. Only if it seems little work does he come back for it
//!   himself; if he does not, since it was more, the watchman calls one. The desk is free for
//!   longer than somebody looks at the board only when its thread has taken a chunk (then the
//!   watchman ticks), or when the watchman has given it up for the sake of an idle thread, which he
//!   calls. A thread that becomes idle while *he* sits there rings the alarm.
//! - *The watchman* sleeps without a limit, at the desk or not, only while the desk is taken and no
//!   hand holds anything but what is being computed. Whoever takes a chunk changes that, and sets
//!   him ticking; so hands hold requests, or results of earlier ones, and the desk is free, only
//!   while he ticks. A hand whose last request is finished needs nobody: its thread comes to the
//!   board.
//!
//! `board/simulation.rs` lets all of them act in random order, where each that sleeps goes on only
//! when it has been woken.

mod patrol;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

pub use patrol::{Duty, TICK, Watch};

use giostra_protocol::Ticket;

use crate::hand::{self, Hand, Hands, LONG, News, Reply, Request, SHORT};

/// The board, and on it the desk, if nobody sits there.
pub struct Board<D> {
    desk: Option<D>,
    /// Whether it is the watchman who sits at the desk. Means nothing while nobody does.
    guarded: bool,
    /// How often somebody has sat down.
    visits: u64,
    queue: VecDeque<Request>,
    /// How often a chunk was taken from the queue.
    chunks: u64,
    done: Vec<Reply>,
    /// Since when the oldest of `done` may have been there, if there is any.
    done_since: Option<Instant>,
    /// How far requests are that are being computed: to be sent with the next results, or alone.
    news: Vec<News>,
    /// That nothing can be computed for now, until the broker is told.
    trouble: Option<Trouble>,
    threads: usize,
    /// Threads that sleep and have not been called.
    idle: usize,
    /// Threads that have been called and have not looked at the board since.
    called: usize,
    /// How long a request of the last chunk took; the best guess at the next one's.
    pace: Duration,
    /// Whether the watchman looks at the board from time to time.
    ticking: bool,
    /// Set when all is over.
    pub closed: bool,
}

/// What a thread does next.
#[derive(Debug)]
pub enum Step<D> {
    /// When it has requests in its hand now.
    Compute,
    /// When it sits at the desk now.
    Attend(Visit<D>),
    /// When there is nothing to do until it is called.
    Sleep,
}

/// A time at the desk.
#[derive(Debug)]
pub struct Visit<D> {
    /// To be put back by [`Board::leave`].
    pub desk: D,
    /// To be sent first.
    pub done: Vec<Reply>,
    /// The same.
    pub news: Vec<News>,
    /// The same, behind the results.
    pub trouble: Option<Trouble>,
    /// How long to sleep there until something comes.
    pub stay: Stay,
}

/// That an operation can compute nothing for now.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Why.
    pub reason: String,
    /// The requests that are to be handed back to the broker.
    pub tickets: Vec<Ticket>,
}

/// How long to sleep at the desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// When there is other work to do.
    Glance,
    /// When somebody has to look at the board in a while.
    AtMost(Duration),
    /// When whatever happens rings the alarm.
    UntilCalled,
}

/// Whom to wake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// A thread that sleeps.
    pub thread: bool,
    /// The watchman, who rests.
    pub watchman: bool,
    /// Whoever sleeps at the desk.
    pub alarm: bool,
}

/// What the threads are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests being computed.
    pub computing: u32,
    /// Requests waiting for a thread.
    pub waiting: u32,
    /// For how long the oldest of those being computed has been computing, give or take some
    /// milliseconds.
    pub oldest: Duration,
}

impl<D> Board<D> {
    /// An empty one for so many threads; the watchman ticks.
    pub fn new(desk: D, threads: usize) -> Self {
        Self {
            desk: Some(desk),
            guarded: false,
            visits: 0,
            queue: VecDeque::new(),
            chunks: 0,
            done: Vec::new(),
            done_since: None,
            news: Vec::new(),
            trouble: None,
            threads,
            idle: 0,
            called: 0,
            pace: LONG,
            ticking: true,
            closed: false,
        }
    }

    /// What the thread with this hand, which has computed all that was in it, does next.
    pub fn next(&mut self, hand: &mut Hand, now: Instant) -> (Step<D>, Calls) {
        let mut calls = Calls::default();
        self.collect(hand);
        if let Some(pace) = hand.end_chunk(now) {
            self.pace = pace;
        }
        let overdue = self.done_since.is_some_and(|since| now.saturating_duration_since(since) > LONG);
        let send = !self.is_quiet() && (overdue || self.queue.is_empty());
        if send || self.queue.is_empty() {
            let stay = if self.queue.is_empty() { Stay::UntilCalled } else { Stay::Glance };
            match self.sit(stay) {
                Some(visit) => return (Step::Attend(visit), calls),
                None => calls.alarm = send,
            }
        }
        if self.queue.is_empty() {
            self.idle += 1;
            calls.alarm |= self.guarded;
            return (Step::Sleep, calls);
        }
        let little = self.little();
        let share = if little { self.queue.len() } else { self.queue.len().div_ceil(self.threads) };
        hand.take(&mut self.queue, share, now);
        self.chunks += 1;
        let wanted = !self.queue.is_empty() && !little || self.desk.is_some() && self.pace >= LONG;
        calls.thread = wanted && self.call();
        if !std::mem::replace(&mut self.ticking, true) {
            let at_desk = self.desk.is_none() && self.guarded;
            calls.alarm |= at_desk;
            calls.watchman = !at_desk;
        }
        (Step::Compute, calls)
    }

    /// Whether a thread that sleeps has been called: then it looks at the board again.
    pub fn answer_call(&mut self) -> bool {
        let called = self.called > 0;
        self.called -= usize::from(called);
        called
    }

    /// Puts the desk back. Look at the board again under the same lock.
    pub fn leave(&mut self, desk: D) {
        self.desk = Some(desk);
    }

    /// Takes the desk away for ever, if nobody sits there.
    pub fn close(&mut self) -> Option<D> {
        self.closed = true;
        self.desk.take()
    }

    /// Whether the watchman looks at the board from time to time.
    pub fn ticking(&self) -> bool {
        self.ticking
    }

    /// Adds requests to the queue. For whoever sits at the desk, who looks at the board when he has
    /// heard all that is there.
    pub fn assign(&mut self, requests: Vec<Request>) -> Calls {
        if let Some(trouble) = &mut self.trouble {
            trouble.tickets.extend(requests.into_iter().map(|(ticket, _)| ticket));
            return Calls::default();
        }
        self.queue.extend(requests);
        let thread = self.queue.len() > 1 && !self.little() && self.call();
        Calls { thread, ..Calls::default() }
    }

    /// A request that is being computed says how far it is.
    pub fn report(&mut self, news: News) -> Calls {
        self.news.push(news);
        Calls { alarm: self.desk.is_none(), ..Calls::default() }
    }

    /// Nothing can be computed for now: the request of this ticket is handed back, and all that
    /// waits.
    pub fn give_up(&mut self, reason: String, ticket: Option<Ticket>, hands: &Hands) -> Calls {
        let trouble = self.trouble.get_or_insert_default();
        trouble.reason = reason;
        trouble.tickets.extend(ticket);
        trouble.tickets.extend(self.queue.drain(..).map(|(ticket, _)| ticket));
        hands.each().for_each(|mut hand| hand.hand_back(&mut trouble.tickets));
        Calls { alarm: self.desk.is_none(), ..Calls::default() }
    }

    /// Nobody waits any more for the results of these tickets. For whoever sits at the desk.
    pub fn cancel(&mut self, tickets: &[Ticket], hands: &Hands, now: Instant) {
        let tickets: BTreeSet<_> = tickets.iter().collect();
        let wanted = |ticket: &Ticket| !tickets.contains(ticket);
        if hand::cancel(&mut self.queue, &mut self.done, &wanted) {
            self.done_since.get_or_insert(now);
        }
        for mut hand in hands.each() {
            if hand.cancel(&wanted) {
                self.collect(&mut hand);
            }
        }
    }

    /// Forgets all requests and results.
    pub fn discard(&mut self, hands: &Hands) {
        self.queue.clear();
        self.done.clear();
        self.done_since = None;
        self.news.clear();
        if let Some(trouble) = &mut self.trouble {
            trouble.tickets.clear();
        }
        hands.each().for_each(|mut hand| hand.discard());
    }

    /// What the threads are doing.
    pub fn load(&self, hands: &Hands, now: Instant) -> Load {
        let mut load = Load { waiting: self.queue.len() as u32, ..Load::default() };
        for hand in hands.each() {
            load.waiting += hand.waiting() as u32;
            if let Some(since) = hand.computing_since() {
                load.computing += 1;
                load.oldest = load.oldest.max(now.saturating_duration_since(since));
            }
        }
        load
    }

    fn sit(&mut self, stay: Stay) -> Option<Visit<D>> {
        let desk = self.desk.take()?;
        self.guarded = false;
        self.visits += 1;
        self.done_since = None;
        let (done, news, trouble) =
            (std::mem::take(&mut self.done), std::mem::take(&mut self.news), self.trouble.take());
        Some(Visit { desk, done, news, trouble, stay })
    }

    /// Whether there is nothing to be sent.
    fn is_quiet(&self) -> bool {
        self.done.is_empty() && self.news.is_empty() && self.trouble.is_none()
    }

    /// Whether what waits is no more than one thread does before another has woken up.
    fn little(&self) -> bool {
        self.pace.saturating_mul(self.queue.len() as u32) < SHORT
    }

    /// Whether there is somebody to be called.
    fn call(&mut self) -> bool {
        let call = self.idle > 0 && self.called == 0;
        self.idle -= usize::from(call);
        self.called += usize::from(call);
        call
    }

    /// Whether there were results.
    fn collect(&mut self, hand: &mut Hand) -> bool {
        let Some(since) = hand.lay_down(&mut self.done) else { return false };
        self.done_since = Some(self.done_since.map_or(since, |earlier| earlier.min(since)));
        true
    }
}
