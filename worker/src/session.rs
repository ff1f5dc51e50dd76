//! A worker's side of the conversation with the broker, without its socket, clock and threads.
//!
//! Messages and instants come in (`handle_*`), actions come out ([`Session::poll_action`]), to be
//! performed in their order before the next input.

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::{Duration, Instant};

use giostra_protocol::codec::portions;
use giostra_protocol::{
    Failure, FromWorker, MAX_BATCH, MAX_MESSAGE_BYTES, Outcome, Priority, Ticket, ToWorker, VERSION,
};
use giostra_transport::time::deadline;
use log::Level;

use crate::Options;
use crate::run_queue::{Reply, Report, Request};
use crate::scheduler::{Load, Unable};

/// How long a worker without a broker waits before it warns.
const WARN_AFTER: Duration = Duration::from_secs(2);

/// The shortest and the longest pause of a worker that is unable to compute. Each pause is twice as
/// long as the one before, until something has been computed again.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// What the session wants done.
#[derive(Debug)]
pub enum Action {
    /// Send this to the broker.
    Send(FromWorker),
    /// Send a pong with the worker's load.
    Pong {
        /// The number of the ping.
        sequence: u64,
    },
    /// Add these requests to the scheduler's queue.
    Assign(Priority, Vec<Request>),
    /// Cancel these requests.
    Cancel(Vec<Ticket>),
    /// Forget all requests and replies: the registration they belong to has ended.
    Discard,
    /// Ask the service whether it is able to compute, for [`Session::handle_ability`].
    CheckAbility,
    /// Tell the connector that the broker has answered.
    Answered,
    /// Tell the connector that the broker was lost.
    Lost,
    /// Log a line.
    Log(Level, String),
    /// Tell the service manager that the worker serves, and what it does.
    Ready(String),
    /// Tell the service manager what the worker does.
    Status(String),
    /// Tell the service manager that the worker ends within this time.
    Stopping(Duration),
    /// End the worker.
    End,
    /// End the worker, which the broker has refused for this reason.
    Refused(String),
}

/// The conversation of one worker.
pub struct Session {
    options: Options,
    register: FromWorker,
    link: Link,
    /// The most bytes that the broker takes in one frame.
    max_message_bytes: usize,
    /// The failed handshake that was logged last.
    handshake: Option<String>,
    /// Whether an unreadable message was logged since the last registration.
    unreadable: bool,
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
    /// Whether the broker has to be told, at the next registration, that the pause is over.
    tell_able: bool,
    actions: VecDeque<Action>,
}

/// Whether a broker is there.
enum Link {
    /// None has welcomed this worker, or the connection broke.
    Down { since: Instant, warned: bool },
    /// The worker is registered.
    Up,
}

/// A time in which the worker takes no requests, since its operation is unable to compute.
struct Pause {
    reason: String,
    retry_at: Instant,
}

impl Session {
    /// Creates the session of a worker that is about to connect. The broker knows a worker that
    /// comes back by its `instance`.
    pub fn new(options: &Options, operations: Vec<String>, instance: u64, now: Instant) -> Self {
        let register = FromWorker::Register {
            version: VERSION,
            name: options.name.clone(),
            pool: options.pool.clone(),
            operations,
            threads: options.threads.max(1).try_into().unwrap_or(u32::MAX),
            window: options.window,
            instance,
            host: options.host.clone(),
        };
        Self {
            options: options.clone(),
            register,
            link: Link::Down { since: now, warned: false },
            max_message_bytes: MAX_MESSAGE_BYTES,
            handshake: None,
            unreadable: false,
            leave_by: None,
            old_at: options.lifetime.map(|lifetime| {
                // Different for each worker, since its instance is a random number.
                let share = options.lifetime_stagger.min(lifetime).mul_f64((instance % 1000) as f64 / 1000.0);
                deadline(now, lifetime - share)
            }),
            idle_since: now,
            pause: None,
            next_pause: PAUSES[0],
            tell_able: false,
            actions: VecDeque::new(),
        }
    }

    /// Returns the message that has to be the first over each connection.
    pub fn register(&self) -> &FromWorker {
        &self.register
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
        [self.leave_by, self.old_at(), self.idle_at(), self.warn_at(), self.retry_at()].into_iter().flatten().min()
    }

