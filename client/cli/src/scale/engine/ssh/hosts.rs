//! The hosts: how many workers are on each, and which are left alone because they can't be reached.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a host is left alone after a connection that failed; each time is twice as long as the one
/// before.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// The longest such time.
const LONGEST_PAUSE: Duration = Duration::from_secs(16 * 60);

/// The hosts.
pub struct Hosts {
    hosts: Vec<Host>,
    /// The place in `hosts` of each worker.
    places: BTreeMap<String, usize>,
}

struct Host {
    name: String,
    most: u32,
    /// Connections that failed, one after the other.
    failures: u32,
    avoided_until: Option<Instant>,
}

impl Hosts {
    /// Each host with the most workers there.
    pub fn new(hosts: impl IntoIterator<Item = (String, u32)>) -> Self {
        let host = |(name, most)| Host { name, most, failures: 0, avoided_until: None };
        Self { hosts: hosts.into_iter().map(host).collect(), places: BTreeMap::new() }
    }

    /// Returns the most workers that have room.
    pub fn most(&self) -> u32 {
        self.hosts.iter().fold(0, |sum, host| sum.saturating_add(host.most))
    }

    /// Returns their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|host| host.name.as_str())
    }

    /// Returns the host with the most room, of those that are not left alone.
    pub fn place(&self, now: Instant) -> Option<String> {
        let room = |at: usize| {
            let used = self.places.values().filter(|&&place| place == at).count();
            self.hosts[at].most.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
        };
        let is_avoided = |at: usize| self.hosts[at].avoided_until.is_some_and(|until| until > now);
        let with_room = (0..self.hosts.len()).filter(|&at| room(at) > 0 && !is_avoided(at));
        // Of equal ones the first.
        with_room.rev().max_by_key(|&at| room(at)).map(|at| self.hosts[at].name.clone())
    }

    /// Records that a worker was started on a host.
    pub fn started(&mut self, worker: &str, host: &str) {
        if let Some(at) = self.hosts.iter().position(|it| it.name == host) {
            self.places.insert(worker.into(), at);
        }
    }

    /// Records that a worker's connection has ended.
    pub fn ended(&mut self, worker: &str, was_reached: bool, now: Instant) {
        if let Some(at) = self.places.remove(worker) {
            self.record(at, was_reached, now);
        }
    }

    /// Records that a host can't be reached.
    pub fn failed(&mut self, host: &str, now: Instant) {
        if let Some(at) = self.hosts.iter().position(|it| it.name == host) {
            self.record(at, false, now);
        }
    }

    fn record(&mut self, at: usize, was_reached: bool, now: Instant) {
        let host = &mut self.hosts[at];
        if was_reached {
            (host.failures, host.avoided_until) = (0, None);
        } else if host.avoided_until.is_none_or(|until| until <= now) {
            // Several that were started at one time fail at one time.
            host.avoided_until = Some(now + (FIRST_PAUSE * (1 << host.failures.min(8))).min(LONGEST_PAUSE));
            host.failures += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_go_to_the_host_with_the_most_room() {
        let (mut hosts, now) = (Hosts::new([("a".into(), 2), ("b".into(), 3)]), Instant::now());
        assert_eq!(hosts.most(), 5);
        let mut placed = Vec::new();
        for number in 0..6 {
            let Some(host) = hosts.place(now) else { break };
            hosts.started(&number.to_string(), &host);
            placed.push(host);
        }
        assert_eq!(placed, ["b", "a", "b", "a", "b"]);
        hosts.ended("1", true, now);
        assert_eq!(hosts.place(now).unwrap(), "a");
    }

    #[test]
    fn a_host_that_cannot_be_reached_is_left_alone_for_longer_each_time() {
        let (mut hosts, mut now) = (Hosts::new([("dead".into(), 9), ("b".into(), 1)]), Instant::now());
        for seconds in [60, 120, 240] {
            assert_eq!(hosts.place(now).unwrap(), "dead");
            hosts.started("x", "dead");
            hosts.started("y", "dead");
            hosts.ended("x", false, now);
            // Of the same attempt.
            hosts.ended("y", false, now);
            assert_eq!(hosts.place(now).unwrap(), "b");
            now += Duration::from_secs(seconds - 1);
            assert_eq!(hosts.place(now).unwrap(), "b");
            now += Duration::from_secs(1);
        }
        hosts.started("x", "dead");
        hosts.ended("x", true, now);
        assert_eq!(hosts.place(now).unwrap(), "dead");
    }
}
