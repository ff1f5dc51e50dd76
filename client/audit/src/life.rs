//! One life of a broker, held against its promises line by line.
//!
//! From the lines alone it keeps what the broker must have kept: who sits where, which worker holds
//! which request, what waits. Its memory is in proportion to what is open. A line that does not fit
//! is reported, and then believed as far as possible, so that one gap in the log does not make all
//! that follows look wrong.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::dealing::{Hand, Manner};
use super::evidence::Missing;
use super::findings::{Findings, Promise, Spot};
use super::line::{self, Event, Gone, Line, Start};
use super::parting::{self, Parting};
use super::report::Counts;
use super::requests::{Key, Request, State, written};
use super::ring::Ring;
use super::runs::Runs;

/// The most requests that may be open: each takes some hundred bytes of memory.
const MOST_OPEN: u64 = if cfg!(test) { 1 << 12 } else { 1 << 24 };

/// A client's connection, and its open requests.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub held: HashMap<u64, Request>,
    /// Whether it was ever sent a reply.
    pub answered: bool,
}

/// A registered worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub name: Rc<str>,
    /// The process, by the number of its first registration, and whether it has registered again
    /// since.
    pub process: u64,
    pub is_back: bool,
    pub pool: usize,
    /// The most that it may be handed at once, and that it ever may. Not known of one whose
    /// registration is not in the log.
    pub window: Option<u64>,
    widest: Option<u64>,
    pub leaving: bool,
    /// Whether it has said that it can compute nothing for now.
    pub unable: bool,
    /// By ticket: what somebody waits for.
    pub in_flight: BTreeMap<u64, Key>,
    /// Whether it holds a request that is to be with it alone.
    pub alone: bool,
    /// What nobody waits for any more, but is still computed; how often it is there.
    pub unwanted: HashMap<Key, u32>,
    pub unwanted_count: u64,
    /// Its results that were discarded.
    pub discarded: u64,
}

impl Worker {
    /// What fills its window.
    pub fn load(&self) -> u64 {
        self.in_flight.len() as u64 + self.unwanted_count
    }

    /// Whether it may not be handed one more; or one that is to be with it alone.
    pub fn is_full(&self, alone: bool) -> bool {
        let load = self.load();
        let alone = alone || self.alone;
        alone && load > 0 || self.window.is_some_and(|window| load >= window)
    }
}

/// The workers of a pool, and what lost ones gave back.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub ring: Ring,
    /// By the ticket of the first dispatch.
    pub returned: BTreeMap<u64, Key>,
}

/// One life of a broker.
#[derive(Debug)]
pub(super) struct Life {
    pub strict: bool,
    pub counts: Counts,
    pub findings: Findings,
    /// Whether nothing is left out, as it is with `--log-level info`: the broker says so, or there
    /// is a line of that kind.
    pub detailed: bool,
    pub clients: HashMap<u64, Client>,
    pub workers: HashMap<u64, Worker>,
    pub pools: Vec<Pool>,
    pub missing: Missing,
    pub parting: Parting,
    pool_of: HashMap<Box<str>, usize>,
    last_client: u64,
    last_worker: u64,
    pub last_ticket: u64,
    /// Lines of dispatch that were not looked at yet: those of one pass hold each other's tickets
    /// in between.
    pub hands: Vec<Hand>,
    /// Lost workers after which a request is given up: as the broker says, or else as with the
    /// first that was; and after how many one was dispatched again.
    pub given_up_after: Option<usize>,
    pub dispatched_after: usize,
    /// Lines so far.
    lines: u64,
    /// How many more clients and workers the log says there are than it shows, which has been
    /// reported.
    more_clients: i128,
    more_workers: i128,
    closing: bool,
    /// Said to be still in flight when the broker would not wait any longer.
    not_answered: u64,
    stopped: bool,
    /// As many may be accepted before it is looked how many are open.
    look_at: u64,
    /// Whether more are open than are kept.
    pub is_too_large: bool,
}

impl Life {
    pub fn new(start: &Start<'_>) -> Self {
        Self {
            strict: start.strict,
            counts: Counts { lives: 1, ..Counts::default() },
            findings: Findings::default(),
            detailed: start.detailed,
            clients: HashMap::default(),
            workers: HashMap::default(),
            pools: Vec::new(),
            missing: Missing::default(),
            parting: Parting::default(),
            pool_of: HashMap::default(),
            last_client: 0,
            last_worker: 0,
            last_ticket: 0,
            hands: Vec::new(),
            given_up_after: start.max_attempts.and_then(|most| usize::try_from(most).ok()),
            dispatched_after: 0,
            lines: 1,
            more_clients: 0,
            more_workers: 0,
            closing: false,
            not_answered: 0,
            stopped: false,
            look_at: MOST_OPEN,
            is_too_large: false,
        }
    }

