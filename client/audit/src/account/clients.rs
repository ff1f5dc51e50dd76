//! Which clients were at which brokers, and with which requests they went over from one to another.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::{Account, BrokerAudit, ClientAccount, Crossing, MAX_CLIENTS, Served};
use crate::connections::{Connection, Connections};
use crate::id_set::IdSet;

/// How far the clocks of brokers may be apart. A client that goes on sending over one connection for
/// longer than that after it has joined over another is not one client.
const CLOCKS: Duration = Duration::from_secs(1);

/// A client's connection, and the place of its broker.
pub(super) type At<'a> = (usize, &'a Connection);

impl Account {
    /// Adds the clients that are in the logs.
    pub(super) fn add_clients(&mut self, brokers: &[Connections]) {
        let mut by_name: BTreeMap<&str, Vec<At<'_>>> = BTreeMap::new();
        for (broker, connections) in brokers.iter().enumerate() {
            for connection in &connections.list {
                by_name.entry(&connection.name).or_default().push((broker, connection));
            }
            if connections.is_incomplete {
                let log = &self.brokers[broker].log;
                self.not_provable.push(format!("{log} has more connections or requests of clients than are kept"));
            }
        }
        self.client_count = by_name.len() as u64;
        let clients = by_name.into_iter().map(|(name, at)| self.client(name, at));
        let mut clients: Vec<_> = clients.collect();
        self.moved_count = clients.iter().filter(|client| client.brokers.len() > 1).count() as u64;
        let accepted = |client: &ClientAccount| client.brokers.iter().map(|served| served.accepted).sum::<u64>();
        clients.sort_by_key(|client| Reverse((client.brokers.len() > 1, accepted(client))));
        clients.truncate(MAX_CLIENTS);
        self.clients = clients;
    }

    fn client(&self, name: &str, mut at: Vec<At<'_>>) -> ClientAccount {
        at.sort_by_key(|(_, connection)| connection.joined.clone());
        let is_shared = is_shared(&at);
        let went_over = if is_shared { Vec::new() } else { crossings(&self.brokers, &at) };
        ClientAccount { name: name.into(), is_shared, brokers: served(&self.brokers, &at, is_shared), went_over }
    }
}

/// Whether several clients had a name at the same time. The connections are in the order in which they
/// joined.
fn is_shared(at: &[At<'_>]) -> bool {
    let time = |text: &str| humantime::parse_rfc3339(text).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut last = SystemTime::UNIX_EPOCH;
    at.iter().any(|(_, connection)| {
        let joined = time(&connection.joined);
        let overlaps = last > joined + CLOCKS;
        last = last.max(time(&connection.last));
        overlaps
    })
}

/// What each broker did for a client. Of a name that clients share, each connection counts by itself.
fn served(brokers: &[BrokerAudit], at: &[At<'_>], is_shared: bool) -> Vec<Served> {
    let mut found = Vec::new();
    for (place, broker) in brokers.iter().enumerate() {
        let here = || at.iter().filter(|&&(at, _)| at == place).map(|&(_, connection)| connection);
        let count = |set: fn(&Connection) -> &IdSet| match is_shared {
            true => here().map(|connection| set(connection).len()).sum(),
            false => union(here().map(set)).len(),
        };
        let connections = here().count() as u64;
        if connections > 0 {
            found.push(Served {
                log: broker.log.clone(),
                connections,
                accepted: count(|connection| &connection.accepted),
                dispatched: count(|connection| &connection.dispatched),
                answered: count(|connection| &connection.answered),
            });
        }
    }
    found
}

fn union<'a>(mut sets: impl Iterator<Item = &'a IdSet>) -> IdSet {
    let mut all = sets.next().cloned().unwrap_or_default();
    sets.for_each(|set| all.add(set));
    all
}

/// What a client asked of one broker before it went on to the next.
struct Stay {
    broker: usize,
    accepted: IdSet,
    dispatched: IdSet,
    answered: IdSet,
}

/// Returns with how many requests a client went over, for each pair of brokers. The connections are in
/// the order of time.
pub(super) fn crossings(brokers: &[BrokerAudit], at: &[At<'_>]) -> Vec<Crossing> {
    let mut counts: BTreeMap<(usize, usize), [u64; 3]> = BTreeMap::new();
    let mut before: Option<Stay> = None;
    for connections in at.chunk_by(|(one, _), (other, _)| one == other) {
        let all = |set: fn(&Connection) -> &IdSet| union(connections.iter().map(|(_, connection)| set(connection)));
        let stay = Stay {
            broker: connections[0].0,
            accepted: all(|connection| &connection.accepted),
            dispatched: all(|connection| &connection.dispatched),
            answered: all(|connection| &connection.answered),
        };
        if let Some(before) = &before {
            let both = [
                before.accepted.and(&stay.accepted),
                before.dispatched.and(&stay.dispatched),
                before.answered.and(&stay.answered),
            ];
            let counted = counts.entry((before.broker, stay.broker)).or_default();
            counted.iter_mut().zip(both).for_each(|(count, both)| *count += both.len());
        }
        before = Some(stay);
    }
    let crossing = |((from, to), [requests, dispatched_at_both, answered_at_both]): ((usize, usize), [u64; 3])| {
        let [from, to] = [from, to].map(|broker| brokers[broker].log.clone());
        Crossing { from, to, requests, dispatched_at_both, answered_at_both }
    };
    counts.into_iter().map(crossing).collect()
}