    /// Handles a message from the broker.
    pub fn handle(&mut self, message: ToWorker, now: Instant) {
        match message {
            ToWorker::Welcome { worker, ping_interval_ms, ping_max_out, max_message_bytes, .. } => {
                self.max_message_bytes =
                    usize::try_from(max_message_bytes).unwrap_or(usize::MAX).min(MAX_MESSAGE_BYTES);
                let silence = Duration::from_millis(ping_interval_ms.saturating_mul(u64::from(ping_max_out)));
                self.handle_welcome(worker, silence);
            }
            // The broker sent it before it heard of the pause.
            ToWorker::Dispatch { requests, .. } if self.pause.is_some() => {
                self.hand_back(requests.into_iter().map(|(ticket, _)| ticket).collect());
            }
            ToWorker::Dispatch { priority, requests } => {
                self.idle_since = now;
                self.actions.push_back(Action::Assign(priority, requests));
            }
            ToWorker::Cancel(tickets) => self.actions.push_back(Action::Cancel(tickets)),
            ToWorker::Ping { sequence } => self.actions.push_back(Action::Pong { sequence }),
            ToWorker::RegisterAgain => {
                self.log(Level::Warn, "the broker has dropped this worker; registering again");
                self.start_over(true, now);
            }
            ToWorker::Hiccup => {
                self.log(Level::Warn, "the connection to the broker broke; reconnecting");
                // libzmq registers at the next connection, before anything else.
                self.start_over(false, now);
            }
            ToWorker::Goodbye => {
                self.log(Level::Info, "left");
                // Drained by the broker.
                if !self.is_leaving() {
                    self.actions.push_back(Action::Stopping(Duration::ZERO));
                }
                self.actions.push_back(Action::End);
            }
            ToWorker::Closing => self.log(Level::Info, "the broker is closing; waiting for the next one"),
            ToWorker::Refused { reason } if self.is_registered() => {
                self.log(Level::Error, format!("the broker refused a message: {reason}"));
            }
            ToWorker::Refused { reason } => self.actions.push_back(Action::Refused(reason)),
        }
    }

    /// Handles a message that can't be read. It may have been requests: the worker registers again,
    /// so that the broker hands out anew what this registration has lost.
    pub fn handle_unreadable(&mut self, error: &impl Display, now: Instant) {
        if !std::mem::replace(&mut self.unreadable, true) {
            let endpoint = &self.options.broker;
            self.log(Level::Error, format!("what speaks at {endpoint} is not Giostra's backend: {error}"));
        }
        if self.is_registered() {
            self.start_over(true, now);
        }
    }

    /// Handles a failed handshake, which is logged unless the last one failed in the same way.
    pub fn handle_failed_handshake(&mut self, why: String) {
        if self.handshake.as_ref() != Some(&why) {
            self.log(Level::Error, format!("the handshake with {} failed: {why}", self.options.broker));
            self.handshake = Some(why);
        }
    }

    /// Handles progress and outcomes of requests, which are sent.
    pub fn handle_replies(&mut self, reports: Vec<Report>, replies: Vec<Reply>, now: Instant) {
        if !replies.is_empty() {
            self.idle_since = now;
        }
        if !reports.is_empty() {
            self.send(FromWorker::Progress(reports));
        }
        let is_result = |(_, outcome): &Reply| matches!(outcome, Outcome::Ok(_));
        if self.next_pause > PAUSES[0] && self.pause.is_none() && replies.iter().any(is_result) {
            self.next_pause = PAUSES[0];
        }
        let max_bytes = self.max_message_bytes;
        let replies = replies.into_iter().map(|(ticket, outcome)| (ticket, sendable(outcome, max_bytes))).collect();
        let send = |portion| self.actions.push_back(Action::Send(FromWorker::Replies(portion)));
        portions(replies, max_bytes, |(_, outcome)| outcome.packed_len()).for_each(send);
    }

    /// Handles an operation that can compute nothing for now: takes no requests for a while, and
    /// hands back those that are held.
    pub fn handle_unable(&mut self, Unable { reason, tickets }: Unable, now: Instant) {
        if self.pause.is_none() {
            let pause = self.next_pause;
            self.log(Level::Error, format!("{reason}; taking no requests for {pause:?} at least"));
            self.tell_able = true;
            self.pause = Some(Pause { reason, retry_at: now + pause });
            self.next_pause = (2 * pause).min(PAUSES[1]);
        }
        if self.is_registered() {
            self.hand_back(tickets);
        }
    }

    /// Handles the service's answer to [`Action::CheckAbility`].
    pub fn handle_ability(&mut self, able: Result<(), String>, now: Instant) {
        let Some(pause) = &mut self.pause else { return };
        match able {
            Ok(()) => {
                self.pause = None;
                self.log(Level::Info, "taking requests again");
                if self.is_registered() {
                    self.send(FromWorker::Able);
                }
            }
            // Asking costs nothing, and no request: soon again.
            Err(reason) => {
                pause.retry_at = now + PAUSES[0];
                let is_news = pause.reason != reason;
                pause.reason = reason;
                if is_news && self.is_registered() {
                    self.hand_back(Vec::new());
                }
            }
        }
    }

