//! Simulated workers that hold the conversation of the real ones: [`Session`] decides what is said to
//! each broker, and [`SharedQueue`] whose request is computed next. Sockets, threads and the clock are
//! virtual.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use giostra_protocol::{Bytes, FromWorker, Outcome, Progress, Ticket, ToWorker};
use giostra_worker::Options;
use giostra_worker::sans_io::{Action, Claim, Load, Reply, Session, SharedQueue, Unable};

use crate::network::{Fate, Peer, Socket, Up};
use crate::peers::{Process, Task};
use crate::plan::MS;
use crate::world::{Step, World};

/// Requests that a worker remembers having replied to, for the fault of replying again.
const REMEMBERED: usize = 8;

struct Computing {
    number: u64,
    claim: Claim,
    task: Task,
    wanted: bool,
}

/// A worker, with a link to each broker.
pub struct Worker {
    pub sockets: Vec<Socket>,
    pub state: Process,
    pub name: String,
    /// How much longer than others it computes.
    pub slowness: u64,
    /// Until when its silence has a reason.
    pub troubled_until: u64,
    /// When it last began to compute for each broker, and how often it did.
    pub served: Vec<(u64, u64)>,
    options: Options,
    session: Session,
    /// Which of its links have a registration.
    registered: Vec<bool>,
    /// Whether its operation can compute nothing for now, and whether it takes no requests for that.
    unable: bool,
    pausing: bool,
    /// Messages that arrived while it was frozen, with their links.
    unread: VecDeque<(usize, ToWorker)>,
    queue: SharedQueue,
    computing: Vec<Computing>,
    results: Vec<Reply>,
    flushing: bool,
    replied: VecDeque<Claim>,
    /// When the session is to be told the time.
    due: Option<u64>,
}

impl Worker {
    /// What it says first over a link.
    pub fn register(&self, link: usize) -> FromWorker {
        self.session.register(link).clone()
    }

    /// Whether it is there to stay.
    pub fn is_steady(&self) -> bool {
        let well = self.state == Process::Running && !self.unable && !self.pausing;
        well && !self.is_leaving() && self.registered.iter().all(|&registered| registered)
    }

    /// Whether it has said that it wants no more.
    pub fn is_leaving(&self) -> bool {
        self.session.is_leaving()
    }

    /// Whether it can compute nothing for now.
    pub fn is_unable(&self) -> bool {
        self.unable
    }

    /// Tickets of a broker that it computes or has replied to.
    pub fn tickets(&self, link: usize) -> Vec<Ticket> {
        let computing = self.computing.iter().map(|it| it.claim).filter(|claim| claim.link == link);
        computing.map(|claim| claim.ticket).chain(self.replied(link)).collect()
    }

    /// Tickets of a broker that it has replied to.
    pub fn replied(&self, link: usize) -> Vec<Ticket> {
        self.replied.iter().filter(|claim| claim.link == link).map(|claim| claim.ticket).collect()
    }

    /// What it has to do for one broker, or for all.
    fn load(&self, link: Option<usize>) -> Load {
        let of_link = |it: &&Computing| it.wanted && link.is_none_or(|link| it.claim.link == link);
        let computing = self.computing.iter().filter(of_link).count() as u32;
        let waiting = link.map_or(self.queue.len(), |link| self.queue.len_of(link)) as u32;
        Load { computing, waiting, oldest: Duration::ZERO }
    }

    /// A new process, which nobody knows.
    fn begins(&mut self, instance: u64, now: Instant) {
        let brokers: Vec<_> = (0..self.sockets.len()).map(|link| format!("tcp://broker-{link}:1")).collect();
        self.session = Session::new(&self.options, &brokers, &[], instance, now);
        self.registered.fill(false);
        self.queue = SharedQueue::default();
        self.unread.clear();
        self.computing.clear();
        self.results.clear();
        self.replied.clear();
        (self.unable, self.pausing, self.flushing, self.due) = (false, false, false, None);
    }
}