    /// Looks at a line that is not [`Event::Listening`].
    pub fn sees(&mut self, line: &Line<'_>, spot: &mut Spot<'_>) {
        self.lines += 1;
        self.detailed |= matches!(line.level, "DEBUG" | "TRACE");
        match line.event {
            Event::NoBearing | Event::Unknown { .. } => return,
            Event::Dispatch { worker, again, suspect, tickets, requests } => {
                self.checks_not_stopped(spot);
                return self.dispatched(worker, Manner { again, suspect }, &tickets, &requests, spot);
            }
            _ => self.deal(false),
        }
        self.checks_not_stopped(spot);
        match line.event {
            Event::ClientJoined { client, clients, .. } => {
                self.client_joined(client, spot);
                self.compares_clients(clients, spot);
            }
            Event::ClientLeft { client, cancelled, unwanted, clients, reason } => {
                let known = self.clients.get(&client);
                let answered = known.is_some_and(|client| client.answered);
                if known.is_some() && reason == parting::CLOSES {
                    self.parts(client, answered, spot);
                }
                self.client_left(client, cancelled, unwanted, spot);
                self.compares_clients(clients, spot);
            }
            Event::Joined { worker, pool, window, seats, workers, back, .. } => {
                self.joined(worker, pool, (window, seats), back, spot);
                self.compares_workers(workers, spot);
            }
            Event::Window { worker, size } => self.window(worker, size, spot),
            Event::Leaving { worker, in_flight } => self.leaving(worker, in_flight, spot),
            Event::Unable { worker, returned, requests, .. } => self.unable(worker, returned, &requests, spot),
            Event::Able { worker, seats } => self.able(worker, seats, spot),
            Event::Left { worker, gone } => {
                self.left(worker, gone, spot);
                self.compares_workers(gone.workers, spot);
            }
            Event::Dropped { worker, returned, requests, gone, held, reason } => {
                self.dropped(worker, (returned, &requests), gone, (held, reason), spot);
                self.compares_workers(gone.workers, spot);
            }
            Event::Accept { requests, pool } => self.accepted(&requests, pool, spot),
            Event::Reply { worker, errors, requests } => self.replied(worker, errors, &requests, spot),
            Event::Discard { worker, late, requests } => self.discarded(worker, late, &requests, spot),
            Event::Expire { requests } => {
                self.counts.expired += requests.count();
                self.answers(&requests);
                self.ended(&requests, "expires", spot);
            }
            Event::Cancel { requests } => {
                self.counts.cancelled += requests.count();
                self.ended(&requests, "is cancelled", spot);
            }
            Event::Poison { request, workers } => self.poisoned(&request, workers, spot),
            Event::Closing { in_flight } => {
                self.closing = true;
                self.compares_in_flight(in_flight, spot);
            }
            Event::NotAnswered { in_flight } => {
                self.compares_in_flight(in_flight, spot);
                self.not_answered = in_flight;
            }
            Event::Goodbye { client } => self.goodbye(client, spot),
            Event::Unheard { client, unsent, requests, .. } => self.unheard(client, unsent, &requests, spot),
            Event::Stopped { lines } => {
                self.compares_in_flight(self.not_answered, spot);
                self.has_heard_of_all(spot);
                self.compares_lines(lines, spot);
                self.stopped = true;
            }
            Event::Listening(_)
            | Event::LogGap { .. }
            | Event::Dispatch { .. }
            | Event::NoBearing
            | Event::Unknown { .. } => {}
        }
    }

    /// These requests' clients are sent something.
    pub fn answers(&mut self, requests: &Runs<'_>) {
        for run in requests.runs() {
            if let Some(client) = self.clients.get_mut(&run.client) {
                client.answered = true;
            }
        }
    }

    /// More have been accepted.
    pub fn looks_at_its_size(&mut self) {
        if self.counts.accepted < self.look_at {
            return;
        }
        let open = self.open();
        self.is_too_large = open >= MOST_OPEN;
        self.look_at = self.counts.accepted + MOST_OPEN.saturating_sub(open);
    }

    fn open(&self) -> u64 {
        self.clients.values().map(|client| client.held.len() as u64).sum()
    }

    /// There are no more lines.
    pub fn ends(&mut self) {
        // Of a broker that was killed while it wrote, the last pass may be there in part. None of it was
        // sent.
        self.deal(!self.stopped);
        self.counts.open += self.open();
    }