    /// Handles a request to shut down: finishes what is held, and leaves.
    pub fn handle_shutdown(&mut self, load: Load, now: Instant) {
        self.leave("", load, now);
    }

    fn leave(&mut self, why: &str, load: Load, now: Instant) {
        let is_registered = self.is_registered();
        self.actions.push_back(Action::Stopping(if is_registered { self.options.grace } else { Duration::ZERO }));
        if !is_registered {
            if !why.is_empty() {
                self.log(Level::Info, format!("{why}leaving; no broker is there"));
            }
            return self.leave_unregistered();
        }
        self.log(Level::Info, format!("{why}leaving; {} requests to finish first", load.computing + load.waiting));
        self.leave_by = Some(deadline(now, self.options.grace));
        self.send(FromWorker::Leave);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, load: Load, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.leave_by) {
            let (unfinished, grace) = (load.computing + load.waiting, self.options.grace);
            let line =
                format!("leaving {unfinished} requests unfinished after {grace:?}; the broker hands them to others");
            self.log(Level::Warn, line);
            return self.actions.push_back(Action::End);
        }
        if is_due(self.old_at()) {
            let lifetime = self.options.lifetime.unwrap_or_default();
            return self.leave(&format!("at the end of a lifetime of {lifetime:?}: "), load, now);
        }
        if is_due(self.idle_at()) {
            if load.computing + load.waiting == 0 {
                let idle = self.options.idle_timeout.unwrap_or_default();
                return self.leave(&format!("no request for {idle:?}: "), load, now);
            }
            self.idle_since = now;
        }
        if is_due(self.retry_at()) {
            self.actions.push_back(Action::CheckAbility);
        }
        if is_due(self.warn_at()) {
            self.log(Level::Warn, format!("no broker at {}; still trying", self.options.broker));
            if let Link::Down { warned, .. } = &mut self.link {
                *warned = true;
            }
        }
    }

    fn is_registered(&self) -> bool {
        matches!(self.link, Link::Up)
    }

    /// When to warn that there is no broker, unless that was done.
    fn warn_at(&self) -> Option<Instant> {
        match self.link {
            Link::Down { since, warned: false } => Some(since + WARN_AFTER),
            Link::Down { .. } | Link::Up => None,
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

    fn handle_welcome(&mut self, worker: u64, silence: Duration) {
        self.link = Link::Up;
        self.handshake = None;
        self.unreadable = false;
        self.actions.push_back(Action::Answered);
        let pool = &self.options.pool;
        self.log(Level::Info, format!("registered as w{worker} in pool {pool}; dropped after {silence:?} of silence"));
        if !self.is_leaving() {
            let Options { name, broker, .. } = &self.options;
            self.actions.push_back(Action::Ready(format!("registered as {name} (w{worker}) at {broker}")));
        }
        // Messages over an earlier connection may have arrived behind this registration.
        if self.pause.is_some() {
            self.hand_back(Vec::new());
        } else if std::mem::take(&mut self.tell_able) {
            self.send(FromWorker::Able);
        }
    }

    /// Ends the registration, and with it the requests that were handed out under it.
    fn start_over(&mut self, register: bool, now: Instant) {
        self.actions.extend([Action::Discard, Action::Lost]);
        self.link = Link::Down { since: now, warned: false };
        if !self.is_leaving() {
            self.actions.push_back(Action::Status(format!("reconnecting to {}", self.options.broker)));
        }
        if self.is_leaving() {
            self.leave_unregistered();
        } else if register {
            self.send(self.register.clone());
        }
    }

    /// Leaves without a registration. The broker may have registered this worker all the same, and
    /// its welcome be on the way. It is not waited for: the broker hands what it has dispatched by
    /// then to others, and holds the loss against nothing. Without a connection the end waits for
    /// this message alone, `socket::LINGER` at most.
    fn leave_unregistered(&mut self) {
        self.send(FromWorker::Leave);
        self.actions.push_back(Action::End);
    }

    /// Tells the broker that nothing can be computed, and hands these requests back.
    fn hand_back(&mut self, mut tickets: Vec<Ticket>) {
        let reason = self.pause.as_ref().map(|pause| pause.reason.clone()).unwrap_or_default();
        while tickets.len() > MAX_BATCH {
            let rest = tickets.split_off(MAX_BATCH);
            self.send(FromWorker::Unable { reason: reason.clone(), tickets });
            tickets = rest;
        }
        self.send(FromWorker::Unable { reason, tickets });
    }

    fn send(&mut self, message: FromWorker) {
        self.actions.push_back(Action::Send(message));
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
