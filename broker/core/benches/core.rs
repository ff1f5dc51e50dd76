//! The cost of a request in the core alone, through `handle_*` and `poll_output`: no sockets, no
//! encoding, no log.
//!
//! `cargo bench -p giostra-core --bench core [-- NAME]` prints nanoseconds per request, from its
//! `Submit` to its reply. That shows the cost of a change without the noise of sockets. The time to
//! make the messages is included; it is the same for all.

#![allow(clippy::disallowed_methods)] // measures time

use std::collections::VecDeque;
use std::time::Instant;

use giostra_core::broker::{Broker, Output};
use giostra_core::config::{Rights, Settings};
use giostra_protocol::Identity;
use giostra_protocol::{
    Bytes, FromClient, FromWorker, Outcome, Registration, RequestId, Ticket, ToClient, ToWorker, VERSION,
};

/// Requests or replies in one message.
const BATCH: usize = 64;

/// Replies that arrive in one turn of the broker's loop.
const REPLIES_A_TURN: usize = 3 * BATCH;

/// Bytes of a body.
const BODY: usize = 24;

/// Requests per run, and runs per load.
const REQUESTS: u64 = 1_000_000;
const RUNS: usize = 7;

/// Loads: a name, the number of workers, and the number of unanswered requests.
const LOADS: [(&str, usize, usize); 3] = [
    ("3 workers, W=4096", 3, 4096),
    ("1,000 workers, W=4096", 1000, 4096),
    ("3 workers, a million pending", 3, 1_000_000 + 3 * 1024),
];

fn main() {
    // Cargo passes --bench.
    let wanted: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    println!("{REQUESTS} requests, {BATCH} a message, bodies of {BODY} bytes, {RUNS} runs: median (least..most)");
    for (name, workers, window) in LOADS {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(&**part)) {
            continue;
        }
        let mut world = World::new(workers);
        world.submit(window);
        // A first round, after which all tables have their size.
        world.serve(window as u64);
        let mut runs: Vec<_> = (0..RUNS).map(|_| world.time(REQUESTS)).collect();
        runs.sort_by(f64::total_cmp);
        let [median, least, most] = [runs[RUNS / 2], runs[0], runs[RUNS - 1]];
        println!("{name:<30} {median:>6.0} ns a request ({least:.0}..{most:.0}), {:.2} M/s", 1e3 / median);
    }
}

/// A core, its client, and its workers.
struct World {
    core: Broker,
    now: Instant,
    client: Identity,
    session: u64,
    last_id: u64,
    workers: Vec<Identity>,
    /// The requests that each worker holds.
    held: Vec<VecDeque<(Ticket, Bytes)>>,
    /// The worker that replies next.
    turn: usize,
    /// Replies to the client in the current turn.
    answered: usize,
}

impl World {
    /// Creates a core with a client and registered workers.
    fn new(workers: usize) -> Self {
        let now = Instant::now();
        let settings = Settings { max_pending: 4_000_000, ..Settings::default() };
        let peer = |number: usize| Identity(Bytes::copy_from_slice(&(number as u32).to_be_bytes()));
        let mut world = Self {
            core: Broker::new(settings, now),
            now,
            client: peer(usize::from(u16::MAX)),
            session: 0,
            last_id: 0,
            workers: (0..workers).map(peer).collect(),
            held: vec![VecDeque::new(); workers],
            turn: 0,
            answered: 0,
        };
        for (number, worker) in world.workers.iter().enumerate() {
            let register =
                Registration { name: format!("worker-{number}"), pool: "p".into(), ..Registration::default() };
            world.core.handle_worker(worker, register.into(), now);
        }
        world.core.handle_client(
            &world.client,
            Rights::ALL,
            FromClient::Hello { version: VERSION, name: "client".into() },
            now,
        );
        world.settle();
        world
    }

    /// Returns the nanoseconds per request, over at least this many.
    fn time(&mut self, requests: u64) -> f64 {
        let began = Instant::now();
        let served = self.serve(requests);
        began.elapsed().as_nanos() as f64 / served as f64
    }

    /// Takes turns of the loop until this many requests were answered, each replaced by another.
    /// Returns the number that were answered.
    fn serve(&mut self, requests: u64) -> u64 {
        let mut served = 0;
        while served < requests {
            self.reply();
            self.settle();
            let answered = std::mem::take(&mut self.answered);
            served += answered as u64;
            self.submit(answered);
        }
        served
    }

    /// Submits requests. Their bodies are slices of messages, as in the broker.
    fn submit(&mut self, mut count: usize) {
        while count > 0 {
            let batch = count.min(BATCH);
            let message = Bytes::from(vec![7; batch * BODY]);
            let requests = (0..batch).map(|place| {
                self.last_id += 1;
                (RequestId(self.last_id), message.slice(place * BODY..(place + 1) * BODY))
            });
            let requests = requests.collect();
            let submit = FromClient::Submit {
                session: self.session,
                pool: "p".into(),
                timeout_ms: 0,
                priority: Default::default(),
                wait: true,
                requests,
            };
            self.core.handle_client(&self.client, Rights::ALL, submit, self.now);
            count -= batch;
        }
    }

    /// Lets workers reply in turn, each at most a batch, until there are enough replies for one
    /// turn.
    fn reply(&mut self) {
        let (mut replies, mut idle) = (0, 0);
        while replies < REPLIES_A_TURN && idle < self.workers.len() {
            let held = &mut self.held[self.turn];
            let batch = held.len().min(BATCH);
            if batch > 0 {
                let results = held.drain(..batch).map(|(ticket, body)| (ticket, Outcome::Ok(body))).collect();
                self.core.handle_worker(&self.workers[self.turn], FromWorker::Replies(results), self.now);
            }
            replies += batch;
            idle = if batch > 0 { 0 } else { idle + 1 };
            self.turn = (self.turn + 1) % self.workers.len();
        }
    }

    /// Delivers the core's outputs.
    fn settle(&mut self) {
        self.core.handle_timeout(self.now);
        while let Some(output) = self.core.poll_output(self.now) {
            match output {
                Output::ToWorker(to, ToWorker::Dispatch { requests, .. }) => {
                    let number = u32::from_be_bytes(to.0[..].try_into().expect("it is one of ours"));
                    self.held[number as usize].extend(requests);
                }
                Output::ToClient(_, ToClient::Replies(replies)) => self.answered += replies.len(),
                Output::ToClient(_, ToClient::Welcome { session, .. }) => self.session = session,
                Output::ToClient(..)
                | Output::ToWorker(..)
                | Output::Status(..)
                | Output::Close(_)
                | Output::Store(_)
                | Output::Log(_) => {}
            }
        }
    }
}
