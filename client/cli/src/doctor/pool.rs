//! What a broker's status says: whether the pool has workers that compute, and whether jobs are safe.

use giostra_protocol::{LostStatus, Status, WorkerStatus};

use super::Finding;
use crate::written::{many, micros, millis};

const WORKERS: &str = "workers";

/// Looks at the workers of a pool.
pub fn workers(status: &Status, pool: &str) -> Finding {
    let here: Vec<_> = status.workers.iter().filter(|worker| worker.pool == pool).collect();
    let pending = status.pools.iter().find(|known| known.name == pool).map_or(0, |pool| pool.pending);
    let waiting = if pending > 0 { format!(", and {} waiting", are(pending, "request")) } else { String::new() };
    if here.is_empty() {
        return none(status, pool, &waiting);
    }
    let able = here.iter().filter(|worker| worker.seat.is_some()).count() as u64;
    let amiss = [of_state(&here, "stuck"), of_state(&here, "suspect"), of_state(&here, "unable")];
    let leaving = here.iter().filter(|worker| worker.leaving).count() as u64;
    let leaving = (leaving > 0).then(|| format!("{leaving} leaving"));
    let lost = status.lost.iter().rfind(|lost| lost.pool == pool);
    let text = format!("pool '{pool}' has {} with a seat", many(able, "worker"));
    let amiss: Vec<_> = amiss.into_iter().flatten().chain(leaving).chain(lost.map(|lost| gone(lost, status))).collect();
    match (able, amiss.is_empty()) {
        (0, _) => Finding::failure(
            WORKERS,
            format!("{text}: {}{waiting}", amiss.join(", ")),
            format!("start another: giostra-worker --pool {pool}"),
        ),
        (_, true) => Finding::fine(WORKERS, text),
        (_, false) => Finding::warning(WORKERS, format!("{text}; {}", amiss.join(", ")), "giostra status says more"),
    }
}

/// The finding that a pool has no worker.
fn none(status: &Status, pool: &str, waiting: &str) -> Finding {
    let mut others: Vec<_> = status.workers.iter().map(|worker| worker.pool.as_str()).collect();
    others.dedup();
    let start = format!("start one: giostra-worker --pool {pool}");
    let lost = status.lost.iter().rfind(|lost| lost.pool == pool);
    let lost = lost.map(|lost| format!(", {}", gone(lost, status))).unwrap_or_default();
    let text = format!("pool '{pool}' has no worker{lost}{waiting}");
    match others[..] {
        [] => Finding::failure(WORKERS, text, start),
        _ => Finding::warning(
            WORKERS,
            text,
            format!("{start}, or name a pool that has some (--pool): {}", others.join(", ")),
        ),
    }
}

/// Names the workers in a state.
fn of_state(workers: &[&WorkerStatus], state: &str) -> Option<String> {
    let of_state: Vec<_> = workers.iter().filter(|worker| worker.state == state).collect();
    let (first, more) = of_state.split_first()?;
    let why = match state {
        "stuck" => format!(" with one request for {}", millis(first.oldest_ms)),
        "suspect" => format!(", silent for {}", millis(first.pong_age_ms)),
        _ => format!(": {}", first.unable),
    };
    let more = if more.is_empty() { String::new() } else { format!(", {} more", more.len()) };
    Some(format!("{} is {state}{why}{more}", first.name))
}

fn gone(lost: &LostStatus, status: &Status) -> String {
    let ago = millis(status.uptime_ms.saturating_sub(lost.at_ms));
    format!("{} was lost {ago} ago ({})", lost.name, lost.reason)
}

fn are(count: u64, what: &str) -> String {
    format!("{} {}", many(count, what), if count == 1 { "is" } else { "are" })
}

/// Looks at the store of jobs, if the broker has one.
pub fn jobs(status: &Status) -> Option<Finding> {
    const ABOUT: &str = "jobs";
    let jobs = status.jobs.as_ref()?;
    let store = &jobs.store;
    Some(if !store.failed.is_empty() {
        Finding::failure(ABOUT, format!("the store is out of order: {}", store.failed), "restart the broker")
    } else if !store.full.is_empty() {
        Finding::failure(ABOUT, store.full.clone(), "")
    } else {
        let slow = if store.longest_us > 0 {
            format!(", the slowest commit of late took {}", micros(store.longest_us))
        } else {
            String::new()
        };
        Finding::fine(ABOUT, format!("{} open or running{slow}", many(jobs.open + jobs.running, "job")))
    })
}

