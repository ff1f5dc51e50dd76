//! The number of occurrences of each kind of event over all seeds, so that the simulation cannot
//! silently stop testing one.

use std::collections::BTreeMap;
use std::fmt;

/// The kinds that must occur at least once.
const KINDS: [&str; 83] = [
    // Faults.
    "broker-closes",
    "broker-given-up",
    "broker-killed",
    "broker-stalls",
    "cable-cut",
    "cable-cut-for-good",
    "cable-mended",
    "client-breaks",
    "client-cancels",
    "client-inspects",
    "client-malformed",
    "client-overdue",
    "client-resends",
    "client-vanishes",
    "message-delayed",
    "message-lost",
    "message-stale",
    "replies-held-back",
    "notice-late",
    "notice-never",
    "stray-peer",
    "worker-revoked",
    "worker-breaks",
    "worker-crashes",
    "worker-drained",
    "worker-freezes",
    "worker-garbage",
    "worker-grace-ends",
    "worker-killed-by-poison",
    "worker-leaves",
    "worker-malformed",
    "worker-overdue",
    "worker-registers-twice",
    "worker-slow",
    "worker-starts",
    "worker-becomes-unable",
    // Reactions of the core.
    "accepted",
    "broker-finished",
    "cancelled",
    "cancelled-in-flight",
    "client-goodbye",
    "client-joined",
    "client-left",
    "client-unheard",
    "clock-waited-for-messages",
    "discarded-late",
    "discarded-unknown",
    "discarded-unwanted",
    "dispatched",
    "dispatched-to-suspect",
    "dropped-revoked",
    "dropped-broken",
    "dropped-malformed",
    "dropped-overdue",
    "dropped-registered-again",
    "dropped-suspect",
    "dropped-unreachable",
    "evidence-withdrawn",
    "expired",
    "held-against-nothing",
    "hello-again",
    "handed-back",
    "left-in-parts",
    "log-silent",
    "no-worker",
    "progress",
    "credit-given",
    "rejected",
    "poisoned",
    "redispatched",
    "refused",
    "replied",
    "replied-error",
    "stale",
    "suspended",
    "turn-of-a-full-seat",
    "window-changes",
    "window-logged",
    "worker-able",
    "worker-joined",
    "worker-leaving",
    "worker-left",
    // A second reply, to a client that sent an id again after it had been answered.
    "answered-resent",
];

/// With fewer seeds than this a rare kind of event may be missing by chance.
const SEEDS_FOR_ALL: u64 = 500;

/// With fewer, also one of [`OFTEN`].
const SEEDS_FOR_SOME: u64 = 100;

/// Those that occur in any hundred seeds.
const OFTEN: [&str; 6] = ["broker-given-up", "broker-killed", "cable-cut", "redispatched", "replied", "worker-crashes"];

/// Counts by kind.
#[derive(Debug, Default)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    /// Counts one occurrence.
    pub fn count(&mut self, kind: &'static str) {
        self.add(kind, 1);
    }

    /// Counts several occurrences.
    pub fn add(&mut self, kind: &'static str, times: u64) {
        *self.0.entry(kind).or_default() += times;
    }

    /// Panics if an unknown kind was counted, or if a kind but these never occurred in so many seeds.
    pub fn check(&self, seeds: u64, but: &[&str]) {
        let unknown: Vec<_> = self.0.keys().filter(|kind| !KINDS.contains(kind)).collect();
        assert!(unknown.is_empty(), "not among the known kinds: {unknown:?}");
        let never = |kind: &&&str| self.0.get(**kind).is_none_or(|&times| times == 0);
        let rare: Vec<_> = OFTEN.iter().filter(never).filter(|kind| !but.contains(kind)).collect();
        assert!(seeds < SEEDS_FOR_SOME || rare.is_empty(), "never happened: {rare:?}");
        let missing: Vec<_> = KINDS.iter().filter(never).filter(|kind| !but.contains(kind)).collect();
        assert!(seeds < SEEDS_FOR_ALL || missing.is_empty(), "never happened: {missing:?}");
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (kind, times)) in self.0.iter().enumerate() {
            write!(f, "{}{kind}={times}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}
