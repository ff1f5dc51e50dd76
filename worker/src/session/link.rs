//! The link to one broker: its registration, and its share of the worker.

use std::time::{Duration, Instant};

use giostra_protocol::{FromWorker, MAX_INSTANCE, MAX_MESSAGE_BYTES, Registration};

use crate::Options;

/// How long a worker without a broker waits before it warns.
const WARN_AFTER: Duration = Duration::from_secs(2);

/// The time after which a broker of several that has refused the worker is asked again. It may have
/// been replaced by one of another version meanwhile.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// The time without a request of a broker's after which the others get its share.
const REST: Duration = Duration::from_secs(1);

/// A worker and one of its brokers.
pub struct Link {
    /// The endpoint, as it was written.
    pub broker: String,
    pub register: FromWorker,
    pub state: State,
    /// The most bytes that the broker takes in one frame.
    pub max_message_bytes: usize,
    /// The failed attempt to connect that was logged last.
    pub trouble: Option<String>,
    /// Whether an unreadable message was logged since the last registration.
    pub unreadable: bool,
    /// Whether the broker has to be told, at the next registration, that the pause is over.
    pub tell_able: bool,
    /// The requests of this registration that are not answered.
    pub held: u64,
    /// When it last had requests.
    used: Instant,
    /// Whether it has had requests just before.
    is_busy: bool,
    /// What the broker was told of its share.
    share: Share,
}

/// Whether a broker is there.
pub enum State {
    /// None has welcomed this worker, or the connection broke.
    Down { since: Instant, warned: bool },
    /// The broker has refused the worker; to be asked again.
    Refused { retry_at: Instant },
    /// The worker is registered.
    Up,
    /// The worker has left.
    Left,
}

/// The part of a worker that a broker may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub threads: u32,
    /// The most requests to hold; 0: up to the broker.
    pub window: u32,
}

impl Share {
    /// Returns the share of one of this many brokers: a thread and a request at least.
    fn of(options: &Options, among: u32) -> Self {
        let threads = threads(options).div_ceil(among);
        let window = if options.window == 0 { 0 } else { (options.window / among).max(1) };
        Self { threads, window }
    }
}

fn threads(options: &Options) -> u32 {
    options.threads.max(1).try_into().unwrap_or(u32::MAX)
}

impl Link {
    /// Creates the link to the broker at this place of the list.
    pub fn new(
        options: &Options,
        broker: String,
        place: usize,
        operations: &[String],
        instance: u64,
        now: Instant,
    ) -> Self {
        let register = Registration {
            name: options.name.clone(),
            pool: options.pool.clone(),
            operations: operations.to_vec(),
            threads: threads(options),
            window: options.window,
            // Two names may be those of one broker, which is not to take one link for the other come back.
            instance: (instance - 1 + place as u64) % (MAX_INSTANCE - 1) + 1,
            host: options.host.clone(),
            ..Registration::default()
        };
        Self {
            broker,
            register: register.into(),
            state: State::Down { since: now, warned: false },
            max_message_bytes: MAX_MESSAGE_BYTES,
            trouble: None,
            unreadable: false,
            tell_able: false,
            held: 0,
            used: now,
            is_busy: false,
            share: Share::of(options, 1),
        }
    }

    /// Whether the worker is registered.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    /// Whether the worker is registered or about to be.
    pub fn may_serve(&self) -> bool {
        matches!(self.state, State::Up | State::Down { .. })
    }

    /// The worker was registered, with all of its threads.
    pub fn welcomed(&mut self, options: &Options, max_message_bytes: u64) {
        self.state = State::Up;
        (self.trouble, self.unreadable, self.held) = (None, false, 0);
        self.share = Share::of(options, 1);
        self.max_message_bytes = usize::try_from(max_message_bytes).unwrap_or(usize::MAX).min(MAX_MESSAGE_BYTES);
    }

    /// The registration has ended.
    pub fn lost(&mut self, now: Instant) {
        (self.state, self.held) = (State::Down { since: now, warned: false }, 0);
    }

    /// The broker has refused the worker. Returns when it is asked again.
    pub fn refused(&mut self, now: Instant) -> Duration {
        self.state = State::Refused { retry_at: now + ASK_AGAIN };
        ASK_AGAIN
    }

    /// Requests have come. Returns whether they are the first after a rest.
    pub fn handed(&mut self, requests: usize, now: Instant) -> bool {
        self.held += requests as u64;
        self.used = now;
        !std::mem::replace(&mut self.is_busy, true)
    }

    /// Requests are answered or handed back.
    pub fn answered(&mut self, requests: usize, now: Instant) {
        self.held = self.held.saturating_sub(requests as u64);
        self.used = now;
    }

    /// Whether the broker has had requests for the worker just before.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// When it has rested, unless it gets requests before.
    pub fn rests_at(&self) -> Option<Instant> {
        (self.is_busy && self.held == 0).then(|| self.used + REST)
    }

    /// Returns whether it has rested, once.
    pub fn rests(&mut self, now: Instant) -> bool {
        let rests = self.rests_at().is_some_and(|at| at <= now);
        self.is_busy &= !rests;
        rests
    }

    /// Returns its share while this many brokers have work for the worker, if the broker has to be told. A
    /// broker without work has the share at once that it will have with some.
    pub fn share(&mut self, options: &Options, busy: usize) -> Option<Share> {
        let among = busy + usize::from(!self.is_busy);
        let share = Share::of(options, among.try_into().unwrap_or(u32::MAX).max(1));
        let is_news = self.is_up() && std::mem::replace(&mut self.share, share) != share;
        is_news.then_some(share)
    }

    /// When to warn that there is no broker, unless that was done.
    pub fn warn_at(&self) -> Option<Instant> {
        match self.state {
            State::Down { since, warned: false } => Some(since + WARN_AFTER),
            _ => None,
        }
    }

    /// Returns whether to warn that there is no broker, once.
    pub fn warns(&mut self, now: Instant) -> bool {
        let warns = self.warn_at().is_some_and(|at| at <= now);
        if let State::Down { warned, .. } = &mut self.state {
            *warned |= warns;
        }
        warns
    }

    /// When to ask a broker again that has refused the worker.
    pub fn ask_at(&self) -> Option<Instant> {
        match self.state {
            State::Refused { retry_at } => Some(retry_at),
            _ => None,
        }
    }
}
