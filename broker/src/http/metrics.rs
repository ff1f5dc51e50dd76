//! The metrics for Prometheus, in its
//! [text format](https://prometheus.io/docs/instrumenting/exposition_formats/), named by its
//! [conventions](https://prometheus.io/docs/practices/naming/).

mod family;
mod hosts;
mod jobs;

use std::collections::{BTreeMap, BTreeSet};

use giostra_protocol::{PoolStatus, PoolTotals, Status, WorkerStatus};
use prometheus::proto::{Bucket, Histogram, MetricFamily, MetricType};
use prometheus::{TEXT_FORMAT, TextEncoder};

use giostra_core::OTHER_POOLS;

use family::{Family, Sample, family, family_of, labelled, of_broker};

/// The content type of [`text`].
pub const CONTENT_TYPE: &str = TEXT_FORMAT;

/// Returns all metrics. `started` is the time of the broker's start, in seconds since 1970.
pub fn text(status: &Status, started: f64) -> prometheus::Result<String> {
    let mut text = String::new();
    TextEncoder::new().encode_utf8(&families(status, started), &mut text)?;
    Ok(text)
}

fn families(status: &Status, started: f64) -> Vec<MetricFamily> {
    let Status { version, rotation, totals, clients, .. } = status;
    let broker = [
        (
            "build_info",
            "Always 1; the version and the rotation are in the labels.",
            vec![(vec![("version", &**version), ("rotation", &**rotation)], 1.0)],
        ),
        ("start_time_seconds", "Start time of the broker since 1970.", of_broker(started)),
        ("clients", "Connected clients.", of_broker(clients.len() as f64)),
        (
            "discarded_replies_total",
            "Replies discarded: late, or no longer wanted.",
            of_broker(totals.discarded as f64),
        ),
        ("refusals_total", "Messages and peers refused.", of_broker(totals.refused as f64)),
        (
            "rejected_total",
            "Rejections of requests for lack of room. Their clients send them again.",
            of_broker(totals.rejected as f64),
        ),
    ];
    let jobs = status.jobs.as_ref();
    let all = broker
        .into_iter()
        .chain(pools(status))
        .chain(workers(status))
        .chain(hosts::of(status))
        .chain(jobs.into_iter().flat_map(jobs::of));
    let all = all.filter(|(.., samples)| !samples.is_empty()).map(|(name, help, samples)| family(name, help, samples));
    all.chain(histogram(status)).chain(jobs.map(|jobs| jobs::syncs(&jobs.store))).collect()
}

fn pools(status: &Status) -> [Family<'_>; 9] {
    let Status { pools, pool_totals, .. } = status;
    let totals = |value: fn(&PoolTotals) -> u64| {
        pool_totals.iter().map(move |pool| (vec![("pool", &*pool.name)], value(pool) as f64)).collect()
    };
    let now = |value: fn(&PoolStatus) -> f64| {
        pools.iter().map(move |pool| (vec![("pool", &*pool.name)], value(pool))).collect()
    };
    let ended = pool_totals.iter().flat_map(|pool| {
        let outcomes = [
            ("succeeded", pool.succeeded),
            ("failed", pool.failed),
            ("expired", pool.expired),
            ("poisoned", pool.poisoned),
            ("cancelled", pool.cancelled),
        ];
        outcomes.map(|(outcome, count)| (vec![("pool", &*pool.name), ("outcome", outcome)], count as f64))
    });
    [
        ("requests_accepted_total", "Requests accepted.", totals(|pool| pool.accepted)),
        ("requests_total", "Requests ended, by their outcome.", ended.collect()),
        ("dispatches_total", "Requests handed to a worker, each attempt counted.", totals(|pool| pool.dispatched)),
        (
            "redispatches_total",
            "Requests dispatched again after a worker was lost, or handed them back.",
            totals(|pool| pool.redispatched),
        ),
        ("workers_lost_total", "Workers dropped.", totals(|pool| pool.workers_lost)),
        ("pending_requests", "Requests waiting for a worker.", now(|pool| pool.pending as f64)),
        (
            "pending_oldest_seconds",
            "Time that the oldest of them has been waiting.",
            now(|pool| seconds_of_ms(pool.oldest_ms)),
        ),
        (
            "in_flight_requests",
            "Requests handed to workers of this pool and not yet answered.",
            now(|pool| pool.in_flight as f64),
        ),
        (
            "pool_turn_wait_seconds",
            "Time that strict rotation has been waiting for one worker while others have room.",
            now(|pool| seconds_of_ms(pool.waits_ms)),
        ),
    ]
}

