//! `giostra status --by-host`: a line for each host instead of one for each worker.

use giostra_client::{Client, Error, Status};
use serde_json::{Value, json};

use super::lines::{abridged, lost, summary};
use crate::hosts::{sorted, table, total, troubled};
use crate::table::Room;
use crate::watch::Watched;
use crate::written::{many, wrapped};

/// The broker's status, by host.
#[derive(Clone, Copy)]
pub struct ByHost;

impl Watched for ByHost {
    type Seen = Status;

    fn ask(&mut self, client: &mut Client) -> Result<Status, Error> {
        client.status()
    }

    fn lines(seen: &Status, room: Room) -> Vec<String> {
        let wrap = |texts: Vec<String>| texts.into_iter().flat_map(move |text| wrapped(&text, room.width()));
        let mut lines: Vec<_> = wrap(summary(seen)).collect();
        lines.push(String::new());
        let mut hosts = sorted(seen.hosts.clone());
        if hosts.is_empty() {
            lines.push("no workers".into());
            return lines;
        }
        let in_trouble = hosts.iter().filter(|host| troubled(host) > 0).count() as u64;
        let sum = total(&hosts);
        hosts.push(sum);
        lines.extend(table(&hosts).lines(room));
        if in_trouble > 0 {
            lines.push(String::new());
            lines.extend(wrap(vec![format!("in trouble: {}", many(in_trouble, "host"))]));
        }
        lines.extend(wrap(abridged(lost(seen), "lost before")));
        lines
    }

    fn json(seen: &Status) -> serde_json::Result<Value> {
        let Status { uptime_ms, pending, in_flight, left_out, .. } = seen;
        let hosts = sorted(seen.hosts.clone());
        let left_out = left_out.hosts;
        Ok(json!({
            "uptime_ms": uptime_ms, "pending": pending, "in_flight": in_flight, "hosts": hosts, "left_out": left_out,
        }))
    }
}

#[cfg(test)]
mod tests {
    use giostra_protocol::{HostStatus, LostStatus};

    use super::*;

    fn seen() -> Status {
        let host = |name: &str, workers, lost| HostStatus {
            name: name.into(),
            workers,
            threads: workers,
            busy: workers,
            lost,
            ..HostStatus::default()
        };
        let lost = LostStatus {
            name: "n2-7".into(),
            number: 9,
            pool: "p".into(),
            reason: "unreachable".into(),
            ..Default::default()
        };
        Status {
            hosts: vec![host("n1", 50, 0), host("n2", 49, 1)],
            lost: vec![lost],
            uptime_ms: 900,
            ..Status::default()
        }
    }

    #[test]
    fn the_host_that_lost_a_worker_is_the_first_and_the_sum_the_last() {
        let lines = ByHost::lines(&seen(), Room::default());
        let at = |start: &str| lines.iter().position(|line| line.starts_with(start)).expect("it is there");
        assert!(at("HOST") < at("n2") && at("n2") < at("n1") && at("n1") < at("2 hosts"), "{lines:#?}");
        assert_eq!(lines[at("2 hosts")].split_whitespace().nth(2), Some("99"));
        assert!(lines[at("in trouble: 1 host") + 1].starts_with("lost 0.9 s ago: n2-7 w9 of pool p"), "{lines:#?}");
    }

    #[test]
    fn programs_get_the_hosts_in_the_same_order() {
        let json = ByHost::json(&seen()).unwrap();
        assert_eq!((&json["hosts"][0]["name"], &json["hosts"][0]["lost"]), (&json!("n2"), &json!(1)));
        assert_eq!(json["hosts"][1]["workers"], 50);
    }
}
