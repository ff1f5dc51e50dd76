//! Decides what each thread of a worker does next: compute, lead the I/O, or sleep. Pure state: no
//! threads, no socket, no clock.
//!
//! The threads are organised as Leader/Followers. One thread at a time has *I/O leadership*: it
//! sends the collected replies, sleeps in a poll until something arrives, puts the requests that
//! have arrived into the shared queue, gives leadership back, and asks again. A thread asks after
//! each chunk of requests that it has computed. Its replies are collected, and it does the first of
//! these that applies ([`Scheduler::next`]):
//!
//! 1. Replies have waited for long enough and leadership is free: lead for one turn without
//!    sleeping.
//! 2. Requests wait: take a chunk of them into the local run queue and compute it.
//! 3. Leadership is free: lead, and sleep in the poll.
//! 4. Sleep until woken.
//!
//! So a single thread receives, computes and sends, and wakes nobody except, after a rest, the
//! monitor.
//!
//! The *monitor* is a thread that never computes ([`monitor`]). While threads take requests it
//! looks every [`TICK`]. If leadership has been free for that long, the monitor wakes an idle
//! thread or, if all threads compute, leads by itself. It also retakes what a long request holds up
//! in a local run queue: requests behind it go back to the shared queue, replies before it are
//! collected.
//!
//! # Why no wake-up is lost
//!
//! All of the state is under one lock. Whoever makes a sleeper's wake-up necessary does so under
//! that lock, and wakes it:
//!
//! - *The leader* collected all replies when it became the leader. A thread that has replies to
//!   send while another one leads rings the alarm. The alarm rings until a poll has returned
//!   because of it, and after that poll the leader asks the scheduler again.
//! - *An idle thread* sleeps while no request waits and leadership is taken. Requests enter the
//!   shared queue in two ways: the leader assigns them, or the monitor retakes them. A leader asks
//!   again after its turn. A thread that takes some requests and leaves others wakes one idle
//!   thread, unless one has been woken already; that one does the same. If the rest is small work,
//!   the thread comes back for it instead; if it turns out to be long, the monitor wakes a thread.
//!   Leadership stays free only while its last leader computes a chunk (the monitor ticks then), or
//!   after the monitor has led in favour of an idle thread, which it wakes. A thread that becomes
//!   idle while *the monitor* leads rings the alarm.
//! - *The monitor* sleeps without a limit, leading or not, only while leadership is taken and the
//!   run queues hold nothing but current requests. Taking a chunk ends that state and makes the
//!   monitor tick. A run queue whose last request is finished needs no monitor: its thread asks
//!   the scheduler.
//!
//! `scheduler/simulation.rs` lets all of them act in random order, where a sleeper continues only
//! after it has been woken.

mod monitor;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub use monitor::{Monitor, MonitorStep, TICK};

use giostra_protocol::{Bytes, Priority, Ticket};

use crate::run_queue::{Claim, MAX_DELAY, Reply, Report, RunQueue, RunQueues, SMALL_WORK};
use crate::shared_queue::SharedQueue;

/// The scheduler of one worker.
#[derive(Default)]
pub struct Scheduler {
    /// The holder of I/O leadership; `None` while it is free.
    leader: Option<Leader>,
    /// The number of turns that were led.
    turns: u64,
    /// The shared queue.
    queue: SharedQueue,
    /// The number of chunks that were taken from the queue.
    chunks: u64,
    outgoing: Outgoing,
    /// The earliest time at which the oldest collected reply may have been made, if there is one.
    replies_since: Option<Instant>,
    threads: usize,
    /// Threads that sleep and have not been woken.
    idle: usize,
    /// Threads that have been woken and have not asked since.
    woken: usize,
    /// How long a request of the last chunk took: the estimate for the next ones.
    pace: Duration,
    /// Whether the monitor ticks. Otherwise it sleeps until it is woken.
    ticking: bool,
    /// Whether the worker has ended.
    pub closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leader {
    Thread,
    Monitor,
}

/// What a computing thread does next.
#[derive(Debug)]
pub enum Step {
    /// Compute the requests in its run queue.
    Compute,
    /// Lead this turn.
    Lead(Turn),
    /// Sleep until woken.
    Sleep,
}

/// One turn of I/O, which ends with [`Scheduler::end_turn`].
#[derive(Debug)]
pub struct Turn {
    /// What to send first.
    pub outgoing: Outgoing,
    /// How long to sleep after that until something arrives, zero while there is other work. `None`:
    /// without a limit, since whatever changes rings the alarm.
    pub wait: Option<Duration>,
}

/// What waits to be sent to the broker, in the order of the fields.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Progress of requests that are being computed.
    pub reports: Vec<Report>,
    /// Outcomes of requests.
    pub replies: Vec<Reply>,
    /// Requests that can't be computed for now.
    pub unable: Option<Unable>,
}