fn workers(status: &Status) -> [Family<'_>; 12] {
    let workers = Workers::of(status);
    [
        ("workers", "Workers, by their state.", workers.states(status)),
        (
            "worker_up",
            "Registered workers of this name; 0 after the last was dropped, until one comes back or it is forgotten.",
            workers.each(|all| Some(all.present.len() as f64)),
        ),
        (
            "worker_lost",
            "Workers of this name that were dropped, until as many have come back or they are forgotten.",
            workers.each(|all| Some(all.lost.into())),
        ),
        (
            "worker_in_flight_requests",
            "Requests handed to a worker and not yet answered.",
            workers.sum(|worker| worker.in_flight),
        ),
        (
            "worker_window_requests",
            "Maximum requests handed to a worker at once, at its current pace.",
            workers.sum(|worker| worker.window),
        ),
        (
            "worker_computing_requests",
            "Requests that a worker computes, from its last pong.",
            workers.sum(|worker| worker.computing.into()),
        ),
        (
            "worker_oldest_seconds",
            "Time that the oldest of them has been computing, from its last pong.",
            workers.max(|worker| seconds_of_ms(if worker.computing > 0 { worker.oldest_ms } else { 0 })),
        ),
        ("worker_threads", "Requests that a worker computes at once.", workers.sum(|worker| worker.threads.into())),
        ("worker_answered_total", "Requests that workers of this name replied to.", workers.answered()),
        (
            "worker_redispatched_total",
            "Requests dispatched to others after a worker of this name was lost, or handed them back.",
            workers.max(|worker| worker.redispatched_from as f64),
        ),
        (
            "worker_round_trip_seconds",
            "Time from the last answered ping of a worker to its pong.",
            workers.max(|worker| worker.round_trip_us as f64 / 1e6),
        ),
        (
            "worker_last_pong_seconds",
            "Time since a worker's last pong.",
            workers.max(|worker| seconds_of_ms(worker.pong_age_ms)),
        ),
    ]
}

/// The states of workers: those of [`WorkerStatus::state`], and lost.
const STATES: [&str; 7] = ["idle", "busy", "stuck", "suspect", "unable", "leaving", "lost"];

/// Workers by pool and name.
struct Workers<'a>(BTreeMap<(&'a str, &'a str), Namesakes<'a>>);

/// Workers of one pool and name. They share their series, since a series can't be there twice.
#[derive(Default)]
struct Namesakes<'a> {
    present: Vec<&'a WorkerStatus>,
    /// The number of workers that were dropped and have not come back.
    lost: u32,
}

impl<'a> Workers<'a> {
    fn of(status: &'a Status) -> Self {
        let mut all = BTreeMap::<_, Namesakes<'_>>::new();
        for worker in &status.workers {
            all.entry((&*worker.pool, &*worker.name)).or_default().present.push(worker);
        }
        for worker in &status.lost {
            all.entry((&*worker.pool, &*worker.name)).or_default().lost += 1;
        }
        Self(all)
    }

