//! A snapshot of the broker, for `giostra status`, `top`, the live page and the metrics.

mod jobs;

use serde::{Deserialize, Serialize};

use crate::codec;

pub use jobs::{JobTotals, JobsStatus, LiveJob, StoreStatus};

/// A snapshot of the broker. New fields are only added at the end, so that readers in other languages can
/// ignore those that they do not know. This type reads the arrays of its own version alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the broker program.
    pub version: String,
    /// Milliseconds since the broker's start.
    pub uptime_ms: u64,
    /// `strict` or `available`.
    pub rotation: String,
    /// Requests waiting for a worker.
    pub pending: u64,
    /// Requests dispatched to a worker and not answered yet.
    pub in_flight: u64,
    /// Counts since the broker's start.
    pub totals: Totals,
    /// The registered workers, pool by pool, in the order of their seats.
    #[serde(deserialize_with = "codec::batch")]
    pub workers: Vec<WorkerStatus>,
    /// The connected clients.
    #[serde(deserialize_with = "codec::batch")]
    pub clients: Vec<ClientStatus>,
    /// The pools that have workers or pending requests, by name.
    #[serde(deserialize_with = "codec::batch")]
    pub pools: Vec<PoolStatus>,
    /// Microseconds from acceptance to reply, of the requests answered in the last full second.
    pub latency_us: Percentiles,
    /// The last full seconds.
    pub history: History,
    /// The last events, at most 100, the newest last.
    #[serde(deserialize_with = "codec::batch")]
    pub events: Vec<EventStatus>,
    /// The counts of each pool, by name, and of the last 100 pools that are empty now. Those of
    /// earlier pools are summed up as `other pools`.
    #[serde(deserialize_with = "codec::batch")]
    pub pool_totals: Vec<PoolTotals>,
    /// The upper bounds of the histograms in [`PoolTotals::took`], in microseconds, inclusive.
    #[serde(deserialize_with = "codec::batch")]
    pub bounds_us: Vec<u64>,
    /// Workers that were dropped in the last 15 minutes and have not come back under their name, at
    /// most 1,000, the latest last.
    #[serde(deserialize_with = "codec::batch")]
    pub lost: Vec<LostStatus>,
    /// What this snapshot leaves out, to bound its size.
    pub left_out: LeftOut,
    /// The durable jobs; `None` if the broker has no store.
    #[serde(default)]
    pub jobs: Option<JobsStatus>,
    /// The hosts of workers, by name, all pools together: those that have workers, or had some of
    /// [`Self::lost`].
    #[serde(default, deserialize_with = "codec::batch")]
    pub hosts: Vec<HostStatus>,
    /// Whether the asker's role lets it see only the counts of pools: of those the name, `ring`,
    /// `pending`, `oldest_ms`, `in_flight` and `unanswered`. All else that could tell of peers or of
    /// their requests is left out.
    #[serde(default)]
    pub limited: bool,
}

/// The workers of a host. All have registered with its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its name; empty for workers that did not say where they are.
    pub name: String,
    /// Its registered workers.
    pub workers: u64,
    /// The number of requests they compute at once.
    pub threads: u64,
    /// Those in each of the states of [`WorkerStatus::state`].
    pub idle: u64,
    /// Those that are busy.
    pub busy: u64,
    /// Those that are stuck.
    pub stuck: u64,
    /// Those that are suspect.
    pub suspect: u64,
    /// Those that are unable.
    pub unable: u64,
    /// Those that are leaving.
    pub leaving: u64,
    /// Requests dispatched to them and not answered yet.
    pub in_flight: u64,
    /// The most requests they may hold now.
    pub window: u64,
    /// Requests they answered in the last full second.
    pub rate: u64,
    /// Requests that workers of the host answered since the broker's start.
    pub answered: u64,
    /// Its workers in [`Status::lost`].
    pub lost: u64,
}

impl HostStatus {
    /// Counts a registered worker in this [state](WorkerStatus::state).
    pub fn count(&mut self, state: &str) {
        self.workers += 1;
        *match state {
            "suspect" => &mut self.suspect,
            "leaving" => &mut self.leaving,
            "unable" => &mut self.unable,
            "stuck" => &mut self.stuck,
            "busy" => &mut self.busy,
            _ => &mut self.idle,
        } += 1;
    }
}