/// An operation that can compute nothing for now.
#[derive(Debug, Default)]
pub struct Unable {
    /// Why it can't.
    pub reason: String,
    /// The requests to hand back to their brokers.
    pub claims: Vec<Claim>,
}

/// Whom to wake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wakeups {
    /// One idle thread.
    pub thread: bool,
    /// The monitor, if it does not lead.
    pub monitor: bool,
    /// The leader, by the alarm in its poll.
    pub leader: bool,
}

/// The load of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The number of requests that are being computed.
    pub computing: u32,
    /// The number of requests that wait for a thread.
    pub waiting: u32,
    /// For how long the oldest of them has been computed, give or take some milliseconds.
    pub oldest: Duration,
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.reports.is_empty() && self.unable.is_none()
    }
}

impl Scheduler {
    /// Creates a scheduler for this number of computing threads, with a ticking monitor.
    pub fn new(threads: usize) -> Self {
        Self { threads, pace: MAX_DELAY, ticking: true, ..Self::default() }
    }

    /// Decides what a thread does next that has computed all of its run queue.
    pub fn next(&mut self, run_queue: &mut RunQueue, now: Instant) -> (Step, Wakeups) {
        let mut wakeups = Wakeups::default();
        self.collect(run_queue);
        if let Some(pace) = run_queue.end_chunk(now) {
            self.pace = pace;
        }
        let overdue = self.replies_since.is_some_and(|since| now.saturating_duration_since(since) > MAX_DELAY);
        // Urgent replies do not wait for requests that can wait.
        let can_wait = self.queue.first().is_none_or(|next| next > run_queue.priority);
        let send = !self.outgoing.is_empty() && (overdue || can_wait);
        if send || self.queue.is_empty() {
            let wait = if self.queue.is_empty() { None } else { Some(Duration::ZERO) };
            match self.lead(Leader::Thread, wait) {
                Some(turn) => return (Step::Lead(turn), wakeups),
                None => wakeups.leader = send,
            }
        }
        if self.queue.is_empty() {
            self.idle += 1;
            wakeups.leader |= self.leader == Some(Leader::Monitor);
            return (Step::Sleep, wakeups);
        }
        let small = self.is_small_work();
        let limit = if small { self.queue.len() } else { self.queue.len().div_ceil(self.threads) };
        if let Some((priority, queue)) = self.queue.urgent() {
            run_queue.take(priority, queue, limit, now);
        }
        self.chunks += 1;
        let leaves_work = !self.queue.is_empty() && !small;
        let leaves_leadership = self.leader.is_none() && self.pace >= MAX_DELAY;
        wakeups.thread = (leaves_work || leaves_leadership) && self.wake_idle();
        if !std::mem::replace(&mut self.ticking, true) {
            let leads = self.leader == Some(Leader::Monitor);
            wakeups.leader |= leads;
            wakeups.monitor = !leads;
        }
        (Step::Compute, wakeups)
    }

    /// Counts a woken thread as awake. Returns whether one was woken; if not, the caller sleeps on.
    pub fn wakes_up(&mut self) -> bool {
        let woken = self.woken > 0;
        self.woken -= usize::from(woken);
        woken
    }

    /// Gives leadership back. The former leader has to ask again under the same lock.
    pub fn end_turn(&mut self) {
        self.leader = None;
    }

    /// Whether the monitor ticks.
    pub fn ticking(&self) -> bool {
        self.ticking
    }

    /// Adds requests of a link to the shared queue. For the leader, which asks again after its turn.
    pub fn assign(&mut self, link: usize, priority: Priority, requests: Vec<(Ticket, Bytes)>) -> Wakeups {
        if let Some(unable) = &mut self.outgoing.unable {
            unable.claims.extend(requests.into_iter().map(|(ticket, _)| Claim { link, ticket }));
            return Wakeups::default();
        }
        self.queue.add(link, priority, requests);
        let thread = self.queue.len() > 1 && !self.is_small_work() && self.wake_idle();
        Wakeups { thread, ..Wakeups::default() }
    }

