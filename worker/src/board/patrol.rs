//! What the watchman does when he looks at the board.

use std::time::{Duration, Instant};

use super::{Board, Calls, Stay, Visit};
use crate::hand::Hands;

/// How often the watchman looks at the board while there is work.
pub const TICK: Duration = Duration::from_millis(2);

/// After how many ticks in which no thread took anything he rests.
const QUIET: u32 = 25;

/// What the watchman remembers of his last look.
#[derive(Debug)]
pub struct Watch {
    /// When he last looked into the hands.
    swept: Instant,
    visits: u64,
    chunks: u64,
    /// Ticks since anything happened.
    quiet: u32,
}

/// What the watchman does until he looks again.
#[derive(Debug)]
pub enum Duty<D> {
    /// When he sits at the desk now.
    Attend(Visit<D>),
    /// When he is to look again after a [`TICK`].
    Tick,
    /// When he sleeps until he is called, and then for a [`TICK`].
    Rest,
}

impl Watch {
    /// Of a watchman who begins now.
    pub fn begin(now: Instant) -> Self {
        Self { swept: now, visits: 0, chunks: 0, quiet: 0 }
    }
}

impl<D> Board<D> {
    /// What the watchman does next: he has slept for a tick, or has been at the desk and put it
    /// back.
    pub fn patrol(&mut self, hands: &Hands, watch: &mut Watch, now: Instant) -> (Duty<D>, Calls) {
        let mut calls = Calls::default();
        let mut swept = false;
        if now.saturating_duration_since(watch.swept) >= TICK {
            swept = self.sweep(hands);
            watch.quiet = if swept || self.chunks != watch.chunks { 0 } else { watch.quiet + 1 };
            (watch.swept, watch.chunks) = (now, self.chunks);
        }
        // Nobody has sat there since the last look; or it is he who did.
        let standing = self.desk.is_some() && self.visits == watch.visits;
        watch.visits = self.visits;
        // Somebody may have been at one request for all that time.
        if standing || swept {
            self.pace = self.pace.max(TICK);
        }

        let quiet = watch.quiet >= QUIET && self.chunks == watch.chunks;
        if standing && self.idle + self.called == 0 {
            self.ticking = !quiet;
            let stay = if self.ticking { Stay::AtMost(TICK) } else { Stay::UntilCalled };
            if let Some(visit) = self.sit(stay) {
                self.guarded = true;
                watch.visits = self.visits;
                return (Duty::Attend(visit), calls);
            }
        }
        if standing || !self.queue.is_empty() {
            calls.thread = self.call();
        }
        // Requests that came out of a hand wait for a thread which may be asleep at the desk.
        let wanted = self.idle + self.called == 0 && !self.queue.is_empty();
        calls.alarm = self.desk.is_none() && (wanted || !self.is_quiet());
        self.ticking = self.desk.is_some() || calls != Calls::default() || !quiet;
        (if self.ticking { Duty::Tick } else { Duty::Rest }, calls)
    }

    /// Takes everything out of the hands but what is being computed; whether there was anything.
    fn sweep(&mut self, hands: &Hands) -> bool {
        hands.each().fold(false, |any, mut hand| {
            let results = self.collect(&mut hand);
            hand.give_back(&mut self.queue) || results || any
        })
    }
}