    /// The pool of that name.
    pub fn pool(&mut self, name: &str) -> usize {
        if let Some(&pool) = self.pool_of.get(name) {
            return pool;
        }
        self.pools.push(Pool::default());
        self.pool_of.insert(name.into(), self.pools.len() - 1);
        self.pools.len() - 1
    }

    /// Whether the worker is registered, under that name; if not, why that can't be.
    pub fn knows(&mut self, named: line::Worker<'_>, spot: &mut Spot<'_>) -> bool {
        let line::Worker { name, number } = named;
        let Some(worker) = self.workers.get(&number) else {
            let why = if number <= self.last_worker { "has left or was dropped" } else { "never joined" };
            self.findings.add(spot, Promise::Rotation, || format!("w{number} {why}"));
            return false;
        };
        if *worker.name != *name {
            let known = &worker.name;
            self.findings.add(spot, Promise::Rotation, || format!("w{number} is not {name}: it joined as {known}"));
        }
        true
    }

    /// Registers a worker whose registration is not in the log, on the seat that has the turn.
    pub fn adopt(&mut self, named: line::Worker<'_>, pool: usize) {
        self.pools[pool].ring.adopt(named.number);
        self.last_worker = self.last_worker.max(named.number);
        self.workers.insert(named.number, new_worker(named, named.number, pool, None));
    }

    fn client_joined(&mut self, client: u64, spot: &mut Spot<'_>) {
        let last = std::mem::replace(&mut self.last_client, client);
        if client != last + 1 {
            self.findings
                .add(spot, Promise::Evidence, || format!("c{client} joins, where c{} was to be next", last + 1));
        }
        self.counts.clients_joined += 1;
        self.clients.insert(client, Client::default());
    }

    fn client_left(&mut self, number: u64, cancelled: u64, unwanted: u64, spot: &mut Spot<'_>) {
        self.counts.clients_left += 1;
        self.counts.cancelled += cancelled + unwanted;
        let Some(client) = self.clients.remove(&number) else {
            return self.findings.add(spot, Promise::Leaving, || format!("c{number} leaves, but is not there"));
        };
        let mut in_flight = 0;
        let held = client.held.len() as u64;
        for (id, request) in client.held {
            in_flight += u64::from(matches!(request.state, State::InFlight { .. }));
            self.let_go((number, id), &request);
        }
        let pending = held - in_flight;
        if (pending, in_flight) != (cancelled, unwanted) {
            self.findings.add(spot, Promise::Leaving, || {
                format!("c{number} leaves with {pending} requests pending and {in_flight} in flight, not {cancelled} and {unwanted}")
            });
        }
    }

    fn joined(
        &mut self,
        named: line::Worker<'_>,
        pool: &str,
        (window, seats): (u64, u64),
        back: Option<u64>,
        spot: &mut Spot<'_>,
    ) {
        let number = named.number;
        if number != self.last_worker + 1 {
            let expected = self.last_worker + 1;
            self.findings.add(spot, Promise::Rotation, || format!("w{number} joins, where w{expected} was to be next"));
        }
        self.counts.workers_joined += 1;
        self.last_worker = self.last_worker.max(number);
        let pool = self.pool(pool);
        let process = self.process_of(number, back, spot);
        self.workers.insert(number, new_worker(named, process, pool, Some(window)));
        let ring = &mut self.pools[pool].ring;
        ring.join(number);
        let known = ring.len();
        if known as u64 != seats {
            self.findings.add(spot, Promise::Rotation, || format!("the ring has {known} seats, not {seats}"));
        }
    }

    fn window(&mut self, named: line::Worker<'_>, size: u64, spot: &mut Spot<'_>) {
        if !self.knows(named, spot) {
            return;
        }
        let worker = self.workers.get_mut(&named.number).expect("it is known");
        worker.window = Some(size);
        if let Some(widest) = worker.widest.filter(|&widest| size > widest) {
            let number = named.number;
            self.findings.add(spot, Promise::Rotation, || {
                format!("w{number} has a window of {size}, where {widest} is the most that it may be handed")
            });
        }
    }

    fn leaving(&mut self, named: line::Worker<'_>, in_flight: u64, spot: &mut Spot<'_>) {
        if !self.knows(named, spot) {
            return;
        }
        let number = named.number;
        let worker = self.workers.get_mut(&number).expect("it is known");
        let (pool, load) = (worker.pool, worker.load());
        if std::mem::replace(&mut worker.leaving, true) {
            self.findings.add(spot, Promise::Rotation, || format!("w{number} gives up its seat twice"));
        }
        self.pools[pool].ring.leave(number);
        if load != in_flight {
            self.findings
                .add(spot, Promise::Requests, || format!("w{number} has {load} requests to finish, not {in_flight}"));
        }
    }