/// The numbers of entries that a [`Status`] leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Workers beyond 5,000: the latest.
    pub workers: u64,
    /// Clients beyond 5,000: the latest.
    pub clients: u64,
    /// Pools beyond 1,000: those without workers first.
    pub pools: u64,
    /// Operations of listed workers, whose names exceed 4 KiB for one worker or 1 MiB for all.
    pub operations: u64,
    /// Hosts beyond 1,000: those without workers first, then the last by name.
    #[serde(default)]
    pub hosts: u64,
}

impl LeftOut {
    /// Returns the counts in words, such as `3 workers, 1 pools`; empty if nothing is left out.
    pub fn summary(&self) -> String {
        let Self { workers, clients, pools, operations, hosts } = *self;
        let counts = [
            (workers, "workers"),
            (clients, "clients"),
            (pools, "pools"),
            (operations, "operations"),
            (hosts, "hosts"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        counts.collect::<Vec<_>>().join(", ")
    }
}

/// A worker that was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostStatus {
    /// Its name.
    pub name: String,
    /// Its registration number.
    pub number: u64,
    /// Its pool.
    pub pool: String,
    /// The address it connected from; empty if unknown.
    pub address: String,
    /// Milliseconds from the broker's start to the drop.
    pub at_ms: u64,
    /// Why it was dropped.
    pub reason: String,
    /// The number of its requests that went back to the pool.
    pub returned: u64,
    /// Its host; empty if unknown.
    #[serde(default)]
    pub host: String,
}

/// The counts of a pool since the broker's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolTotals {
    /// Its name.
    pub name: String,
    /// Requests accepted.
    pub accepted: u64,
    /// Requests answered with a result.
    pub succeeded: u64,
    /// Requests answered with a worker's error.
    pub failed: u64,
    /// Requests that ended in `expired`.
    pub expired: u64,
    /// Requests that ended in `poison`.
    pub poisoned: u64,
    /// Requests cancelled by their client, or because it left.
    pub cancelled: u64,
    /// Dispatches to workers, including those of requests dispatched before.
    pub dispatched: u64,
    /// Dispatches of requests that an earlier worker lost or handed back.
    pub redispatched: u64,
    /// A histogram of the times from acceptance to reply, of the requests that a worker answered.
    /// Each entry counts the times up to the bound at its index in [`Status::bounds_us`] and above
    /// the bound before; one more entry counts the times above all bounds.
    #[serde(deserialize_with = "codec::batch")]
    pub took: Vec<u64>,
    /// The sum of these times, in microseconds.
    pub took_us: u64,
    /// Workers of the pool that were lost.
    pub workers_lost: u64,
}

/// A pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// The numbers of the workers with a seat, in the order of the rotation.
    #[serde(deserialize_with = "codec::batch")]
    pub ring: Vec<u64>,
    /// The index in `ring` of the worker whose turn is next; 0 if `ring` is empty.
    pub turn: u64,
    /// Requests waiting for a worker.
    pub pending: u64,
    /// Milliseconds for which the oldest of them has been waiting.
    pub oldest_ms: u64,
    /// Requests dispatched in the last full second.
    pub rate: u64,
    /// The number of the worker that strict rotation waits for: requests are pending, its turn is
    /// next, and its window is full, while another worker's is not. None if there is no such worker.
    pub waits_for: Option<u64>,
    /// Milliseconds for which it has been that worker's turn; 0 if `waits_for` is none.
    pub waits_ms: u64,
    /// The last full seconds of its requests, as in [`Status::history`]. Empty for all but 32 pools:
    /// those with the most workers.
    #[serde(default)]
    pub history: History,
    /// Requests dispatched to its workers and not answered yet, unwanted ones included: the sum of
    /// [`WorkerStatus::in_flight`], also over workers that are not listed.
    #[serde(default)]
    pub in_flight: u64,
    /// `pending` and `in_flight` together, of one moment: what the number of workers depends on.
    #[serde(default)]
    pub unanswered: u64,
}

/// The 50th, 90th and 99th percentile; 0 without samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
}

/// The last full seconds, at most 300, the oldest first. All lists have the same length.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Milliseconds that each entry stands for.
    pub step_ms: u64,
    /// Requests answered in each.
    #[serde(deserialize_with = "codec::batch")]
    pub rate: Vec<u64>,
    /// The medians of their latencies, in microseconds.
    #[serde(deserialize_with = "codec::batch")]
    pub p50_us: Vec<u64>,
    /// The 99th percentiles of their latencies, in microseconds.
    #[serde(deserialize_with = "codec::batch")]
    pub p99_us: Vec<u64>,
}