    /// Has the progress of a request sent.
    pub fn report(&mut self, report: Report) -> Wakeups {
        self.outgoing.reports.push(report);
        self.wake_leader()
    }

    /// Hands all waiting requests back to their brokers, and this one, since nothing can be computed for
    /// now.
    pub fn hand_back(&mut self, reason: String, claim: Option<Claim>, run_queues: &RunQueues) -> Wakeups {
        let unable = self.outgoing.unable.get_or_insert_default();
        unable.reason = reason;
        unable.claims.extend(claim);
        unable.claims.extend(self.queue.take_all());
        run_queues.each().for_each(|mut run_queue| run_queue.hand_back(&mut unable.claims));
        self.wake_leader()
    }

    /// Cancels these requests of a link. For the leader.
    pub fn cancel(&mut self, link: usize, tickets: &[Ticket], run_queues: &RunQueues, now: Instant) {
        let tickets: BTreeSet<_> = tickets.iter().collect();
        let wanted = |claim: &Claim| claim.link != link || !tickets.contains(&claim.ticket);
        if self.queue.cancel(&mut self.outgoing.replies, &wanted) {
            self.replies_since.get_or_insert(now);
        }
        for mut run_queue in run_queues.each() {
            if run_queue.cancel(&wanted) {
                self.collect(&mut run_queue);
            }
        }
    }

    /// Forgets all requests and replies of a link. For the leader.
    pub fn discard(&mut self, link: usize, run_queues: &RunQueues) {
        self.queue.discard(link);
        self.outgoing.replies.retain(|(claim, _)| claim.link != link);
        self.outgoing.reports.retain(|(claim, _)| claim.link != link);
        if self.outgoing.replies.is_empty() {
            self.replies_since = None;
        }
        if let Some(unable) = &mut self.outgoing.unable {
            unable.claims.retain(|claim| claim.link != link);
        }
        run_queues.each().for_each(|mut run_queue| run_queue.discard(link));
    }

    /// Returns the load of all threads by requests of this link, or of all.
    pub fn load(&self, link: Option<usize>, run_queues: &RunQueues, now: Instant) -> Load {
        let is_of = |claim: Claim| link.is_none_or(|link| claim.link == link);
        let waiting = link.map_or_else(|| self.queue.len(), |link| self.queue.len_of(link)) as u32;
        let mut load = Load { waiting, ..Load::default() };
        for run_queue in run_queues.each() {
            load.waiting += run_queue.waiting().filter(|&claim| is_of(claim)).count() as u32;
            if let Some(since) = run_queue.computing_since().filter(|_| run_queue.current().is_some_and(is_of)) {
                load.computing += 1;
                load.oldest = load.oldest.max(now.saturating_duration_since(since));
            }
        }
        load
    }

    /// Takes leadership if it is free.
    fn lead(&mut self, leader: Leader, wait: Option<Duration>) -> Option<Turn> {
        if self.leader.is_some() {
            return None;
        }
        self.leader = Some(leader);
        self.turns += 1;
        self.replies_since = None;
        Some(Turn { outgoing: std::mem::take(&mut self.outgoing), wait })
    }

    /// Whether the shared queue holds no more work than one thread does before another is awake.
    fn is_small_work(&self) -> bool {
        self.pace.saturating_mul(self.queue.len() as u32) < SMALL_WORK
    }

    /// Marks an idle thread as woken, unless there is none or one has been woken already. Returns
    /// whether to wake one.
    fn wake_idle(&mut self) -> bool {
        let wake = self.idle > 0 && self.woken == 0;
        self.idle -= usize::from(wake);
        self.woken += usize::from(wake);
        wake
    }

    fn wake_leader(&self) -> Wakeups {
        Wakeups { leader: self.leader.is_some(), ..Wakeups::default() }
    }

    /// Collects the replies of a run queue. Returns whether there were any.
    fn collect(&mut self, run_queue: &mut RunQueue) -> bool {
        let Some(since) = run_queue.collect(&mut self.outgoing.replies) else { return false };
        self.replies_since = Some(self.replies_since.map_or(since, |earlier| earlier.min(since)));
        true
    }
}
