//! Registration: a worker joins a pool's ring.

use std::sync::Arc;
use std::time::Instant;

use giostra_protocol::sparse_queue::SparseQueue;
use giostra_protocol::{Identity, MAX_THREADS, Registration, ToWorker, VERSION, name};

use super::records::{Load, Worker};
use super::{Broker, Output, PoolKey};
use crate::config::Settings;
use crate::event::Event;
use crate::policy::liveness::Liveness;
use crate::policy::rotation::Rotation;
use crate::policy::window::{Spare, Window};
use crate::rate_limiter::TokenBucket;
use crate::stats::rates::Rate;

/// How often a worker may register over one connection at once: more often than faults cause it.
const REGISTRATIONS: u32 = 100;

/// How often a worker that was unable may become able again at once.
const CHANGES: u32 = 10;

/// The maximum number of operations of a worker, and of bytes in their names together. They are for
/// people, and the status lists them.
const MAX_OPERATIONS: usize = 256;
const MAX_OPERATIONS_BYTES: usize = 16 << 10;

impl Broker {
    /// Registers a worker.
    ///
    /// # Errors
    /// If it is refused, why.
    pub(super) fn register(&mut self, from: &Identity, registration: Registration, now: Instant) -> Result<(), String> {
        let new = || TokenBucket::new(REGISTRATIONS, now);
        if !self.registrations.entry(from.clone()).or_insert_with(new).take(now) {
            return Err("it registers too often over one connection: wait a second".into());
        }
        check(&registration)?;
        let (pool, max_pools) = (&registration.pool, self.settings.max_pools.saturating_mul(2));
        if self.pools.len() >= max_pools && !self.pool_of.contains_key(&**pool) {
            return Err(format!(
                "no room for a pool '{pool}': there are {max_pools} already, twice --max-pools of the broker"
            ));
        }
        let back = self.comes_back(registration.instance);
        let pool_key = self.pool(pool, None);
        let pool = Arc::clone(&self.pools[pool_key.0].name);
        self.stats.lost.remove(&registration.name, &pool);
        let worker = accept(registration, from, pool_key, &self.settings, now);
        self.stats.names.join((Arc::clone(&pool), worker.name.clone()));
        self.stats.hosts.join(worker.host.clone());
        let (threads, window, instance, due) =
            (worker.threads, worker.window.max(), worker.instance, worker.liveness.due());
        let number = self.workers.insert(from, worker);
        self.instances.join(instance, number);
        self.pings.insert((due, number));
        self.pools[pool_key.0].workers += 1;
        self.pools[pool_key.0].ring.join(number);
        let (seats, workers) = (self.pools[pool_key.0].ring.seats().len(), self.workers.len());
        let host = self.workers[&number].host.clone();
        let (worker, key) = (self.workers[&number].label(number), self.workers.key(from));
        self.log(Event::WorkerJoined { worker, pool, threads, window, seats, workers, host, back, key });
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
        Ok(())
    }
}

/// Returns the worker, to be seated.
fn accept(registration: Registration, from: &Identity, pool: PoolKey, settings: &Settings, now: Instant) -> Worker {
    let Registration { name, operations, threads, window, instance, host, .. } = registration;
    // One for each thread, unless the worker wants fewer.
    let max = settings.window.max(threads.min(MAX_THREADS) as usize);
    let window = if window == 0 { max } else { max.min(window as usize) };
    let spare = match settings.rotation {
        Rotation::Strict => Spare::One,
        Rotation::Available => Spare::None,
    };
    Worker {
        identity: from.clone(),
        name: (&*name).into(),
        host: (&*host).into(),
        pool,
        operations,
        threads,
        instance,
        is_back: false,
        window: Window::new(threads as usize, window, settings.hold, spare),
        logged_window: window,
        leaving: false,
        unable: None,
        changes: TokenBucket::new(CHANGES, now),
        waits_to_be_able: false,
        in_quarantine: false,
        in_flight: SparseQueue::default(),
        read: 0,
        pinged_after: 0,
        unwanted_bytes: 0,
        late: 0,
        discarded: 0,
        liveness: Liveness::new(settings.ping_interval, now),
        registered: now,
        answered: 0,
        rate: Rate::default(),
        took: None,
        load: Load::default(),
        batch: Vec::new(),
        priorities: Vec::new(),
        cancelled: Vec::new(),
    }
}

/// Checks what a worker says of itself.
fn check(registration: &Registration) -> Result<(), String> {
    let Registration { version, name, pool, operations, threads, host, .. } = registration;
    if *version != VERSION {
        return Err(format!("this broker speaks version {VERSION} of the protocol, not {version}"));
    }
    if *threads == 0 {
        return Err("threads: 0 compute nothing; 1 is the least".into());
    }
    name::check(name).map_err(|bad| bad.to_string())?;
    name::check(pool).map_err(|bad| format!("pool: {bad}"))?;
    name::check_host(host).map_err(|bad| format!("host: {bad}"))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(format!("{} operations are named; {MAX_OPERATIONS} are the most", operations.len()));
    }
    let bytes: usize = operations.iter().map(String::len).sum();
    if bytes > MAX_OPERATIONS_BYTES {
        return Err(format!("the operations' names have {bytes} bytes; {MAX_OPERATIONS_BYTES} are the most"));
    }
    operations.iter().try_for_each(|operation| name::check(operation)).map_err(|bad| format!("operations: {bad}"))
}