    fn sum(&self, value: fn(&WorkerStatus) -> u64) -> Vec<Sample<'a>> {
        self.present(|workers| workers.iter().map(|worker| value(worker)).sum::<u64>() as f64)
    }

    fn max(&self, value: fn(&WorkerStatus) -> f64) -> Vec<Sample<'a>> {
        self.present(|workers| workers.iter().map(|worker| value(worker)).fold(0.0, f64::max))
    }

    fn answered(&self) -> Vec<Sample<'a>> {
        self.present(|workers| {
            let before = workers.iter().map(|worker| worker.answered_before).max().unwrap_or(0);
            (before + workers.iter().map(|worker| worker.answered).sum::<u64>()) as f64
        })
    }

    /// Returns a value for each name with a worker.
    fn present(&self, value: impl Fn(&[&WorkerStatus]) -> f64) -> Vec<Sample<'a>> {
        self.each(|all| (!all.present.is_empty()).then(|| value(&all.present)))
    }

    fn each(&self, value: impl Fn(&Namesakes<'_>) -> Option<f64>) -> Vec<Sample<'a>> {
        let values = self.0.iter().filter_map(|(&labels, all)| Some((labels, value(all)?)));
        values.map(|((pool, worker), value)| (vec![("pool", pool), ("worker", worker)], value)).collect()
    }

    /// Includes each state of each known pool, also those without workers: a series that is absent
    /// raises no alarm.
    fn states(&self, status: &'a Status) -> Vec<Sample<'a>> {
        let present = status.pools.iter().map(|pool| &*pool.name).chain(self.0.keys().map(|&(pool, _)| pool));
        let former = status.pool_totals.iter().map(|pool| &*pool.name).filter(|&name| name != OTHER_POOLS);
        let known: BTreeSet<_> = present.chain(former).collect();
        let mut counts: BTreeMap<_, _> =
            known.into_iter().flat_map(|pool| STATES.map(|state| ((pool, state), 0))).collect();
        for (&(pool, _), Namesakes { present, lost }) in &self.0 {
            for worker in present {
                *counts.entry((pool, &*worker.state)).or_insert(0) += 1;
            }
            *counts.entry((pool, "lost")).or_insert(0) += lost;
        }
        let sample = |((pool, state), count)| (vec![("pool", pool), ("state", state)], f64::from(count));
        counts.into_iter().map(sample).collect()
    }
}

/// Returns the times of requests, if there is a pool.
fn histogram(status: &Status) -> Option<MetricFamily> {
    let metrics = status.pool_totals.iter().map(|pool| {
        let mut count = 0;
        let buckets = status.bounds_us.iter().zip(&pool.took).map(|(&bound, took)| {
            count += took;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound as f64 / 1e6);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(pool.took.iter().sum());
        histogram.set_sample_sum(pool.took_us as f64 / 1e6);
        let mut metric = labelled(&[("pool", &pool.name)]);
        metric.set_histogram(histogram);
        metric
    });
    let help = "Time from a request's acceptance to its worker's reply.";
    let family = family_of("request_seconds", help, MetricType::HISTOGRAM, metrics.collect());
    (!family.get_metric().is_empty()).then_some(family)
}

fn seconds_of_ms(ms: u64) -> f64 {
    ms as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use giostra_protocol::{JobTotals, JobsStatus, LostStatus, StoreStatus};

    use super::*;

    #[test]
    fn each_series_appears_once_even_if_workers_share_a_name_and_lost_workers_are_down() {
        let worker = |name: &str, in_flight| WorkerStatus {
            name: name.into(),
            pool: "p".into(),
            state: "busy".into(),
            in_flight,
            answered: 10 * in_flight,
            answered_before: 7,
            computing: 1,
            oldest_ms: 500 * in_flight,
            ..WorkerStatus::default()
        };
        let lost = |name: &str| LostStatus { name: name.into(), pool: "p".into(), ..LostStatus::default() };
        let status = Status {
            workers: vec![worker("a\"b\\", 1), worker("twin", 2), worker("twin", 3)],
            lost: vec![lost("twin"), lost("gone"), lost("gone")],
            pools: vec![PoolStatus {
                name: "p".into(),
                oldest_ms: 1500,
                waits_ms: 2500,
                in_flight: 6,
                ..PoolStatus::default()
            }],
            pool_totals: ["p", "empty", OTHER_POOLS]
                .map(|name| PoolTotals { name: name.into(), ..PoolTotals::default() })
                .into(),
            ..Status::default()
        };
        let text = text(&status, 1e9).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        for wanted in [
            r#"giostra_worker_up{pool="p",worker="a\"b\\"} 1"#,
            r#"giostra_worker_up{pool="p",worker="twin"} 2"#,
            r#"giostra_worker_lost{pool="p",worker="twin"} 1"#,
            r#"giostra_worker_lost{pool="p",worker="gone"} 2"#,
            r#"giostra_worker_lost{pool="p",worker="a\"b\\"} 0"#,
            r#"giostra_worker_up{pool="p",worker="gone"} 0"#,
            r#"giostra_worker_in_flight_requests{pool="p",worker="twin"} 5"#,
            r#"giostra_worker_answered_total{pool="p",worker="twin"} 57"#,
            r#"giostra_worker_oldest_seconds{pool="p",worker="twin"} 1.5"#,
            r#"giostra_workers{pool="p",state="busy"} 3"#,
            r#"giostra_workers{pool="p",state="stuck"} 0"#,
            r#"giostra_workers{pool="empty",state="idle"} 0"#,
            r#"giostra_workers{pool="p",state="lost"} 3"#,
            r#"giostra_pending_oldest_seconds{pool="p"} 1.5"#,
            r#"giostra_pool_turn_wait_seconds{pool="p"} 2.5"#,
            r#"giostra_in_flight_requests{pool="p"} 6"#,
            r#"giostra_workers{pool="p",state="unable"} 0"#,
        ] {
            assert!(lines.contains(&wanted), "{wanted} in {text}");
        }
        assert!(
            lines.iter().all(|line| !line.starts_with("giostra_workers{") || !line.contains(OTHER_POOLS)),
            "{text}"
        );
        let mut series: Vec<_> =
            lines.iter().filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series).collect();
        let all = series.len();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), all, "{text}");
    }

    #[test]
    fn the_histogram_is_cumulative_in_seconds_and_ends_with_all() {
        let pool = PoolTotals { name: "p".into(), took: vec![1, 2, 4], took_us: 2_500_000, ..PoolTotals::default() };
        let status = Status { pool_totals: vec![pool], bounds_us: vec![100, 1_000_000], ..Status::default() };
        let text = text(&status, 0.0).unwrap();
        let of = |name: &str| {
            let lines = text.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit_once(' ')).map(|(_, value)| value.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of("giostra_request_seconds_bucket"), ["1", "3", "7"], "{text}");
        assert_eq!(
            (of("giostra_request_seconds_sum"), of("giostra_request_seconds_count")),
            (vec!["2.5".into()], vec!["7".into()])
        );
        assert!(text.contains(r#"le="0.0001""#) && text.contains(r#"le="1""#) && text.contains(r#"le="+Inf""#));
    }

    #[test]
    fn no_counter_is_named_as_another_series_with_total_behind() {
        // OpenMetrics names a counter's family without it.
        let jobs = Some(JobsStatus::default());
        let text = text(&Status { jobs, ..Status::default() }, 0.0).unwrap();
        let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut names: Vec<_> = kinds.filter_map(|line| line.split(' ').next()).collect();
        names.iter_mut().for_each(|name| *name = name.strip_suffix("_total").unwrap_or(name));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() == all && all > 10, "{text}");
    }

    #[test]
    fn jobs_and_their_store_have_series_only_where_there_is_a_store() {
        let of = |jobs| {
            let text = text(&Status { jobs, ..Status::default() }, 0.0).unwrap();
            let is_ours = |line: &&str| ["giostra_job", "giostra_store"].iter().any(|name| line.starts_with(name));
            text.lines().filter(is_ours).map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(of(None), [""; 0]);
        let totals =
            JobTotals { submitted: 5, restored: 1, finished: 2, saved: 9000, retried: 3, ..JobTotals::default() };
        let store = StoreStatus {
            full: "no space".into(),
            bytes: 1 << 23,
            commits: 4,
            commits_us: 10_500,
            longest_us: 6000,
            ..StoreStatus::default()
        };
        let lines = of(Some(JobsStatus { totals, store, left_out: 2, open: 1, running: 3, ..JobsStatus::default() }));
        for wanted in [
            r#"giostra_jobs{state="open"} 1"#,
            r#"giostra_jobs{state="running"} 3"#,
            r#"giostra_job_events_total{event="submitted"} 5"#,
            r#"giostra_job_events_total{event="restored"} 1"#,
            r#"giostra_job_events_total{event="deleted"} 0"#,
            r#"giostra_job_requests_total{what="saved"} 9000"#,
            r#"giostra_job_requests_total{what="retried"} 3"#,
            "giostra_store_sync_seconds_sum 0.0105",
            "giostra_store_sync_seconds_count 4",
            "giostra_store_longest_sync_seconds 0.006",
            "giostra_store_bytes 8388608",
            "giostra_store_full 1",
            "giostra_store_failed 0",
        ] {
            assert!(lines.iter().any(|line| line == wanted), "{wanted} in {lines:#?}");
        }
    }
}
