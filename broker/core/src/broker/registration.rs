//! Registration: a worker joins a pool's ring.

use std::sync::Arc;
use std::time::Instant;

use giostra_protocol::sparse_queue::SparseQueue;
use giostra_protocol::{Identity, MAX_THREADS, ToWorker, VERSION, name};

use super::records::{Load, Worker};
use super::{Broker, Output};
use crate::event::Event;
use crate::ids::WorkerNumber;
use crate::policy::liveness::Liveness;
use crate::policy::rotation::Rotation;
use crate::policy::window::{Spare, Window};
use crate::rate_limiter::TokenBucket;
use crate::stats::rates::Rate;

/// How often a worker that was unable may become able again at once.
const CHANGES: u32 = 10;

/// The most operations that a worker may name, and the most bytes of their names together. They are
/// for people, and the status lists them.
const MAX_OPERATIONS: usize = 256;
const MAX_OPERATIONS_BYTES: usize = 16 << 10;

impl Broker {
    #[allow(clippy::too_many_arguments)] // the fields of one message
    pub(super) fn register(
        &mut self,
        from: &Identity,
        name: &str,
        pool: &str,
        operations: Vec<String>,
        threads: u32,
        window: u32,
        instance: u64,
        now: Instant,
    ) {
        let most = self.settings.max_pools.saturating_mul(2);
        if self.pools.len() >= most && !self.pool_of.contains_key(pool) {
            let reason =
                format!("no room for a pool '{pool}': there are {most} already, twice --max-pools of the broker");
            return self.refuse_worker(from, &reason, now);
        }
        self.asked_to_register.remove(from);
        self.last_worker += 1;
        let number = WorkerNumber(self.last_worker);
        let back = self.comes_back(instance);
        self.instances.join(instance, number);
        let pool_key = self.pool(pool, None);
        let pool = &mut self.pools[pool_key.0];
        pool.ring.join(number);
        pool.workers += 1;
        let (pool, seats) = (Arc::clone(&pool.name), pool.ring.seats().len());
        // One for each thread, unless the worker wants fewer.
        let most = self.settings.window.max(threads.min(MAX_THREADS) as usize);
        let window = if window == 0 { most } else { most.min(window as usize) };
        self.stats.lost.replace(name, &pool);
        self.stats.names.join(&pool, &name.into());
        let spare = match self.settings.rotation {
            Rotation::Strict => Spare::One,
            Rotation::Available => Spare::None,
        };
        let liveness = Liveness::new(self.settings.ping_interval, now);
        self.pings.insert((liveness.due(), number));
        let worker = Worker {
            identity: from.clone(),
            name: name.into(),
            pool: pool_key,
            operations,
            threads,
            instance,
            is_back: false,
            window: Window::new(threads as usize, window, self.settings.hold, spare),
            logged_window: window,
            leaving: false,
            unable: None,
            changes: TokenBucket::new(CHANGES, now),
            waits_to_be_able: false,
            alone: false,
            in_flight: SparseQueue::default(),
            read: 0,
            pinged_after: 0,
            unwanted_bytes: 0,
            late: 0,
            discarded: 0,
            liveness,
            registered: now,
            answered: 0,
            rate: Rate::default(),
            took: None,
            load: Load::default(),
            batch: Vec::new(),
            cancelled: Vec::new(),
        };
        let key = self.worker_info.get(from).and_then(|peer_info| peer_info.key.clone());
        let label = worker.label(number);
        self.worker_of.insert(from.clone(), number);
        self.workers.insert(number, worker);
        let workers = self.workers.len();
        self.log(Event::WorkerJoined { worker: label, pool, threads, window, seats, workers, back, key });
        let welcome = ToWorker::Welcome {
            version: VERSION,
            worker: number.0,
            ping_interval_ms: self.settings.ping_interval.as_millis().try_into().unwrap_or(u64::MAX),
            ping_max_out: self.settings.ping_max_out,
            max_message_bytes: self.settings.max_message_bytes as u64,
        };
        self.outputs.push_back(Output::ToWorker(from.clone(), welcome));
        if self.closing {
            self.outputs.push_back(Output::ToWorker(from.clone(), ToWorker::Closing));
        }
    }
}

pub(super) fn check_registration(
    version: u32,
    name: &str,
    pool: &str,
    operations: &[String],
    threads: u32,
) -> Result<(), String> {
    if version != VERSION {
        return Err(format!("this broker speaks version {VERSION} of the protocol, not {version}"));
    }
    if threads == 0 {
        return Err("threads: 0 compute nothing; 1 is the least".into());
    }
    name::check(name).map_err(|bad| bad.to_string())?;
    name::check(pool).map_err(|bad| format!("pool: {bad}"))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(format!("{} operations are named; {MAX_OPERATIONS} are the most", operations.len()));
    }
    let bytes: usize = operations.iter().map(String::len).sum();
    if bytes > MAX_OPERATIONS_BYTES {
        return Err(format!("the operations' names have {bytes} bytes; {MAX_OPERATIONS_BYTES} are the most"));
    }
    operations.iter().try_for_each(|operation| name::check(operation)).map_err(|bad| format!("operations: {bad}"))
}
