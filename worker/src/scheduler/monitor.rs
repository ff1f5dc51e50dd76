//! What the monitor does each time that it looks: it keeps the I/O going while all threads compute,
//! and retakes what a long request holds up.

use std::time::{Duration, Instant};

use super::{Leader, Scheduler, Turn, Wakeups};
use crate::run_queue::RunQueues;

/// The time between two looks of the monitor while there is work.
pub const TICK: Duration = Duration::from_millis(2);

/// The number of ticks without a chunk taken after which the monitor rests.
const TICKS_BEFORE_REST: u32 = 25;

/// What the monitor remembers of its last look.
#[derive(Debug)]
pub struct Monitor {
    /// When it last retook requests and replies from the run queues.
    retook_at: Instant,
    turns: u64,
    chunks: u64,
    /// The number of ticks since a chunk was taken.
    quiet_ticks: u32,
}

/// What the monitor does until its next look.
#[derive(Debug)]
pub enum MonitorStep {
    /// Lead this turn.
    Lead(Turn),
    /// Sleep for a [`TICK`].
    Tick,
    /// Sleep until woken, and then for a [`TICK`].
    Rest,
}

impl Monitor {
    /// Creates the memory of a monitor that starts now.
    pub fn new(now: Instant) -> Self {
        Self { retook_at: now, turns: 0, chunks: 0, quiet_ticks: 0 }
    }
}

impl Scheduler {
    /// Decides what the monitor does next, after a tick or a turn that it has led.
    pub fn monitor(&mut self, run_queues: &RunQueues, monitor: &mut Monitor, now: Instant) -> (MonitorStep, Wakeups) {
        let mut wakeups = Wakeups::default();
        let mut retook = false;
        if now.saturating_duration_since(monitor.retook_at) >= TICK {
            retook = self.retake(run_queues);
            monitor.quiet_ticks = if retook || self.chunks != monitor.chunks { 0 } else { monitor.quiet_ticks + 1 };
            (monitor.retook_at, monitor.chunks) = (now, self.chunks);
        }
        // Since the last look nobody else has led.
        let leaderless = self.leader.is_none() && self.turns == monitor.turns;
        monitor.turns = self.turns;
        // A request may have been computed for all that time.
        if leaderless || retook {
            self.pace = self.pace.max(TICK);
        }

        let quiet = monitor.quiet_ticks >= TICKS_BEFORE_REST && self.chunks == monitor.chunks;
        let has_idle = self.idle + self.woken > 0;
        if leaderless && !has_idle {
            self.ticking = !quiet;
            if let Some(turn) = self.lead(Leader::Monitor, self.ticking.then_some(TICK)) {
                monitor.turns = self.turns;
                return (MonitorStep::Lead(turn), wakeups);
            }
        }
        if leaderless || !self.queue.is_empty() {
            wakeups.thread = self.wake_idle();
        }
        // Without an idle thread, the one for the retaken requests may be asleep in the leader's poll.
        let needs_leader = !has_idle && !self.queue.is_empty() || !self.outgoing.is_empty();
        wakeups.leader = self.leader.is_some() && needs_leader;
        self.ticking = self.leader.is_none() || wakeups != Wakeups::default() || !quiet;
        (if self.ticking { MonitorStep::Tick } else { MonitorStep::Rest }, wakeups)
    }

    /// Takes back everything from the run queues but the current requests. Returns whether there
    /// was anything.
    fn retake(&mut self, run_queues: &RunQueues) -> bool {
        run_queues.each().fold(false, |any, mut run_queue| {
            let collected = self.collect(&mut run_queue);
            run_queue.give_back(&mut self.queue) || collected || any
        })
    }
}
