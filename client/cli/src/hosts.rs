//! The workers of each host, as `status --by-host` and `top` show them: hosts in trouble first.

use std::cmp::Reverse;

use giostra_protocol::{HostStatus, LostStatus, WorkerStatus};

use super::table::{Cell, Column, Table, Tone, of_state};
use super::written::{grouped, many};

/// What stands for the name of a host that is unknown.
const UNKNOWN: &str = "(unknown)";

/// Sums up workers, and lost ones, by host. Unlike the broker's own sums, `answered` is that of the
/// workers that are there.
pub fn of_workers<'a>(
    workers: impl IntoIterator<Item = &'a WorkerStatus>,
    lost: impl IntoIterator<Item = &'a LostStatus>,
) -> Vec<HostStatus> {
    let mut hosts = std::collections::BTreeMap::<&str, HostStatus>::new();
    for worker in workers {
        let host = hosts.entry(&worker.host).or_default();
        host.threads += u64::from(worker.threads);
        host.in_flight += worker.in_flight;
        host.window += worker.window;
        host.rate += worker.rate;
        host.answered += worker.answered;
        host.count(&worker.state);
    }
    for lost in lost {
        hosts.entry(&lost.host).or_default().lost += 1;
    }
    let named = |(name, host): (&str, HostStatus)| HostStatus { name: name.into(), ..host };
    sorted(hosts.into_iter().map(named).collect())
}

/// Sorts hosts: those with the most workers in trouble first, then by name, `node-2` before `node-10`.
pub fn sorted(mut hosts: Vec<HostStatus>) -> Vec<HostStatus> {
    hosts.sort_by_cached_key(|host| (Reverse(troubled(host)), natural(&host.name)));
    hosts
}

/// Returns the number of a host's workers that are lost, suspect, stuck or unable.
pub fn troubled(host: &HostStatus) -> u64 {
    host.lost + host.suspect + host.stuck + host.unable
}

/// Returns the sums of all hosts, under a name that says how many they are.
pub fn total(hosts: &[HostStatus]) -> HostStatus {
    let mut sum = HostStatus { name: many(hosts.len() as u64, "host"), ..HostStatus::default() };
    for host in hosts {
        let HostStatus { workers, threads, idle, busy, stuck, suspect, unable, leaving, .. } = host;
        let HostStatus { in_flight, window, rate, answered, lost, .. } = host;
        for (sum, of_host) in [
            (&mut sum.workers, workers),
            (&mut sum.threads, threads),
            (&mut sum.idle, idle),
            (&mut sum.busy, busy),
            (&mut sum.stuck, stuck),
            (&mut sum.suspect, suspect),
            (&mut sum.unable, unable),
            (&mut sum.leaving, leaving),
            (&mut sum.in_flight, in_flight),
            (&mut sum.window, window),
            (&mut sum.rate, rate),
            (&mut sum.answered, answered),
            (&mut sum.lost, lost),
        ] {
            *sum += of_host;
        }
    }
    sum
}

/// Returns the name of a host as it is shown.
pub fn shown_name(host: &str) -> &str {
    if host.is_empty() { UNKNOWN } else { host }
}

/// Makes a table with a row for each host. A state that no worker of theirs is in has no column, except
/// for `busy` and `idle`.
pub fn table(hosts: &[HostStatus]) -> Table {
    let name = |host: &HostStatus| {
        let tone = if troubled(host) > 0 { Tone::Bad } else { Tone::Plain };
        Cell { text: shown_name(&host.name).into(), tone }
    };
    let columns: [Column<HostStatus>; 13] = [
        ("HOST", 0, &name),
        ("WORKERS", 0, &|host| grouped(host.workers).into()),
        ("THREADS", 6, &|host| grouped(host.threads).into()),
        ("BUSY", 2, &|host| count(host.busy, "busy")),
        ("IDLE", 5, &|host| count(host.idle, "idle")),
        ("STUCK", 0, &|host| count(host.stuck, "stuck")),
        ("SUSPECT", 0, &|host| count(host.suspect, "suspect")),
        ("UNABLE", 0, &|host| count(host.unable, "unable")),
        ("LEAVING", 7, &|host| count(host.leaving, "leaving")),
        ("LOST", 0, &|host| count(host.lost, "lost")),
        ("IN FLIGHT", 1, &|host| grouped(host.in_flight).into()),
        ("RATE", 3, &|host| format!("{}/s", grouped(host.rate)).into()),
        ("ANSWERED", 4, &|host| grouped(host.answered).into()),
    ];
    let mut table = Table::new(&columns, hosts);
    let sum = total(hosts);
    for (head, count) in
        [("STUCK", sum.stuck), ("SUSPECT", sum.suspect), ("UNABLE", sum.unable), ("LEAVING", sum.leaving)]
    {
        if count == 0 {
            table.leave_out(head);
        }
    }
    table
}

/// The cell of a number of workers in a state, which is of note only if there are some.
fn count(workers: u64, state: &str) -> Cell {
    let tone = if workers > 0 { of_state(state) } else { Tone::Plain };
    Cell { text: grouped(workers), tone }
}

/// Returns a key by which numbers within names count as numbers.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = rest[text..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |length| text + length);
        parts.push((rest[..text].to_string(), rest[text..digits].parse().unwrap_or(u64::MAX)));
        rest = &rest[digits..];
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Room;

    fn worker(host: &str, state: &str) -> WorkerStatus {
        let (host, state) = (host.into(), state.into());
        WorkerStatus { host, state, threads: 2, in_flight: 3, rate: 1000, answered: 2500, ..WorkerStatus::default() }
    }

    fn hosts() -> Vec<HostStatus> {
        let workers = [
            worker("node-10", "busy"),
            worker("node-2", "idle"),
            worker("node-3", "suspect"),
            worker("", "busy"),
            worker("node-10", "leaving"),
        ];
        let lost = LostStatus { host: "node-7".into(), ..LostStatus::default() };
        of_workers(&workers, &[lost.clone(), lost])
    }

    #[test]
    fn hosts_in_trouble_come_first_and_numbers_in_names_count_as_numbers() {
        let names: Vec<_> = hosts().iter().map(|host| shown_name(&host.name).to_string()).collect();
        assert_eq!(names, ["node-7", "node-3", UNKNOWN, "node-2", "node-10"]);
        assert_eq!(natural("a1b22"), [("a".into(), 1), ("b".into(), 22)]);
        assert!(natural("n9999999999999999999999") > natural("n1"));
    }

    #[test]
    fn all_hosts_are_summed_up() {
        let sum = total(&hosts());
        assert_eq!((&*sum.name, sum.workers, sum.threads, sum.lost), ("5 hosts", 5, 10, 2));
        assert_eq!((sum.busy, sum.idle, sum.suspect, sum.leaving, sum.in_flight), (2, 1, 1, 1, 15));
    }

    #[test]
    fn a_state_that_no_worker_is_in_takes_no_room() {
        let lines = table(&hosts()).lines(Room::default());
        let heads: Vec<_> = lines[0].split("  ").map(str::trim).filter(|head| !head.is_empty()).collect();
        assert_eq!(
            heads,
            [
                "HOST",
                "WORKERS",
                "THREADS",
                "BUSY",
                "IDLE",
                "SUSPECT",
                "LEAVING",
                "LOST",
                "IN FLIGHT",
                "RATE",
                "ANSWERED"
            ]
        );
        let row: Vec<_> = lines[5].split_whitespace().collect();
        assert_eq!(row, ["node-10", "2", "4", "1", "0", "0", "1", "0", "6", "2,000/s", "5,000"]);
    }
}