/// An event of the broker's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventStatus {
    /// Increases by one with each event.
    pub sequence: u64,
    /// Milliseconds from the broker's start to the event.
    pub at_ms: u64,
    /// The verb of its line in the log, such as `joined`, `dropped` or `redispatch`.
    pub kind: String,
    /// The line without its time; a long one without its middle.
    pub text: String,
    /// The number of the worker concerned, if there is one.
    pub worker: Option<u64>,
    /// The number of requests concerned, if there are some.
    pub count: Option<u64>,
}

/// Counts since the broker's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Requests accepted.
    pub accepted: u64,
    /// Requests answered by a worker, with a result or an error.
    pub answered: u64,
    /// Requests that ended in `expired`.
    pub expired: u64,
    /// Requests that ended in `poison`.
    pub poisoned: u64,
    /// Requests cancelled by their client, or because it left.
    pub cancelled: u64,
    /// Dispatches to workers, including those of requests dispatched before.
    pub dispatched: u64,
    /// Dispatches of requests that an earlier worker lost or handed back.
    pub redispatched: u64,
    /// Replies that were discarded: too late, or no longer wanted.
    pub discarded: u64,
    /// Messages that were not accepted.
    pub refused: u64,
    /// Requests rejected for lack of room. Their clients send them again, and each time counts.
    pub rejected: u64,
}

/// A registered worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its name.
    pub name: String,
    /// Its registration number: `w1` in the log for 1.
    pub number: u64,
    /// Its pool.
    pub pool: String,
    /// `idle`; `busy`: it holds requests; `stuck`: it is busy, answers pings, and has been computing
    /// its oldest request for longer than the broker's `--stuck-after`; `suspect`: a ping is
    /// overdue; `unable`: it can compute nothing for now and has no seat; or `leaving`.
    pub state: String,
    /// Whether it has given up its seat and only finishes its requests.
    pub leaving: bool,
    /// Requests dispatched to it and not answered yet.
    pub in_flight: u64,
    /// The most requests it may hold now, from how fast it computes.
    pub window: u64,
    /// Requests it answered.
    pub answered: u64,
    /// Requests being computed, according to its last pong.
    pub computing: u32,
    /// Requests waiting for one of its threads, according to its last pong.
    pub waiting: u32,
    /// Milliseconds for which its oldest request has been computed, according to its last pong.
    pub oldest_ms: u64,
    /// Unanswered pings.
    pub pings_out: u32,
    /// The number of requests it computes at once.
    pub threads: u32,
    /// The operations it offers.
    #[serde(deserialize_with = "codec::batch")]
    pub operations: Vec<String>,
    /// Milliseconds since it registered.
    pub registered_ms: u64,
    /// The address it connects from; empty if unknown.
    pub address: String,
    /// Its place in the ring, from 0 on; none if it is leaving or unable.
    pub seat: Option<u64>,
    /// Requests that went back to its pool when earlier workers of its name there were lost.
    pub redispatched_from: u64,
    /// Milliseconds since its last pong; since its registration if there was none.
    pub pong_age_ms: u64,
    /// Microseconds from the last answered ping to its pong; 0 if there was none.
    pub round_trip_us: u64,
    /// Requests it answered in the last full second.
    pub rate: u64,
    /// Microseconds from dispatch to reply over the last 10 to 20 seconds, including the wait for a
    /// thread.
    pub service_us: Percentiles,
    /// The most that [`Self::window`] may grow to.
    pub window_max: u64,
    /// Requests answered by earlier workers of its name in its pool.
    pub answered_before: u64,
    /// Why it can compute nothing for now; empty if it can.
    pub unable: String,
    /// Its host; empty if unknown.
    #[serde(default)]
    pub host: String,
}

/// A connected client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// Its name.
    pub name: String,
    /// The number of its connection: `c1` in the log for 1.
    pub number: u64,
    /// Its requests that are not answered yet.
    pub unanswered: u64,
    /// Replies sent to it.
    pub answered: u64,
    /// The address it connects from; empty if unknown.
    pub address: String,
}
