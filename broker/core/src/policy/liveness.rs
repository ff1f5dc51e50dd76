//! Liveness of a worker, by pings.
//!
//! Each worker is pinged once an interval. When the next ping is due and `max_out` earlier ones are
//! unanswered, the worker is dead: one that froze right after a pong is detected `max_out` to
//! `max_out + 1` intervals later.
//!
//! Any message from a worker is a sign of life and clears the count, because a pong may be queued
//! behind a thousand replies.
//!
//! A stall of the broker itself counts against no worker: pings count when they are sent, the next
//! one is due an interval after the last was really sent, and the shell handles everything that has
//! arrived before it asks what is due.

use std::time::{Duration, Instant};

/// What to do when a ping is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// When the worker is to be pinged, with this sequence number.
    Ping(u64),
    /// When it has left this many pings unanswered, and is dead.
    Dead(u32),
}

/// The pings of one worker.
#[derive(Clone, Debug)]
pub struct Liveness {
    sequence: u64,
    out: u32,
    due: Instant,
    /// When the last ping was sent.
    sent: Option<Instant>,
    /// When the last pong came, and its round trip.
    pong: Option<(Instant, Duration)>,
}

impl Liveness {
    /// Creates the pings of a worker that has just registered.
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self { sequence: 0, out: 0, due: now + interval, sent: None, pong: None }
    }

    /// Returns when the next ping is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Returns the number of unanswered pings.
    pub fn out(&self) -> u32 {
        self.out
    }

    /// Whether a ping has been unanswered for a whole interval.
    pub fn suspect(&self) -> bool {
        self.out > 1
    }

    /// Handles any message from the worker.
    pub fn heard(&mut self) {
        self.out = 0;
    }

    /// Handles a pong. Returns whether it answers the last ping; only such a pong measures a round
    /// trip.
    pub fn on_pong(&mut self, sequence: u64, now: Instant) -> bool {
        let Some(sent) = self.sent.filter(|_| sequence == self.sequence) else { return false };
        self.pong = Some((now, now.saturating_duration_since(sent)));
        true
    }

    /// Returns when the last pong came, and its round trip.
    pub fn pong(&self) -> Option<(Instant, Duration)> {
        self.pong
    }

    /// Counts a ping that is due, unless the worker is dead.
    pub fn on_due(&mut self, interval: Duration, max_out: u32, now: Instant) -> Due {
        if self.out >= max_out {
            return Due::Dead(self.out);
        }
        self.out += 1;
        self.sequence += 1;
        self.due = now + interval;
        self.sent = Some(now);
        Due::Ping(self.sequence)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // an instant to begin with
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    #[test]
    fn a_worker_that_freezes_right_after_a_pong_dies_within_one_interval_more_than_it_may_miss() {
        let start = Instant::now();
        let mut liveness = Liveness::new(INTERVAL, start);
        assert_eq!(liveness.on_due(INTERVAL, 3, liveness.due()), Due::Ping(1));
        liveness.heard();
        let froze = liveness.due() - INTERVAL;
        for sequence in 2..=4 {
            assert_eq!(liveness.on_due(INTERVAL, 3, liveness.due()), Due::Ping(sequence));
        }
        assert!(liveness.suspect());
        assert_eq!(liveness.on_due(INTERVAL, 3, liveness.due()), Due::Dead(3));
        assert_eq!(liveness.due() - froze, 4 * INTERVAL);
    }

    #[test]
    fn a_round_trip_is_that_of_the_last_ping() {
        let start = Instant::now();
        let mut liveness = Liveness::new(INTERVAL, start);
        liveness.on_pong(0, start);
        assert_eq!(liveness.pong(), None);
        let sent = liveness.due();
        liveness.on_due(INTERVAL, 3, sent);
        let sent_again = liveness.due();
        liveness.on_due(INTERVAL, 3, sent_again);
        let late = sent_again + INTERVAL / 2;
        liveness.on_pong(1, late);
        assert_eq!(liveness.pong(), None);
        liveness.on_pong(2, late);
        assert_eq!(liveness.pong(), Some((late, INTERVAL / 2)));
    }

    #[test]
    fn a_stall_of_the_broker_counts_as_one_ping_at_most() {
        let start = Instant::now();
        let mut liveness = Liveness::new(INTERVAL, start);
        assert_eq!(liveness.on_due(INTERVAL, 3, start + 100 * INTERVAL), Due::Ping(1));
        assert_eq!((liveness.out(), liveness.due()), (1, start + 101 * INTERVAL));
    }
}
