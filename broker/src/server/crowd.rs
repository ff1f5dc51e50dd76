//! Whether there are so many workers that messages to them are better gathered.
//!
//! A broker that runs libzmq's I/O itself hears of each message at once. With hundreds of workers,
//! which get a request or two each, it would send on at once what a few have answered, and pay for a
//! message with every request. While libzmq's own thread does the I/O, more comes together in the
//! meantime: with a thousand workers twice as many requests are answered.

use std::time::{Duration, Instant};

use giostra_transport::io_loop::{Follower, IoLoop};

/// Messages to workers in one turn that make a crowd. With a hundred workers it makes no difference
/// who does the I/O.
const MANY: usize = 128;

/// For how long it is one after the last such turn.
const LASTS: Duration = Duration::from_millis(100);

/// Whether libzmq's thread does the I/O, because many workers are busy.
#[derive(Default)]
pub(super) struct Crowd {
    /// Dispatch messages of this turn.
    messages: usize,
    /// Until when, and the right to leave the loop to libzmq's thread.
    lasts: Option<(Instant, Follower)>,
}

impl Crowd {
    /// Counts a message to a worker.
    pub(super) fn dispatched(&mut self) {
        self.messages += 1;
    }

    /// Begins the next turn. Returns whether the broker does the I/O in it.
    pub(super) fn begin_turn(&mut self, io: &IoLoop, now: Instant) -> bool {
        if std::mem::take(&mut self.messages) >= MANY {
            let follower = match self.lasts.take() {
                Some((_, follower)) => follower,
                None => io.follow(),
            };
            self.lasts = Some((now + LASTS, follower));
        } else if self.lasts.as_ref().is_some_and(|&(until, _)| until <= now) {
            self.lasts = None;
        }
        !self.is_there()
    }

    /// Whether there is one.
    pub(super) fn is_there(&self) -> bool {
        self.lasts.is_some()
    }
}
