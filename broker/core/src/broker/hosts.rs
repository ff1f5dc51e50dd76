//! The workers of each host, for the status.

use std::collections::BTreeMap;

use giostra_protocol::HostStatus;
use giostra_protocol::name::Label;

use super::Broker;

/// The maximum number of hosts in a status: workers choose the names.
const MAX_HOSTS: usize = 1000;

impl Broker {
    /// Sums up the workers of each host, and its lost ones; by name. Counts the hosts that are too
    /// many in `left_out`.
    pub(super) fn hosts_status(&self, second: u64, left_out: &mut u64) -> Vec<HostStatus> {
        let mut hosts = BTreeMap::<&str, HostStatus>::new();
        for (_, worker) in self.workers.iter() {
            let host = hosts.entry(&worker.host).or_default();
            host.threads += u64::from(worker.threads);
            host.in_flight += worker.in_flight.len() as u64;
            host.window += worker.window.now() as u64;
            host.rate += worker.rate.before(second);
            host.answered += worker.answered;
            host.count(self.state(worker));
        }
        for lost in self.stats.lost.iter() {
            hosts.entry(&lost.host).or_default().lost += 1;
        }
        let mut hosts: Vec<_> =
            hosts.into_iter().map(|(name, host)| HostStatus { name: name.into(), ..host }).collect();
        if hosts.len() > MAX_HOSTS {
            *left_out = (hosts.len() - MAX_HOSTS) as u64;
            hosts.sort_by_key(|host| host.workers == 0);
            hosts.truncate(MAX_HOSTS);
            hosts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
        for host in &mut hosts {
            host.answered += self.stats.hosts.past(&Label::from(&*host.name)).answered;
        }
        hosts
    }
}
