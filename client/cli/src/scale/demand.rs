//! The demand of a pool, from the broker's status.

use std::time::Instant;

use giostra_protocol::Status;

use super::policy::Demand;

/// The time after which what was seen counts half.
const HALF_LIFE_SECONDS: f64 = 60.0;

/// How long to watch before the cost of a request counts as known. What workers say about themselves
/// is up to a second old.
const WATCHED_SECONDS: f64 = 3.0;

/// Estimates what the requests of a pool cost: the time for which its workers were seen computing, by
/// the requests that they answered meanwhile.
#[derive(Default)]
pub struct Estimator {
    /// When the last status was seen, and how many requests had been answered by then.
    last: Option<(Instant, u64)>,
    /// Seconds for which there were workers.
    watched: f64,
    /// Seconds of computing.
    computed: f64,
    /// Requests answered.
    answered: f64,
}

impl Estimator {
    /// Returns the demand of `pool`.
    pub fn handle(&mut self, status: &Status, pool: &str, now: Instant) -> Demand {
        let totals = status.pool_totals.iter().find(|totals| totals.name == pool);
        let answered = totals.map_or(0, |totals| totals.succeeded + totals.failed);
        let workers = status.workers.iter().filter(|worker| worker.pool == pool);
        let is_served = workers.clone().next().is_some();
        let computing: u64 = workers.clone().map(|worker| u64::from(worker.computing)).sum();
        if let Some((at, before)) = self.last {
            let seconds = now.duration_since(at).as_secs_f64();
            let kept = 0.5_f64.powf(seconds / HALF_LIFE_SECONDS);
            self.watched = self.watched * kept + if is_served { seconds } else { 0.0 };
            self.computed = self.computed * kept + computing as f64 * seconds;
            // After the broker's restart it counts from 0 on.
            self.answered = self.answered * kept + answered.checked_sub(before).unwrap_or(answered) as f64;
        }
        self.last = Some((now, answered));
        let pending = status.pools.iter().find(|it| it.name == pool).map_or(0, |it| it.pending);
        let in_flight: u64 = workers.map(|worker| worker.in_flight).sum();
        // Of a job the broker has only a part in memory, which is also among the pending.
        let jobs = status.jobs.iter().flat_map(|jobs| &jobs.live).filter(|job| job.pool == pool);
        let of_jobs: u64 = jobs.map(|job| job.requests.saturating_sub(job.succeeded + job.failed)).sum();
        let requests = (pending + in_flight).max(of_jobs);
        let is_watched = self.watched >= WATCHED_SECONDS;
        Demand {
            requests,
            seconds_each: (is_watched && self.answered >= 0.5).then(|| self.computed / self.answered),
            is_settled: is_watched || !is_served,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use giostra_protocol::{JobsStatus, LiveJob, PoolStatus, PoolTotals, WorkerStatus};

    use super::*;

    fn status(pending: u64, computing: u32, succeeded: u64) -> Status {
        let worker = WorkerStatus { pool: "p".into(), computing, in_flight: 2, ..WorkerStatus::default() };
        let other = WorkerStatus { pool: "other".into(), computing: 9, in_flight: 9, ..WorkerStatus::default() };
        Status {
            pools: vec![PoolStatus { name: "p".into(), pending, ..PoolStatus::default() }],
            pool_totals: vec![PoolTotals { name: "p".into(), succeeded, ..PoolTotals::default() }],
            workers: vec![worker, other],
            ..Status::default()
        }
    }

    #[test]
    fn the_cost_of_a_request_is_the_time_seen_computing_by_the_requests_answered() {
        let (mut estimator, start) = (Estimator::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let unknown = Demand { requests: 12, seconds_each: None, is_settled: false };
        assert_eq!(estimator.handle(&status(10, 2, 0), "p", at(0)), unknown);
        // Nothing is answered yet: nobody knows.
        let unknown = Demand { is_settled: true, ..unknown };
        assert_eq!(estimator.handle(&status(10, 2, 0), "p", at(5)), unknown);
        let each = estimator.handle(&status(10, 2, 10), "p", at(10)).seconds_each.unwrap();
        assert!((1.9..2.0).contains(&each), "{each}");
        // What was long ago counts less and less.
        let cheap = (1..60).map(|step| estimator.handle(&status(10, 2, 10 + step * 100), "p", at(10 + step * 10)));
        assert!((0.19..0.22).contains(&cheap.last().unwrap().seconds_each.unwrap()));
    }

    #[test]
    fn a_broker_that_counts_from_0_again_is_no_loss_of_replies() {
        let (mut estimator, start) = (Estimator::default(), Instant::now());
        estimator.handle(&status(0, 1, 1000), "p", start);
        let demand = estimator.handle(&status(0, 1, 10), "p", start + Duration::from_secs(5));
        assert!((demand.seconds_each.unwrap() - 0.5).abs() < 0.01, "{demand:?}");
    }

    #[test]
    fn what_jobs_have_on_disk_counts_also_where_the_broker_has_only_a_part_in_memory() {
        let mut status = status(1000, 1, 0);
        let job = |pool: &str| LiveJob {
            pool: pool.into(),
            requests: 10_000,
            succeeded: 300,
            failed: 1,
            ..LiveJob::default()
        };
        status.jobs = Some(JobsStatus { live: vec![job("p"), job("other")], ..JobsStatus::default() });
        assert_eq!(Estimator::default().handle(&status, "p", Instant::now()).requests, 9699);
    }
}
