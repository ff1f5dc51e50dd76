//! Logs of the broker's own core, driven at random through everything that a log can tell of.

#![allow(clippy::disallowed_methods)] // an instant to begin with

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use giostra_core::broker::{Broker, Output};
use giostra_core::config::{Rights, Settings};
use giostra_core::policy::rotation::Rotation;
use giostra_protocol::Identity;
use giostra_protocol::{
    Bytes, Failure, FromClient, FromWorker, Outcome, Priority, Registration, RequestId, Ticket, ToClient, ToWorker,
    VERSION,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const POOLS: [&str; 2] = ["p", "q"];

/// A broker, its peers and the log so far.
struct Core {
    dice: StdRng,
    broker: Broker,
    now: Instant,
    log: Vec<String>,
    peers: u32,
    /// What each worker holds, by its identity.
    workers: BTreeMap<u32, Vec<Ticket>>,
    /// The clients' sessions and the ids they have used.
    clients: BTreeMap<u32, (u64, u64)>,
    /// Clients that the broker has said goodbye to.
    parting: Vec<u32>,
}

/// The lines of a life with this many events, ended by a broker that waited for all
/// replies.
pub fn log_of(seed: u64, rotation: Rotation, steps: u32) -> Vec<String> {
    let now = Instant::now();
    let settings = Settings {
        rotation,
        max_attempts: 2,
        ping_interval: Duration::from_secs(1 << 20),
        first_ticket: seed,
        await_return: Duration::from_secs(2),
        // In some lives the windows follow the work.
        hold: Duration::from_millis(200 * (seed / 2 % 2)),
        ..Settings::default()
    };
    let mut core = Core {
        dice: StdRng::seed_from_u64(seed),
        broker: Broker::new(settings, now),
        now,
        log: vec![format!("listening format=2 frontend=a backend=b rotation={rotation} max-attempts=2 log=l pid=1")],
        peers: 0,
        workers: BTreeMap::new(),
        clients: BTreeMap::new(),
        parting: Vec::new(),
    };
    (0..steps).for_each(|_| core.step());
    core.finish();
    core.log
}

fn identity(peer: u32) -> Identity {
    Identity(Bytes::copy_from_slice(&peer.to_be_bytes()))
}

fn peer(identity: &Identity) -> u32 {
    u32::from_be_bytes(identity.0[..].try_into().unwrap())
}

impl Core {
    fn step(&mut self) {
        match self.dice.random_range(0..100) {
            0..8 => {
                let pool = self.some_pool();
                self.join_worker(pool);
            }
            8..14 => self.lose_worker(),
            14..16 => self.worker_says_to_leave(),
            16 => self.worker_is_unable(),
            17..21 => self.join_client(),
            21..24 => self.lose_client(),
            24..50 => {
                if let Some(client) = self.some_client() {
                    self.submit(client);
                }
            }
            50..55 => self.cancel(),
            55..58 => self.time_passes(),
            58..60 => self.worker_is_able(),
            _ => self.reply(),
        }
    }

    /// Everyone is answered, then all leave, and whoever is missing by then is missed.
    fn finish(&mut self) {
        self.join_client();
        let newest = self.peers;
        POOLS.into_iter().for_each(|pool| self.join_worker(pool));
        (0..20).for_each(|_| self.submit(newest));
        while !self.workers.values().all(Vec::is_empty) {
            self.reply();
        }
        for worker in self.workers.clone().into_keys() {
            self.worker_says(worker, FromWorker::Leave);
        }
        self.broker.close();
        self.settle();
        // Some answer the goodbye, some go without a word, some are never heard of again.
        for client in std::mem::take(&mut self.parting) {
            match self.dice.random_range(0..3) {
                0 => self.client_says(client, FromClient::Goodbye),
                1 => self.client_says(client, FromClient::Disconnected),
                _ => {
                    self.broker.handle_unheard_client(&identity(client), &[]);
                    self.settle();
                }
            }
        }
        assert!(self.broker.has_finished());
        self.log.push(format!("stopped lines={}", self.log.len() + 1));
    }

    fn settle(&mut self) {
        while let Some(output) = self.broker.poll_output(self.now) {
            match output {
                Output::Log(event) => self.log.push(event.to_string()),
                Output::ToWorker(to, ToWorker::Dispatch { requests, .. }) => {
                    let held = self.workers.entry(peer(&to)).or_default();
                    held.extend(requests.into_iter().map(|(ticket, _)| ticket));
                }
                Output::ToWorker(to, ToWorker::Goodbye) => drop(self.workers.remove(&peer(&to))),
                Output::ToClient(to, ToClient::Goodbye) => self.parting.push(peer(&to)),
                Output::ToClient(to, ToClient::Welcome { session, .. }) => {
                    self.clients.insert(peer(&to), (session, 0));
                }
                _ => {}
            }
        }
    }

    fn worker_says(&mut self, worker: u32, message: FromWorker) {
        self.broker.handle_worker(&identity(worker), message, self.now);
        self.settle();
    }

    fn client_says(&mut self, client: u32, message: FromClient) {
        self.broker.handle_client(&identity(client), Rights::ALL, message, self.now);
        self.settle();
    }

    fn some_worker(&mut self) -> Option<u32> {
        let nth = self.dice.random_range(0..self.workers.len().max(1));
        self.workers.keys().nth(nth).copied()
    }

    fn some_client(&mut self) -> Option<u32> {
        let nth = self.dice.random_range(0..self.clients.len().max(1));
        self.clients.keys().nth(nth).copied()
    }

    fn some_pool(&mut self) -> &'static str {
        POOLS[usize::from(self.dice.random_bool(0.2))]
    }

    fn join_worker(&mut self, pool: &str) {
        // Some say which process they are, and some of those come back; now and then over a second
        // connection.
        let instance = self.dice.random_range(0..12);
        self.peers += 1;
        let worker = self.peers;
        self.workers.insert(worker, Vec::new());
        let (name, window) = (format!("worker-{}", worker % 5), self.dice.random_range(1..6));
        let register = Registration { name, pool: pool.into(), window, instance, ..Registration::default() };
        self.worker_says(worker, register.into());
    }

    fn lose_worker(&mut self) {
        let Some(worker) = self.some_worker() else { return };
        self.workers.remove(&worker);
        match self.dice.random_range(0..8) {
            0 => self.broker.handle_revoked_worker(&identity(worker), self.now),
            1 => self.broker.handle_malformed_worker(&identity(worker), "no message", self.now),
            _ => return self.worker_says(worker, FromWorker::Disconnected),
        }
        self.settle();
    }

    fn worker_says_to_leave(&mut self) {
        let Some(worker) = self.some_worker() else { return };
        self.worker_says(worker, FromWorker::Leave);
    }

    /// It hands back some of what it holds.
    fn worker_is_unable(&mut self) {
        let Some(worker) = self.some_worker() else { return };
        let held = self.workers.get_mut(&worker).expect("it is here");
        let tickets = held.split_off(self.dice.random_range(0..=held.len()));
        self.worker_says(worker, FromWorker::Unable { reason: "no program".into(), tickets });
    }

    fn worker_is_able(&mut self) {
        let Some(worker) = self.some_worker() else { return };
        self.worker_says(worker, FromWorker::Able);
    }

    fn reply(&mut self) {
        let Some(worker) = self.some_worker() else { return };
        let held = self.workers.get_mut(&worker).expect("it is here");
        let mut replies = Vec::new();
        for _ in 0..self.dice.random_range(1..4usize).min(held.len()) {
            let ticket = held.swap_remove(self.dice.random_range(0..held.len()));
            let outcome = match self.dice.random_bool(0.8) {
                true => Outcome::Ok(Bytes::new()),
                false => Outcome::Error(Failure::from("no".to_string())),
            };
            replies.push((ticket, outcome));
        }
        if self.dice.random_bool(0.05) {
            replies.push((Ticket(7), Outcome::Ok(Bytes::new())));
        }
        self.worker_says(worker, FromWorker::Replies(replies));
    }

    fn join_client(&mut self) {
        self.peers += 1;
        self.client_says(self.peers, FromClient::Hello { version: VERSION, name: "client".into() });
    }

    fn lose_client(&mut self) {
        let Some(client) = self.some_client() else { return };
        self.clients.remove(&client);
        self.client_says(client, FromClient::Disconnected);
    }

    fn submit(&mut self, client: u32) {
        let count = self.dice.random_range(1..12);
        let pool = self.some_pool();
        let timeout_ms = if self.dice.random_bool(0.2) { 1000 } else { 0 };
        let (session, used) = self.clients.get_mut(&client).expect("it is here");
        // Sometimes ids that were used already: those that have ended may be used again.
        let first = if self.dice.random_bool(0.1) { 1 } else { *used + 1 };
        *used = (*used).max(first + count - 1);
        let requests = (first..first + count).map(|id| (RequestId(id), Bytes::new())).collect();
        let priority = Priority::ALL[self.dice.random_range(0..3)];
        let (session, pool) = (*session, pool.into());
        let submit = FromClient::Submit { session, pool, timeout_ms, wait: true, priority, requests };
        self.client_says(client, submit);
    }

    fn cancel(&mut self) {
        let Some(client) = self.some_client() else { return };
        let used = self.clients[&client].1.max(1);
        let ids = (0..5).map(|_| RequestId(self.dice.random_range(1..=used))).collect();
        self.client_says(client, FromClient::Cancel(ids));
    }

    fn time_passes(&mut self) {
        self.now += Duration::from_millis(500);
        self.broker.handle_timeout(self.now);
        self.settle();
    }
}
