//! The metrics of durable jobs and of their store.
//!
//! There is no series for a single job: clients make as many as they like.

use giostra_protocol::{JobsStatus, StoreStatus};
use prometheus::proto::{MetricFamily, MetricType, Summary};

use super::family::{Family, Sample, family_of, labelled, of_broker};

/// Returns all but [`syncs`].
pub fn of(jobs: &JobsStatus) -> [Family<'_>; 7] {
    let JobsStatus { totals, store, open, running, .. } = jobs;
    let events = [
        ("submitted", totals.submitted),
        ("restored", totals.restored),
        ("finished", totals.finished),
        ("cancelled", totals.cancelled),
        ("deleted", totals.deleted),
    ];
    let requests = [
        ("saved", totals.saved),
        ("succeeded", totals.succeeded),
        ("failed", totals.failed),
        ("retried", totals.retried),
    ];
    [
        (
            "jobs",
            "Durable jobs that have not ended, by their state.",
            by("state", [("open", *open), ("running", *running)]),
        ),
        (
            "job_events_total",
            "Durable jobs submitted, restored from the store, finished, cancelled and deleted.",
            by("event", events),
        ),
        (
            "job_requests_total",
            "Requests of durable jobs that are on the disk, whose result or error is, and failures that were retried.",
            by("what", requests),
        ),
        (
            "store_longest_sync_seconds",
            "Longest commit of the store in the last one to two minutes.",
            of_broker(store.longest_us as f64 / 1e6),
        ),
        ("store_bytes", "Size of the store's files.", of_broker(store.bytes as f64)),
        ("store_full", "1 while the store has no room for new requests.", of_broker(set(&store.full))),
        (
            "store_failed",
            "1 if the store is out of order until the broker is restarted.",
            of_broker(set(&store.failed)),
        ),
    ]
}

/// Returns the number of the store's commits, and the time that they have taken.
pub fn syncs(store: &StoreStatus) -> MetricFamily {
    let mut summary = Summary::default();
    summary.set_sample_count(store.commits);
    summary.set_sample_sum(store.commits_us as f64 / 1e6);
    let mut metric = labelled(&[]);
    metric.set_summary(summary);
    let help = "Time of the store's commits, each with a sync of the disk.";
    family_of("store_sync_seconds", help, MetricType::SUMMARY, vec![metric])
}

fn by<const N: usize>(label: &'static str, counts: [(&'static str, u64); N]) -> Vec<Sample<'static>> {
    counts.map(|(value, count)| (vec![(label, value)], count as f64)).into()
}

/// Returns 1 for a reason, 0 for none.
fn set(reason: &str) -> f64 {
    f64::from(u8::from(!reason.is_empty()))
}