impl World<'_> {
    /// A worker more, in that pool; its process starts at once.
    pub fn add_worker(&mut self, pool: usize) {
        let number = self.workers.len();
        // Names may be the same: every fourth is called like its neighbour.
        let name = format!("worker-{}", number - usize::from(number % 4 == 3));
        let options = Options {
            name: name.clone(),
            host: String::new(),
            pool: format!("pool-{pool}"),
            threads: 1 + self.dice.index(4),
            window: self.dice.one_of(&[0, 0, 1, 3]),
            grace: Duration::from_millis(self.dice.one_of(&[1, 20, 30_000])),
            ..Options::default()
        };
        let brokers = self.brokers.len();
        self.workers.push(Worker {
            sockets: (0..brokers).map(|broker| Socket { broker, ..Socket::default() }).collect(),
            state: Process::Ended,
            name,
            slowness: 1,
            troubled_until: 0,
            served: vec![(0, 0); brokers],
            session: Session::new(&options, &[], &[], 1, self.instant()),
            options,
            registered: vec![false; brokers],
            unable: false,
            pausing: false,
            unread: VecDeque::new(),
            queue: SharedQueue::default(),
            computing: Vec::new(),
            results: Vec::new(),
            flushing: false,
            replied: VecDeque::new(),
            due: None,
        });
        self.start_worker(number);
    }

    /// Its process starts, if there is none.
    pub fn start_worker(&mut self, number: usize) {
        let (instance, now) = (self.dice.range(1, 1 << 53), self.instant());
        let worker = &mut self.workers[number];
        if worker.state != Process::Ended {
            return;
        }
        worker.state = Process::Running;
        worker.begins(instance, now);
        let process = worker.process();
        self.counts.count("worker-starts");
        for link in 0..self.brokers.len() {
            let after = self.dice.range(0, 2 * MS);
            self.after(after, Step::Connect(Peer::Worker(number, link), process));
        }
    }

    /// Its process ends, whatever it was doing, and is started again later.
    pub fn end_worker(&mut self, number: usize, fate: Fate, notice: Option<u64>) {
        let now = self.instant();
        let worker = &mut self.workers[number];
        if worker.state == Process::Ended {
            return;
        }
        worker.state = Process::Ended;
        worker.begins(1, now);
        for socket in &mut worker.sockets {
            socket.process += 1;
            socket.pipe.clear();
        }
        for conn in self.workers[number].conns().into_iter().flatten() {
            self.break_connection(conn, fate, notice);
        }
        let pause = if self.calm { self.dice.range(MS, 20 * MS) } else { self.dice.range(5 * MS, 400 * MS) };
        self.after(pause, Step::StartWorker(number));
    }

    /// Resumes, with the messages that have arrived meanwhile and the steps that were due.
    pub fn thaw_worker(&mut self, number: usize, process: u64) {
        let worker = &mut self.workers[number];
        if worker.state != Process::Frozen || worker.process() != process {
            return;
        }
        worker.state = Process::Running;
        self.flush_results(number, process);
        while let Some((link, message)) = self.workers[number].unread.pop_front() {
            self.worker_receives(number, link, message);
        }
        self.worker_is_due(number, process);
    }

    /// A message is there for its process.
    pub fn worker_receives(&mut self, number: usize, link: usize, message: ToWorker) {
        match self.workers[number].state {
            Process::Running => self.worker_hears(number, link, message),
            Process::Frozen => self.workers[number].unread.push_back((link, message)),
            Process::Ended => {}
        }
    }

    fn worker_hears(&mut self, number: usize, link: usize, message: ToWorker) {
        let now = self.instant();
        let worker = &mut self.workers[number];
        let (name, conn) = (&worker.name, worker.sockets[link].conn);
        self.trace.note(self.now, || format!("    {name} {conn:?} hears {message:?}"));
        let pings = match message {
            ToWorker::Ping { sequence } => Some(sequence),
            _ => None,
        };
        if let ToWorker::Welcome { .. } = message {
            worker.registered[link] = true;
        }
        worker.session.handle(link, message, now);
        if let Some(done) = pings {
            let of_link = worker.computing.iter().filter(|it| it.wanted && it.claim.link == link);
            let news = of_link.map(|it| (it.claim, Progress { done, total: 0 })).collect();
            worker.session.handle_replies(news, Vec::new(), now);
        }
        self.perform(number);
    }

    /// Does what its session wants done.
    fn perform(&mut self, number: usize) {
        while self.workers[number].state != Process::Ended
            && let Some(action) = self.workers[number].session.poll_action()
        {
            let now = self.instant();
            let worker = &mut self.workers[number];
            match action {
                Action::Send(link, message) => self.worker_says(number, link, message),
                Action::Pong { link, sequence } => {
                    let Load { computing, waiting, .. } = worker.load(Some(link));
                    self.worker_says(number, link, FromWorker::Pong { sequence, computing, waiting, oldest_ms: 0 });
                }
                Action::Assign(link, priority, requests) => {
                    worker.queue.add(link, priority, requests);
                    self.compute(number);
                }
                Action::Cancel(link, tickets) => {
                    let wanted = |claim: &Claim| claim.link != link || !tickets.contains(&claim.ticket);
                    let mut cancelled = Vec::new();
                    worker.queue.cancel(&mut cancelled, &wanted);
                    cancelled.into_iter().for_each(|reply| self.has_result(number, reply));
                }
                Action::Discard(link) => {
                    worker.registered[link] = false;
                    worker.queue.discard(link);
                    worker.results.retain(|(claim, _)| claim.link != link);
                    let computing = worker.computing.iter_mut();
                    computing.filter(|it| it.claim.link == link).for_each(|it| it.wanted = false);
                }
                Action::CheckAbility => {
                    let able = if worker.unable { Err("no program".into()) } else { Ok(()) };
                    worker.pausing = able.is_err();
                    worker.session.handle_ability(able, now);
                }
                Action::End | Action::Refused(_) => self.end_worker(number, Fate::Exits, Some(0)),
                Action::Lost(link) => worker.registered[link] = false,
                Action::Log(_, line) => {
                    let name = &worker.name;
                    self.trace.note(self.now, || format!("    {name}: {line}"));
                }
                Action::Answered(_) | Action::Broke(_) => {}
                Action::Ready(_) | Action::Status(_) | Action::Stopping(_) => {}
            }
        }
        self.note_due(number);
    }

    /// The session is told the time when it wants to be.
    fn note_due(&mut self, number: usize) {
        let now = self.instant();
        let worker = &mut self.workers[number];
        let Some(at) = worker.session.poll_timeout().filter(|_| worker.state == Process::Running) else { return };
        let at = self.now + at.saturating_duration_since(now).as_nanos().div_ceil(1000) as u64;
        if worker.due.is_none_or(|due| at < due || due <= self.now) {
            worker.due = Some(at);
            let process = worker.process();
            self.at(at, Step::WorkerDue(number, process));
        }
    }

    /// Something may be due.
    pub fn worker_is_due(&mut self, number: usize, process: u64) {
        let now = self.instant();
        let worker = &mut self.workers[number];
        if worker.state != Process::Running || worker.process() != process {
            return;
        }
        if worker.due.is_some_and(|due| due <= self.now) {
            worker.due = None;
        }
        if worker.session.poll_timeout().is_some_and(|due| due <= now) {
            let load = worker.load(None);
            worker.session.handle_timeout(load, now);
        }
        self.perform(number);
    }

    /// It says something over a link.
    pub fn worker_says(&mut self, number: usize, link: usize, message: FromWorker) {
        self.send_up(Peer::Worker(number, link), Up::Worker(message));
    }

    /// Its operation can compute nothing for a while, which it notices by one that it has just begun,
    /// if there is any.
    pub fn becomes_unable(&mut self, number: usize, time: u64) {
        let now = self.instant();
        let worker = &mut self.workers[number];
        worker.unable = true;
        worker.pausing = true;
        let mut claims: Vec<_> = worker.queue.take_all().collect();
        if self.dice.once_in(2)
            && let Some(begun) = worker.computing.pop_if(|begun| begun.wanted)
        {
            claims.push(begun.claim);
        }
        worker.session.handle_unable(Unable { reason: "no program".into(), claims }, now);
        let process = worker.process();
        self.after(time, Step::Able(number, process));
        self.perform(number);
    }

    /// Its operation can compute again. The session asks when its pause is over.
    pub fn becomes_able(&mut self, number: usize, process: u64) {
        let worker = &mut self.workers[number];
        if worker.process() == process {
            worker.unable = false;
        }
    }

    /// It is asked to end.
    pub fn leave(&mut self, number: usize) {
        let now = self.instant();
        let worker = &mut self.workers[number];
        let load = worker.load(None);
        worker.session.handle_shutdown(load, now);
        self.perform(number);
    }

    /// Starts waiting requests on its free threads.
    fn compute(&mut self, number: usize) {
        while self.workers[number].computing.len() < self.workers[number].options.threads
            && let Some((claim, body)) = self.next(number)
        {
            let time = self.dice.range(100, self.plan.computing) * self.workers[number].slowness;
            self.computations += 1;
            let computation = self.computations;
            let worker = &mut self.workers[number];
            worker.computing.push(Computing { number: computation, claim, task: Task::of(&body), wanted: true });
            worker.served[claim.link] = (self.now, worker.served[claim.link].1 + 1);
            self.after(time, Step::Computed(number, computation));
        }
    }

    fn next(&mut self, number: usize) -> Option<(Claim, Bytes)> {
        let (_, queue) = self.workers[number].queue.urgent()?;
        queue.pop_front()
    }

    /// A thread is done.
    pub fn computed(&mut self, number: usize, computation: u64) {
        let frozen = self.workers[number].state == Process::Frozen;
        let computing = &mut self.workers[number].computing;
        let Some(place) = computing.iter().position(|it| it.number == computation) else { return };
        if frozen {
            return self.after(MS, Step::Computed(number, computation));
        }
        let Computing { claim, task, wanted, .. } = computing.remove(place);
        let Some(outcome) = task.outcome() else {
            self.counts.count("worker-killed-by-poison");
            let notice = Some(self.dice.range(0, MS));
            return self.end_worker(number, Fate::Dies, notice);
        };
        if wanted {
            self.has_result(number, (claim, outcome));
        }
        self.compute(number);
    }

    /// It has something to send, and does so soon.
    fn has_result(&mut self, number: usize, (claim, outcome): (Claim, Outcome)) {
        let worker = &mut self.workers[number];
        worker.results.push((claim, outcome));
        if !worker.flushing {
            worker.flushing = true;
            let process = worker.process();
            let after = if self.dice.once_in(4) { self.dice.range(100, 3 * MS) } else { 0 };
            self.after(after, Step::Flush(number, process));
        }
    }

    /// It sends its results.
    pub fn flush_results(&mut self, number: usize, process: u64) {
        let now = self.instant();
        let worker = &mut self.workers[number];
        if worker.process() != process || worker.state != Process::Running {
            return;
        }
        worker.flushing = false;
        let results = std::mem::take(&mut worker.results);
        worker.replied.extend(results.iter().map(|&(claim, _)| claim));
        let forgotten = worker.replied.len().saturating_sub(REMEMBERED);
        worker.replied.drain(..forgotten);
        if !results.is_empty() {
            worker.session.handle_replies(Vec::new(), results, now);
            self.perform(number);
        }
    }
}
