//! The durable jobs in the status: what there is of them, and a table of those that are open or running.

use giostra_protocol::{JobsStatus, LiveJob};
use indicatif::HumanBytes;

use crate::jobs::failures;
use crate::table::{Cell, Column, Table, Tone};
use crate::written::{grouped, many, micros, millis};

/// Describes the jobs and their store, what is wrong first.
pub fn summary(jobs: &JobsStatus) -> Vec<String> {
    let (totals, store) = (&jobs.totals, &jobs.store);
    let mut lines = Vec::new();
    if !store.failed.is_empty() {
        lines.push(format!("the store is out of order until the broker is restarted: {}", store.failed));
    }
    if !store.full.is_empty() {
        lines.push(format!("the store has no room for more: {}", store.full));
    }
    let live = many(jobs.open + jobs.running, "job");
    let mut counts = format!("{live} open or running; since the start {} finished", totals.finished);
    let others = [
        (totals.restored, "restored"),
        (totals.cancelled, "cancelled"),
        (totals.deleted, "deleted"),
        (totals.failed, "requests failed"),
        (totals.retried, "requests retried"),
    ];
    for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
        counts += &format!(", {} {what}", grouped(count));
    }
    lines.push(counts);
    let mut size = format!("store: {}, {}", HumanBytes(store.bytes), many(store.commits, "commit"));
    if let Some(mean) = store.commits_us.checked_div(store.commits) {
        size += &format!(", {} on average, {} at most", micros(mean), micros(store.longest_us));
    }
    lines.push(size);
    lines
}

/// Returns a table of the jobs that are open or running.
pub fn table<'a>(jobs: impl IntoIterator<Item = &'a LiveJob>) -> Table {
    let columns: [Column<LiveJob>; 9] = [
        ("JOB", 0, &|job| job.id.to_string().into()),
        ("NAME", 2, &|job| (&job.name).into()),
        ("POOL", 6, &|job| (&job.pool).into()),
        ("PRIORITY", 7, &|job| job.priority.to_string().into()),
        ("DONE", 0, &|job| format!("{}/{}", done(job), job.requests).into()),
        ("FAILED", 1, &|job| failures(job.failed)),
        ("RETRYING", 5, &retrying),
        ("RATE", 3, &|job| format!("{}/s", job.rate).into()),
        ("LEFT", 4, &|job| job.left_ms.map_or("-".into(), millis).into()),
    ];
    Table::new(&columns, jobs)
}

/// The number of requests that have a result or an error.
pub fn done(job: &LiveJob) -> u64 {
    job.succeeded.saturating_add(job.failed)
}

fn retrying(job: &LiveJob) -> Cell {
    Cell { text: grouped(job.retrying), tone: if job.retrying > 0 { Tone::Notable } else { Tone::Plain } }
}

#[cfg(test)]
mod tests {
    use giostra_protocol::{JobId, JobTotals, StoreStatus};

    use super::*;
    use crate::table::Room;

    fn job() -> LiveJob {
        LiveJob {
            id: JobId { home: 0x5f3a_9c01, number: 12 },
            name: "night".into(),
            pool: "compute".into(),
            closed: true,
            requests: 20_000,
            succeeded: 4_990,
            failed: 10,
            rate: 250,
            left_ms: Some(60_000),
            ..LiveJob::default()
        }
    }

    #[test]
    fn a_job_tells_when_it_will_be_done_also_if_it_is_slow_unless_that_is_unknown() {
        let slow = LiveJob { rate: 0, left_ms: Some(54_000_000), ..job() };
        let lines = table([&job(), &LiveJob { left_ms: None, ..job() }, &slow]).lines(Room::default());
        assert_eq!(lines[1], "5f3a9c01-12  night  compute  normal    5000/20000  10      0         250/s  1 min 0 s");
        assert!(lines[2].ends_with("250/s  -") && lines[3].ends_with("0/s    15 h 0 min"), "{lines:?}");
    }

    #[test]
    fn what_is_wrong_with_the_store_comes_first() {
        let store =
            StoreStatus { bytes: 3 << 20, commits: 4, commits_us: 4800, longest_us: 3000, ..Default::default() };
        let totals = JobTotals { finished: 7, retried: 1200, ..JobTotals::default() };
        let mut jobs = JobsStatus { live: vec![job()], open: 1, running: 2, totals, store, ..JobsStatus::default() };
        let lines = summary(&jobs);
        assert_eq!(lines[0], "3 jobs open or running; since the start 7 finished, 1,200 requests retried");
        assert_eq!(lines[1], "store: 3.00 MiB, 4 commits, 1.2 ms on average, 3.0 ms at most");
        jobs.store.full = "no space left".into();
        jobs.store.failed = "a sync failed".into();
        let lines = summary(&jobs);
        assert!(lines[0].contains("out of order") && lines[1].contains("no room for more: no space left"), "{lines:?}");
    }
}
