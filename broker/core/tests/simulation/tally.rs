//! How often each kind of thing happened over all seeds, so that the simulation cannot silently
//! stop testing one.

use std::collections::BTreeMap;
use std::fmt;

/// All that is to happen at least once.
const KINDS: [&str; 82] = [
    // What goes wrong.
    "broker-closes",
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
    // What the core made of it.
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
    "nobody",
    "progress",
    "room-given",
    "turned-away",
    "poisoned",
    "redispatched",
    "refused",
    "replied",
    "replied-error",
    "stale",
    "suspended",
    "turn-of-a-full-seat",
    "window-changes",
    "window-told",
    "worker-able",
    "worker-joined",
    "worker-leaving",
    "worker-left",
    // One reply too many, but the client has itself to blame: it sent an id twice, which was answered in between.
    "answered-resent",
];

/// Counts by kind.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    /// Something happened.
    pub fn count(&mut self, kind: &'static str) {
        self.add(kind, 1);
    }

    /// Something happened so many times.
    pub fn add(&mut self, kind: &'static str, times: u64) {
        *self.0.entry(kind).or_default() += times;
    }

    /// Panics if something is counted that is not known, or if `all` and something never happened.
    pub fn check(&self, all: bool) {
        let unknown: Vec<_> = self.0.keys().filter(|kind| !KINDS.contains(kind)).collect();
        assert!(unknown.is_empty(), "not among the known kinds: {unknown:?}");
        let missing: Vec<_> = KINDS.iter().filter(|kind| self.0.get(*kind).is_none_or(|&times| times == 0)).collect();
        assert!(!all || missing.is_empty(), "never happened: {missing:?}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (kind, times)) in self.0.iter().enumerate() {
            write!(f, "{}{kind}={times}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}
