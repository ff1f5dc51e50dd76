//! A worker's side of the conversations with its brokers, without sockets, clock and threads.
//!
//! Messages and instants come in (`handle_*`), actions come out ([`Session::poll_action`]), to be
//! performed in their order before the next input.
//!
//! Each broker has a [`Link`], which is watched by itself: a worker that one broker has lost serves the
//! others meanwhile. Those that have work share its threads and its window; a broker whose first
//! request after a rest arrives gets its share at once, and the others hear of it.

mod action;
mod link;

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::{Duration, Instant};

use giostra_protocol::codec::portions;
use giostra_protocol::{Failure, FromWorker, MAX_BATCH, Outcome, Ticket, ToWorker};
use giostra_transport::time::deadline;
use log::Level;

use crate::Options;
use crate::run_queue::{Claim, Reply, Report};
use crate::scheduler::{Load, Unable};
pub use action::Action;
use link::{Link, State};

/// The shortest and the longest pause of a worker that is unable to compute. Each pause is twice as
/// long as the one before, until something has been computed again.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// The conversations of one worker.
pub struct Session {
    options: Options,
    links: Vec<Link>,
    /// When the worker ends at the latest, once it wants to leave.
    leave_by: Option<Instant>,
    /// When the worker is to leave because of its age.
    old_at: Option<Instant>,
    /// Since when the worker has held no request, or a moment later.
    idle_since: Instant,
    /// Set while nothing can be computed.
    pause: Option<Pause>,
    /// The length of the next pause.
    next_pause: Duration,
    actions: VecDeque<Action>,
}

/// A time in which the worker takes no requests, since its operation is unable to compute.
struct Pause {
    reason: String,
    retry_at: Instant,
}

impl Session {
    /// Creates the session of a worker that is about to connect to these brokers. They know a worker
    /// that comes back by its `instance`.
    pub fn new(options: &Options, brokers: &[String], operations: &[String], instance: u64, now: Instant) -> Self {
        let link =
            |(place, broker): (usize, &String)| Link::new(options, broker.clone(), place, operations, instance, now);
        Self {
            options: options.clone(),
            links: brokers.iter().enumerate().map(link).collect(),
            leave_by: None,
            old_at: options.lifetime.map(|lifetime| {
                // Different for each worker, since its instance is a random number.
                let share = options.lifetime_stagger.min(lifetime).mul_f64((instance % 1000) as f64 / 1000.0);
                deadline(now, lifetime - share)
            }),
            idle_since: now,
            pause: None,
            next_pause: PAUSES[0],
            actions: VecDeque::new(),
        }
    }

    /// Returns the message that has to be the first over each connection of a link.
    pub fn register(&self, link: usize) -> &FromWorker {
        &self.links[link].register
    }

    /// Whether the worker has asked the broker to let it leave.
    pub fn is_leaving(&self) -> bool {
        self.leave_by.is_some()
    }