    fn able(&mut self, named: line::Worker<'_>, seats: u64, spot: &mut Spot<'_>) {
        if !self.knows(named, spot) {
            return;
        }
        let number = named.number;
        let worker = self.workers.get_mut(&number).expect("it is known");
        let ring = &mut self.pools[worker.pool].ring;
        if !std::mem::replace(&mut worker.unable, false) || worker.leaving {
            self.findings
                .add(spot, Promise::Rotation, || format!("w{number} takes a seat, but it had not lost its own"));
            ring.leave(number);
        }
        ring.join(number);
        let known = ring.len();
        if known as u64 != seats {
            self.findings.add(spot, Promise::Rotation, || format!("the ring has {known} seats, not {seats}"));
        }
    }

    fn left(&mut self, named: line::Worker<'_>, gone: Gone, spot: &mut Spot<'_>) {
        if !self.knows(named, spot) {
            return;
        }
        let number = named.number;
        let worker = self.remove_worker(number);
        self.counts.workers_left += 1;
        if !worker.leaving {
            self.findings
                .add(spot, Promise::Rotation, || format!("w{number} leaves without giving up its seat before"));
        }
        if let Some(key) = worker.in_flight.values().next().or(worker.unwanted.keys().next()) {
            self.findings.add(spot, Promise::Requests, || {
                format!("w{number} leaves and owes {} requests, such as {}", worker.load(), written(*key))
            });
        }
        for &key in worker.in_flight.values() {
            self.set_adrift(key);
        }
        self.compares_discarded(number, &worker, gone, spot);
    }

    /// Takes the worker out of everything but its requests. It must be registered.
    pub fn remove_worker(&mut self, number: u64) -> Worker {
        let worker = self.workers.remove(&number).expect("it is known");
        self.pools[worker.pool].ring.leave(number);
        worker
    }

    fn compares_in_flight(&mut self, in_flight: u64, spot: &mut Spot<'_>) {
        let known: u64 = self.workers.values().map(Worker::load).sum();
        if known != in_flight {
            self.findings.add(spot, Promise::Requests, || format!("{known} requests are in flight, not {in_flight}"));
        }
    }

    fn compares_clients(&mut self, clients: u64, spot: &mut Spot<'_>) {
        let known = self.clients.len() as i128 + self.more_clients;
        if known != i128::from(clients) {
            self.more_clients += i128::from(clients) - known;
            self.findings.add(spot, Promise::Leaving, || format!("there are {known} clients, not {clients}"));
        }
    }

    fn compares_workers(&mut self, workers: u64, spot: &mut Spot<'_>) {
        let known = self.workers.len() as i128 + self.more_workers;
        if known != i128::from(workers) {
            self.more_workers += i128::from(workers) - known;
            self.findings.add(spot, Promise::Rotation, || format!("there are {known} workers, not {workers}"));
        }
    }

    /// A worker has gone: what was discarded of its results is what the lines say.
    pub fn compares_discarded(&mut self, number: u64, worker: &Worker, gone: Gone, spot: &mut Spot<'_>) {
        let (unwanted, discarded) = (worker.unwanted_count, worker.discarded);
        if (unwanted, discarded) != (gone.unwanted, gone.discarded) {
            self.findings.add(spot, Promise::Requests, || {
                format!(
                    "{discarded} results of w{number} were discarded, and {unwanted} that nobody waits for were to come, not \
                     {} and {}",
                    gone.discarded, gone.unwanted
                )
            });
        }
    }

    fn compares_lines(&mut self, lines: u64, spot: &mut Spot<'_>) {
        let known = self.lines;
        if known != lines {
            self.findings
                .add(spot, Promise::Evidence, || format!("the broker wrote {lines} lines, and {known} are here"));
        }
        if !self.closing {
            self.findings.add(spot, Promise::Evidence, || "the broker stops without `closing`".into());
        }
    }

    fn checks_not_stopped(&mut self, spot: &mut Spot<'_>) {
        if self.stopped {
            self.findings.add(spot, Promise::Evidence, || "the broker had stopped before".into());
        }
    }
}

fn new_worker(named: line::Worker<'_>, process: u64, pool: usize, window: Option<u64>) -> Worker {
    Worker {
        name: named.name.into(),
        process,
        is_back: false,
        pool,
        window,
        widest: window,
        leaving: false,
        unable: false,
        alone: false,
        in_flight: BTreeMap::new(),
        unwanted: HashMap::default(),
        unwanted_count: 0,
        discarded: 0,
    }
}
