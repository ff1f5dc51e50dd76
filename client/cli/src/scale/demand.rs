//! The demand of a pool, from the broker's status.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use giostra_protocol::{Status, WorkerStatus};

use super::policy::Demand;

/// The time of computing that is looked back on: requests of another kind soon show.
const WINDOW_SECONDS: f64 = 30.0;

/// How long to watch workers before the cost of a request counts as known. What they say about
/// themselves is up to a second old.
const SETTLING: Duration = Duration::from_secs(3);

/// Estimates what the requests of a pool cost: the time for which its workers were seen computing, by
/// the requests that they answered meanwhile.
#[derive(Default)]
pub struct Estimator {
    /// When the last status was seen, and how many requests had been answered by then.
    last: Option<(Instant, u64)>,
    /// Since when there have been workers.
    served_since: Option<Instant>,
    /// What was seen of the last seconds in which anything was computed.
    seen: VecDeque<Seen>,
}

/// What was seen between two looks.
struct Seen {
    /// The seconds between them.
    seconds: f64,
    /// The seconds that threads computed.
    computed: f64,
    answered: u64,
}

impl Estimator {
    /// Returns the demand of `pool`.
    pub fn handle(&mut self, status: &Status, pool: &str, now: Instant) -> Demand {
        let totals = status.pool_totals.iter().find(|totals| totals.name == pool);
        let answered = totals.map_or(0, |totals| totals.succeeded + totals.failed);
        let workers: Vec<_> = status.workers.iter().filter(|worker| worker.pool == pool).collect();
        if let Some((at, before)) = self.last {
            let seconds = now.duration_since(at).as_secs_f64();
            let computing: u64 = workers.iter().map(|worker| u64::from(worker.computing)).sum();
            // After the broker's restart it counts from 0 on.
            let answered = answered.checked_sub(before).unwrap_or(answered);
            self.see(Seen { seconds, computed: computing as f64 * seconds, answered });
        }
        self.last = Some((now, answered));
        self.served_since = if workers.is_empty() { None } else { self.served_since.or(Some(now)) };
        let is_settled = self.served_since.is_none_or(|since| now.duration_since(since) >= SETTLING);
        let seconds_each = self.seconds_each().filter(|_| is_settled).map(|seconds| seconds.max(mean_age(&workers)));
        Demand { requests: requests(status, pool, &workers), seconds_each, is_settled }
    }

    fn see(&mut self, seen: Seen) {
        if seen.computed > 0.0 || seen.answered > 0 {
            self.seen.push_back(seen);
        }
        let mut seconds: f64 = self.seen.iter().map(|seen| seen.seconds).sum();
        while let Some(first) = self.seen.front().filter(|first| seconds - first.seconds >= WINDOW_SECONDS) {
            seconds -= first.seconds;
            self.seen.pop_front();
        }
    }

    /// What a request has cost lately; `None` if none was answered.
    fn seconds_each(&self) -> Option<f64> {
        let answered: u64 = self.seen.iter().map(|seen| seen.answered).sum();
        let computed: f64 = self.seen.iter().map(|seen| seen.computed).sum();
        (answered > 0).then(|| computed / answered as f64)
    }
}

/// For how long the requests have been computed that are under way, in seconds: others like them take
/// longer.
fn mean_age(workers: &[&WorkerStatus]) -> f64 {
    let busy = workers.iter().filter(|worker| worker.computing > 0);
    let (count, sum) = busy.fold((0, 0), |(count, sum), worker| (count + 1, sum + worker.oldest_ms));
    if count == 0 { 0.0 } else { sum as f64 / 1000.0 / f64::from(count) }
}

/// The requests of a pool that have no reply yet.
fn requests(status: &Status, pool: &str, workers: &[&WorkerStatus]) -> u64 {
    let pending = status.pools.iter().find(|it| it.name == pool).map_or(0, |it| it.pending);
    let in_flight: u64 = workers.iter().map(|worker| worker.in_flight).sum();
    // Of a job the broker has only a part in memory, which is also among the pending.
    let jobs = status.jobs.iter().flat_map(|jobs| &jobs.live).filter(|job| job.pool == pool);
    let of_jobs: u64 = jobs.map(|job| job.requests.saturating_sub(job.succeeded + job.failed)).sum();
    (pending + in_flight).max(of_jobs)
}

#[cfg(test)]
mod tests {
    use giostra_protocol::{JobsStatus, LiveJob, PoolStatus, PoolTotals};

    use super::*;

    /// A worker that has computed its oldest request for 500 ms, and a pool of others.
    fn status(pending: u64, computing: u32, succeeded: u64) -> Status {
        let pool = |name: &str| WorkerStatus { pool: name.into(), oldest_ms: 500, ..WorkerStatus::default() };
        let worker = WorkerStatus { computing, in_flight: 2, ..pool("p") };
        let other = WorkerStatus { computing: 9, in_flight: 9, ..pool("other") };
        Status {
            pools: vec![PoolStatus { name: "p".into(), pending, ..PoolStatus::default() }],
            pool_totals: vec![PoolTotals { name: "p".into(), succeeded, ..PoolTotals::default() }],
            workers: vec![worker, other],
            ..Status::default()
        }
    }

    /// An estimator that is asked after so many seconds.
    struct Scene(Estimator, Instant);

    impl Scene {
        fn new() -> Self {
            Self(Estimator::default(), Instant::now())
        }

        fn after(&mut self, seconds: u64, status: &Status) -> Demand {
            self.1 += Duration::from_secs(seconds);
            self.0.handle(status, "p", self.1)
        }
    }

    #[test]
    fn the_cost_of_a_request_is_the_time_seen_computing_by_the_requests_answered() {
        let mut scene = Scene::new();
        let unknown = Demand { requests: 12, seconds_each: None, is_settled: false };
        assert_eq!(scene.after(0, &status(10, 2, 0)), unknown);
        // Nothing is answered yet: nobody knows.
        assert_eq!(scene.after(5, &status(10, 2, 0)), Demand { is_settled: true, ..unknown });
        assert_eq!(scene.after(5, &status(10, 2, 10)).seconds_each, Some(2.0));
    }

    #[test]
    fn requests_of_another_kind_show_within_half_a_minute_of_computing() {
        let mut scene = Scene::new();
        scene.after(0, &status(0, 2, 0));
        scene.after(5, &status(0, 2, 1_000_000));
        // An hour of nothing is forgotten by nobody.
        assert_eq!(scene.after(3600, &status(0, 0, 1_000_000)).seconds_each, Some(1e-5));
        // The long ones show by their age at once, and have taken the others' place after a while.
        assert_eq!(scene.after(5, &status(10, 2, 1_000_000)).seconds_each, Some(0.5));
        let last = (0..8).map(|_| scene.after(5, &status(10, 2, 1_000_000))).last();
        assert_eq!(last.unwrap().seconds_each, None);
        assert_eq!(scene.after(5, &status(10, 2, 1_000_002)).seconds_each, Some(30.0));
    }

    #[test]
    fn without_workers_there_is_nothing_to_wait_for() {
        let nobody = Status { workers: Vec::new(), ..status(10, 0, 0) };
        assert!(Scene::new().after(0, &nobody).is_settled);
    }

    #[test]
    fn a_broker_that_counts_from_0_again_is_no_loss_of_replies() {
        let mut scene = Scene::new();
        scene.after(0, &status(0, 1, 1000));
        assert_eq!(scene.after(5, &status(0, 1, 5)).seconds_each, Some(1.0));
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
        assert_eq!(Scene::new().after(0, &status).requests, 9699);
    }
}