    /// Returns the next action.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns when [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_links = self.links.iter().flat_map(|link| [link.warn_at(), link.ask_at(), self.rests_at(link)]);
        let own = [self.leave_by, self.old_at(), self.idle_at(), self.retry_at()];
        own.into_iter().chain(of_links).flatten().min()
    }

    /// Handles a message from a link's broker.
    pub fn handle(&mut self, link: usize, message: ToWorker, now: Instant) {
        match message {
            ToWorker::Welcome { worker, ping_interval_ms, ping_max_out, max_message_bytes, .. } => {
                let silence = Duration::from_millis(ping_interval_ms.saturating_mul(u64::from(ping_max_out)));
                self.links[link].welcomed(&self.options, max_message_bytes);
                self.handle_welcome(link, worker, silence);
            }
            // The broker sent it before it heard of the pause.
            ToWorker::Dispatch { requests, .. } if self.pause.is_some() => {
                self.hand_back(link, requests.into_iter().map(|(ticket, _)| ticket).collect());
            }
            ToWorker::Dispatch { priority, requests } => {
                self.idle_since = now;
                if self.links[link].handed(requests.len(), now) {
                    self.share_out();
                }
                self.actions.push_back(Action::Assign(link, priority, requests));
            }
            ToWorker::Cancel(tickets) => self.actions.push_back(Action::Cancel(link, tickets)),
            ToWorker::Ping { sequence } => self.actions.push_back(Action::Pong { link, sequence }),
            ToWorker::RegisterAgain => {
                self.log_of(link, Level::Warn, "the broker has dropped this worker; registering again");
                self.start_over(link, true, now);
            }
            ToWorker::Hiccup => {
                self.log_of(link, Level::Warn, "the connection to the broker broke; reconnecting");
                // libzmq registers at the next connection, before anything else.
                self.start_over(link, false, now);
            }
            ToWorker::Goodbye => self.handle_goodbye(link, now),
            ToWorker::Closing => self.log_of(link, Level::Info, "the broker is closing; waiting for the next one"),
            ToWorker::Refused { reason } if self.links[link].is_up() => {
                self.log_of(link, Level::Error, format!("the broker refused a message: {reason}"));
            }
            ToWorker::Refused { reason } => self.handle_refused(link, reason, now),
        }
    }

    /// Handles a message that can't be read. It may have been requests: the worker registers again,
    /// so that the broker hands out anew what this registration has lost.
    pub fn handle_unreadable(&mut self, link: usize, error: &impl Display, now: Instant) {
        if !std::mem::replace(&mut self.links[link].unreadable, true) {
            let endpoint = &self.links[link].broker;
            self.log(Level::Error, format!("what speaks at {endpoint} is not Giostra's backend: {error}"));
        }
        if self.links[link].is_up() {
            self.start_over(link, true, now);
        }
    }

    /// Handles a failed attempt to connect, which is logged unless the last one failed in the same way.
    pub fn handle_trouble(&mut self, link: usize, why: String) {
        if self.links[link].trouble.as_ref() != Some(&why) {
            self.log(Level::Error, why.clone());
            self.links[link].trouble = Some(why);
        }
    }

    /// Handles progress and outcomes of requests, which are sent to their brokers.
    pub fn handle_replies(&mut self, reports: Vec<Report>, replies: Vec<Reply>, now: Instant) {
        if !replies.is_empty() {
            self.idle_since = now;
        }
        let is_result = |(_, outcome): &Reply| matches!(outcome, Outcome::Ok(_));
        if self.next_pause > PAUSES[0] && self.pause.is_none() && replies.iter().any(is_result) {
            self.next_pause = PAUSES[0];
        }
        for (link, reports) in self.by_link(reports) {
            self.send(link, FromWorker::Progress(reports));
        }
        for (link, replies) in self.by_link(replies) {
            self.links[link].answered(replies.len(), now);
            let max_bytes = self.links[link].max_message_bytes;
            let replies = replies.into_iter().map(|(ticket, outcome)| (ticket, sendable(outcome, max_bytes))).collect();
            let send = |portion| self.actions.push_back(Action::Send(link, FromWorker::Replies(portion)));
            portions(replies, max_bytes, |(_, outcome)| outcome.packed_len()).for_each(send);
        }
    }

    /// Returns the links that there is something for, with their parts of it.
    fn by_link<T>(&self, all: Vec<(Claim, T)>) -> Vec<(usize, Vec<(Ticket, T)>)> {
        let mut by_link: Vec<(usize, Vec<(Ticket, T)>)> = Vec::with_capacity(1);
        let count = all.len();
        for (Claim { link, ticket }, what) in all {
            let place = by_link.iter().position(|(with, _)| *with == link).unwrap_or_else(|| {
                by_link.push((link, Vec::with_capacity(count)));
                by_link.len() - 1
            });
            by_link[place].1.push((ticket, what));
        }
        by_link
    }

    /// Handles an operation that can compute nothing for now: takes no requests for a while, and
    /// hands back those that are held.
    pub fn handle_unable(&mut self, Unable { reason, claims }: Unable, now: Instant) {
        if self.pause.is_none() {
            let pause = self.next_pause;
            self.log(Level::Error, format!("{reason}; taking no requests for {pause:?} at least"));
            self.links.iter_mut().for_each(|link| link.tell_able = true);
            self.pause = Some(Pause { reason, retry_at: now + pause });
            self.next_pause = (2 * pause).min(PAUSES[1]);
        }
        let mut tickets = vec![Vec::new(); self.links.len()];
        for Claim { link, ticket } in claims {
            tickets[link].push(ticket);
        }
        for (link, tickets) in tickets.into_iter().enumerate() {
            if self.links[link].is_up() {
                self.links[link].answered(tickets.len(), now);
                self.hand_back(link, tickets);
            }
        }
    }

    /// Handles the service's answer to [`Action::CheckAbility`].
    pub fn handle_ability(&mut self, able: Result<(), String>, now: Instant) {
        let Some(pause) = &mut self.pause else { return };
        let is_news = match able {
            Ok(()) => {
                self.pause = None;
                self.log(Level::Info, "taking requests again");
                true
            }
            // Asking costs nothing, and no request: soon again.
            Err(reason) => {
                pause.retry_at = now + PAUSES[0];
                let is_news = pause.reason != reason;
                pause.reason = reason;
                is_news
            }
        };
        for link in 0..self.links.len() {
            match self.pause {
                _ if !is_news || !self.links[link].is_up() => {}
                Some(_) => self.hand_back(link, Vec::new()),
                None => {
                    self.links[link].tell_able = false;
                    self.send(link, FromWorker::Able);
                }
            }
        }
    }

    /// Handles a request to shut down: finishes what is held, and leaves.
    pub fn handle_shutdown(&mut self, load: Load, now: Instant) {
        self.leave("", u64::from(load.computing) + u64::from(load.waiting), now);
    }

    fn leave(&mut self, why: &str, unfinished: u64, now: Instant) {
        let is_registered = self.links.iter().any(Link::is_up);
        self.actions.push_back(Action::Stopping(if is_registered { self.options.grace } else { Duration::ZERO }));
        if is_registered {
            self.log(Level::Info, format!("{why}leaving; {unfinished} requests to finish first"));
            self.leave_by = Some(deadline(now, self.options.grace));
        } else if !why.is_empty() {
            self.log(Level::Info, format!("{why}leaving; no broker is there"));
        }
        for link in 0..self.links.len() {
            match self.links[link].state {
                State::Up => self.send(link, FromWorker::Leave),
                State::Down { .. } | State::Refused { .. } => self.leave_unregistered(link),
                State::Left => {}
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, load: Load, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let unfinished = u64::from(load.computing) + u64::from(load.waiting);
        if is_due(self.leave_by) {
            let grace = self.options.grace;
            let line =
                format!("leaving {unfinished} requests unfinished after {grace:?}; the broker hands them to others");
            self.log(Level::Warn, line);
            return self.actions.push_back(Action::End);
        }
        if is_due(self.old_at()) {
            let lifetime = self.options.lifetime.unwrap_or_default();
            return self.leave(&format!("at the end of a lifetime of {lifetime:?}: "), unfinished, now);
        }
        if is_due(self.idle_at()) {
            if unfinished == 0 {
                let idle = self.options.idle_timeout.unwrap_or_default();
                return self.leave(&format!("no request for {idle:?}: "), 0, now);
            }
            self.idle_since = now;
        }
        if is_due(self.retry_at()) {
            self.actions.push_back(Action::CheckAbility);
        }
        for link in 0..self.links.len() {
            if self.links[link].warns(now) {
                self.log(Level::Warn, format!("no broker at {}; still trying", self.links[link].broker));
            }
            if is_due(self.links[link].ask_at()) {
                self.links[link].lost(now);
                self.actions.push_back(Action::Lost(link));
                self.send(link, self.links[link].register.clone());
            }
            if self.has_others() && self.links[link].rests(now) {
                self.share_out();
            }
        }
    }

    /// Whether there are several brokers.
    fn has_others(&self) -> bool {
        self.links.len() > 1
    }

    /// When a link has rested, and the others are to get its share.
    fn rests_at(&self, link: &Link) -> Option<Instant> {
        link.rests_at().filter(|_| self.has_others())
    }

    /// Tells the brokers whose share has changed.
    fn share_out(&mut self) {
        if !self.has_others() {
            return;
        }
        let busy = self.links.iter().filter(|link| link.is_busy()).count();
        for (place, link) in self.links.iter_mut().enumerate() {
            if let Some(link::Share { threads, window }) = link.share(&self.options, busy) {
                self.actions.push_back(Action::Send(place, FromWorker::Share { threads, window }));
            }
        }
    }

    /// When to leave because of the worker's age, unless it is leaving.
    fn old_at(&self) -> Option<Instant> {
        self.old_at.filter(|_| !self.is_leaving())
    }

    /// When to look whether the worker has been idle for too long, unless it is leaving.
    fn idle_at(&self) -> Option<Instant> {
        let timeout = self.options.idle_timeout.filter(|_| !self.is_leaving())?;
        Some(deadline(self.idle_since, timeout))
    }

    /// When to ask whether the pause can end.
    fn retry_at(&self) -> Option<Instant> {
        self.pause.as_ref().filter(|_| !self.is_leaving()).map(|pause| pause.retry_at)
    }

    fn handle_welcome(&mut self, link: usize, worker: u64, silence: Duration) {
        self.actions.push_back(Action::Answered(link));
        let pool = &self.options.pool;
        let line = format!("registered as w{worker} in pool {pool}; dropped after {silence:?} of silence");
        self.log_of(link, Level::Info, line);
        if self.is_leaving() {
            // The broker came while others are left.
            return self.send(link, FromWorker::Leave);
        }
        let (name, broker) = (&self.options.name, &self.links[link].broker);
        self.actions.push_back(Action::Ready(format!("registered as {name} (w{worker}) at {broker}")));
        self.share_out();
        // Messages over an earlier connection may have arrived behind this registration.
        if self.pause.is_some() {
            self.hand_back(link, Vec::new());
        } else if std::mem::take(&mut self.links[link].tell_able) {
            self.send(link, FromWorker::Able);
        }
    }

    /// The worker has left, or was drained by this broker: then it leaves the others, too.
    fn handle_goodbye(&mut self, link: usize, now: Instant) {
        self.log_of(link, Level::Info, "left");
        self.links[link].state = State::Left;
        if !self.is_leaving() {
            if self.links.iter().any(|link| !matches!(link.state, State::Left)) {
                let unfinished = self.links.iter().map(|link| link.held).sum();
                return self.leave("drained by one of the brokers: ", unfinished, now);
            }
            self.actions.push_back(Action::Stopping(Duration::ZERO));
        }
        self.end_if_left();
    }

    /// A broker has refused to register the worker. Others may not.
    fn handle_refused(&mut self, link: usize, reason: String, now: Instant) {
        if self.is_leaving() {
            self.links[link].state = State::Left;
            return self.end_if_left();
        }
        let pause = self.links[link].refused(now);
        if !self.links.iter().any(Link::may_serve) {
            return self.actions.push_back(Action::Refused(reason));
        }
        // It has answered: this connection is kept until it is asked again.
        self.actions.push_back(Action::Answered(link));
        let line = format!("the broker refused to register this worker: {reason}; asking again in {pause:?}");
        self.log_of(link, Level::Error, line);
    }

    /// Ends a registration, and with it the requests that were handed out under it.
    fn start_over(&mut self, link: usize, register: bool, now: Instant) {
        let lost = if register { Action::Lost(link) } else { Action::Broke(link) };
        self.actions.extend([Action::Discard(link), lost]);
        self.links[link].lost(now);
        if self.is_leaving() {
            return self.leave_unregistered(link);
        }
        self.actions.push_back(Action::Status(format!("reconnecting to {}", self.links[link].broker)));
        if register {
            self.send(link, self.links[link].register.clone());
        }
    }

    /// Leaves without a registration. The broker may have registered this worker all the same, and
    /// its welcome be on the way. It is not waited for: the broker hands what it has dispatched by
    /// then to others, and holds the loss against nothing. Without a connection the end waits for
    /// this message alone, `socket::LINGER` at most.
    fn leave_unregistered(&mut self, link: usize) {
        self.send(link, FromWorker::Leave);
        self.links[link].state = State::Left;
        self.end_if_left();
    }

    fn end_if_left(&mut self) {
        if self.links.iter().all(|link| matches!(link.state, State::Left)) {
            self.actions.push_back(Action::End);
        }
    }

    /// Tells a broker that nothing can be computed, and hands these requests back.
    fn hand_back(&mut self, link: usize, mut tickets: Vec<Ticket>) {
        let reason = self.pause.as_ref().map(|pause| pause.reason.clone()).unwrap_or_default();
        while tickets.len() > MAX_BATCH {
            let rest = tickets.split_off(MAX_BATCH);
            self.send(link, FromWorker::Unable { reason: reason.clone(), tickets });
            tickets = rest;
        }
        self.send(link, FromWorker::Unable { reason, tickets });
    }

    fn send(&mut self, link: usize, message: FromWorker) {
        self.actions.push_back(Action::Send(link, message));
    }

    /// Logs a line about a link.
    fn log_of(&mut self, link: usize, level: Level, line: impl Into<String>) {
        let line = line.into();
        let line = if self.has_others() { format!("{}: {line}", self.links[link].broker) } else { line };
        self.log(level, line);
    }

    fn log(&mut self, level: Level, line: impl Into<String>) {
        self.actions.push_back(Action::Log(level, line.into()));
    }
}

/// Returns the outcome, or an error in place of a result that no message can hold: sending it would
/// cost the connection, and then the next worker's.
fn sendable(outcome: Outcome, max_bytes: usize) -> Outcome {
    match outcome {
        Outcome::Ok(result) if result.len() > max_bytes => Outcome::Error(Failure::from(format!(
            "the result has {} bytes, and {max_bytes} is the most that can be sent",
            result.len()
        ))),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests;