#[cfg(test)]
mod tests {
    use giostra_protocol::{JobsStatus, PoolStatus, StoreStatus};

    use super::super::Verdict;
    use super::*;

    fn worker(name: &str, state: &str) -> WorkerStatus {
        let has_seat = !matches!(state, "leaving" | "unable");
        WorkerStatus {
            name: name.into(),
            pool: "text".into(),
            state: state.into(),
            leaving: state == "leaving",
            seat: has_seat.then_some(0),
            oldest_ms: 400_000,
            pong_age_ms: 2500,
            unable: if state == "unable" { "can't start job".into() } else { String::new() },
            ..WorkerStatus::default()
        }
    }

    fn of(workers: Vec<WorkerStatus>, pool: &str) -> (Verdict, String) {
        let lost = vec![LostStatus {
            name: "gone".into(),
            pool: "lost".into(),
            at_ms: 1000,
            reason: "connection broke".into(),
            ..LostStatus::default()
        }];
        let pools = vec![PoolStatus { name: "lost".into(), pending: 1, ..PoolStatus::default() }];
        let status = Status { workers, lost, pools, uptime_ms: 61_000, ..Status::default() };
        let finding = super::workers(&status, pool);
        (finding.verdict, finding.line())
    }

    #[test]
    fn a_pool_without_workers_fails_unless_others_have_some() {
        let (verdict, line) = of(vec![], "lost");
        assert_eq!(verdict, Verdict::Failure);
        assert!(line.contains("gone was lost 1 min 0 s ago (connection broke), and 1 request is waiting"), "{line}");
        assert!(line.ends_with("start one: giostra-worker --pool lost"), "{line}");
        let (verdict, line) = of(vec![worker("a", "idle")], "compute");
        assert!(verdict == Verdict::Warning && line.ends_with("(--pool): text"), "{line}");
    }

    #[test]
    fn workers_that_do_not_compute_are_named_with_the_reason() {
        let (verdict, line) = of(vec![worker("a", "idle"), worker("b", "busy")], "text");
        assert!(verdict == Verdict::Fine && line.ends_with("pool 'text' has 2 workers with a seat"), "{line}");
        for (state, expected) in [
            ("stuck", "b is stuck with one request for 6 min 40 s"),
            ("suspect", "b is suspect, silent for 2.5 s"),
            ("unable", "b is unable: can't start job"),
            ("leaving", "1 leaving"),
        ] {
            let (verdict, line) = of(vec![worker("a", "idle"), worker("b", state)], "text");
            assert!(verdict == Verdict::Warning && line.contains(expected), "{line}");
        }
        let (verdict, line) = of(vec![worker("a", "unable"), worker("b", "unable")], "text");
        assert!(verdict == Verdict::Failure && line.contains("can't start job, 1 more"), "{line}");
    }

    #[test]
    fn a_store_that_is_full_or_out_of_order_is_a_failure() {
        let of = |store: StoreStatus| {
            let jobs = Some(JobsStatus { store, running: 1, ..JobsStatus::default() });
            jobs_of(&Status { jobs, ..Status::default() })
        };
        let jobs_fine = of(StoreStatus { longest_us: 12_000_000, ..StoreStatus::default() });
        assert!(jobs_fine.text.starts_with("1 job open or running, the slowest commit of late took 12.0 s"));
        assert_eq!(of(StoreStatus { full: "no space".into(), ..StoreStatus::default() }).verdict, Verdict::Failure);
        assert_eq!(of(StoreStatus { failed: "I/O".into(), ..StoreStatus::default() }).verdict, Verdict::Failure);
        assert_eq!(jobs(&Status::default()), None);
    }

    fn jobs_of(status: &Status) -> Finding {
        jobs(status).unwrap()
    }
}
