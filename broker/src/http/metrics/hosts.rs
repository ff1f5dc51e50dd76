//! The metrics of hosts: sums over their workers. There are a thousand hosts at most, and a series is a
//! host's, not a worker's.

use giostra_protocol::{HostStatus, Status};

use super::family::Family;

/// Returns their families.
pub fn of(status: &Status) -> [Family<'_>; 4] {
    let each = |value: fn(&HostStatus) -> u64| {
        status.hosts.iter().map(|host| (vec![("host", &*host.name)], value(host) as f64)).collect()
    };
    [
        ("host_workers", "Registered workers of this host.", each(|host| host.workers)),
        (
            "host_workers_lost",
            "Workers of this host that were dropped, until they have come back or are forgotten.",
            each(|host| host.lost),
        ),
        (
            "host_in_flight_requests",
            "Requests handed to workers of this host and not yet answered.",
            each(|host| host.in_flight),
        ),
        ("host_answered_total", "Requests that workers of this host replied to.", each(|host| host.answered)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_four_series_however_many_workers_it_has() {
        let host = |name: &str, workers| HostStatus {
            name: name.into(),
            workers,
            in_flight: 2 * workers,
            answered: 7,
            lost: 1,
            ..HostStatus::default()
        };
        let status = Status { hosts: vec![host("", 3), host("node-1", 50)], ..Status::default() };
        let text = super::super::text(&status, 0.0).unwrap();
        for wanted in [
            r#"giostra_host_workers{host="node-1"} 50"#,
            r#"giostra_host_workers{host=""} 3"#,
            r#"giostra_host_workers_lost{host="node-1"} 1"#,
            r#"giostra_host_in_flight_requests{host="node-1"} 100"#,
            r#"giostra_host_answered_total{host="node-1"} 7"#,
        ] {
            assert!(text.lines().any(|line| line == wanted), "{wanted} in {text}");
        }
        assert_eq!(text.matches("host=\"").count(), 8, "{text}");
    }
}
