//! Simulated workers: the conversation of `giostra-worker`, a crew that computes in virtual time,
//! and its misfortunes.
//!
//! What a request is about stands in its body, and its result follows from it: see [`crate::peers`].

use std::collections::VecDeque;

use giostra_protocol::{Bytes, FromWorker, Outcome, Progress, Registration, Ticket, ToWorker};

use crate::network::{Fate, Peer, Socket, Up};
use crate::peers::{Process, Task};
use crate::plan::MS;
use crate::world::{Step, World};

/// Tickets that a worker remembers having replied to, for the fault of replying again.
const REMEMBERED: usize = 8;

struct Computing {
    number: u64,
    ticket: Ticket,
    task: Task,
    wanted: bool,
}

/// A worker.
pub struct Worker {
    /// The only one, since this worker knows one broker.
    pub sockets: Vec<Socket>,
    pub state: Process,
    pub name: String,
    pool: String,
    registered: bool,
    /// How much longer than others it computes.
    pub slowness: u64,
    /// Until when its silence has a reason.
    pub troubled_until: u64,
    /// Whether it has said that it wants no more.
    leaving: bool,
    /// Whether it can compute nothing for now.
    unable: bool,
    was_unable: bool,
    threads: usize,
    window: u32,
    /// Its process's number; some don't say it.
    instance: u64,
    /// Messages that arrived while it was frozen.
    unread: VecDeque<ToWorker>,
    waiting: VecDeque<(Ticket, Bytes)>,
    computing: Vec<Computing>,
    results: Vec<(Ticket, Outcome)>,
    flushing: bool,
    replied: VecDeque<Ticket>,
}

impl Worker {
    /// What it says first.
    pub fn register(&self, _: usize) -> FromWorker {
        Registration {
            name: self.name.clone(),
            pool: self.pool.clone(),
            threads: self.threads as u32,
            window: self.window,
            instance: self.instance,
            ..Registration::default()
        }
        .into()
    }

    /// Whether it is there to stay.
    pub fn is_steady(&self) -> bool {
        self.state == Process::Running && self.registered && !self.leaving && !self.unable
    }

    /// Whether it has said that it wants no more.
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Whether it can compute nothing for now.
    pub fn is_unable(&self) -> bool {
        self.unable
    }

    /// Tickets that it holds or has replied to.
    pub fn tickets(&self, _: usize) -> Vec<Ticket> {
        let waiting = self.waiting.iter().map(|&(ticket, _)| ticket);
        waiting.chain(self.computing.iter().map(|it| it.ticket)).chain(self.replied.iter().copied()).collect()
    }

    /// Tickets that it has replied to.
    pub fn replied(&self, _: usize) -> Vec<Ticket> {
        self.replied.iter().copied().collect()
    }

    fn pong(&self, sequence: u64) -> FromWorker {
        let (computing, waiting) = (self.computing.len() as u32, self.waiting.len() as u32);
        FromWorker::Pong { sequence, computing, waiting, oldest_ms: 0 }
    }
}

impl World<'_> {
    /// A worker more, in that pool; its process starts at once.
    pub fn add_worker(&mut self, pool: usize) {
        let number = self.workers.len();
        // Names may be the same: every fourth is called like its neighbour.
        let name = format!("worker-{}", number - usize::from(number % 4 == 3));
        self.workers.push(Worker {
            sockets: vec![Socket::default()],
            state: Process::Ended,
            name,
            pool: format!("pool-{pool}"),
            registered: false,
            slowness: 1,
            troubled_until: 0,
            threads: 1 + self.dice.index(3),
            window: self.dice.one_of(&[0, 0, 1, 3]),
            instance: 0,
            leaving: false,
            unable: false,
            was_unable: false,
            unread: VecDeque::new(),
            waiting: VecDeque::new(),
            computing: Vec::new(),
            results: Vec::new(),
            flushing: false,
            replied: VecDeque::new(),
        });
        self.start_worker(number);
    }

    /// Its process starts, if there is none.
    pub fn start_worker(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        if worker.state != Process::Ended {
            return;
        }
        worker.state = Process::Running;
        worker.instance = if self.dice.once_in(10) && !self.plan.orderly { 0 } else { self.dice.range(1, 1 << 53) };
        let process = worker.process();
        self.counts.count("worker-starts");
        let after = self.dice.range(0, 2 * MS);
        self.after(after, Step::Connect(Peer::Worker(number, 0), process));
    }

    /// Its process ends, whatever it was doing, and is started again later.
    pub fn end_worker(&mut self, number: usize, fate: Fate, notice: Option<u64>) {
        let worker = &mut self.workers[number];
        if worker.state == Process::Ended {
            return;
        }
        worker.state = Process::Ended;
        worker.sockets[0].process += 1;
        worker.sockets[0].pipe.clear();
        worker.unread.clear();
        worker.waiting.clear();
        worker.computing.clear();
        worker.results.clear();
        worker.replied.clear();
        (worker.registered, worker.leaving, worker.flushing, worker.unable) = (false, false, false, false);
        if let Some(conn) = self.workers[number].sockets[0].conn {
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
        while let Some(message) = self.workers[number].unread.pop_front() {
            self.worker_receives(number, 0, message);
        }
    }

    /// A message is there for its process.
    pub fn worker_receives(&mut self, number: usize, _: usize, message: ToWorker) {
        match self.workers[number].state {
            Process::Running => self.worker_hears(number, message),
            Process::Frozen => self.workers[number].unread.push_back(message),
            Process::Ended => {}
        }
    }

    fn worker_hears(&mut self, number: usize, message: ToWorker) {
        let (name, conn) = (&self.workers[number].name, self.workers[number].sockets[0].conn);
        self.trace.note(self.now, || format!("    {name} {conn:?} hears {message:?}"));
        match message {
            ToWorker::Welcome { .. } => {
                self.workers[number].registered = true;
                let worker = &mut self.workers[number];
                // What it said over an earlier connection may have come after it registered.
                if worker.unable {
                    self.hand_back(number, Vec::new());
                } else if std::mem::take(&mut worker.was_unable) {
                    self.worker_says(number, 0, FromWorker::Able);
                }
            }
            ToWorker::Dispatch { requests, .. } if self.workers[number].unable => {
                self.hand_back(number, requests.into_iter().map(|(ticket, _)| ticket).collect());
            }
            ToWorker::Dispatch { requests, .. } => {
                self.workers[number].waiting.extend(requests);
                self.compute(number);
            }
            ToWorker::Cancel(tickets) => {
                let worker = &mut self.workers[number];
                let wanted = |(ticket, _): &(Ticket, Bytes)| !tickets.contains(ticket);
                let cancelled: Vec<_> = worker.waiting.iter().filter(|it| !wanted(it)).map(|&(it, _)| it).collect();
                worker.waiting.retain(wanted);
                cancelled.into_iter().for_each(|it| self.has_result(number, it, Outcome::Error("cancelled".into())));
            }
            ToWorker::Ping { sequence } => {
                self.worker_says(number, 0, self.workers[number].pong(sequence));
                let of = self.workers[number].computing.iter().filter(|it| it.wanted);
                let news: Vec<_> = of.map(|it| (it.ticket, Progress { done: sequence, total: 0 })).collect();
                if !news.is_empty() {
                    self.worker_says(number, 0, FromWorker::Progress(news));
                }
            }
            ToWorker::RegisterAgain => self.start_over(number, true),
            ToWorker::Hiccup => self.start_over(number, false),
            ToWorker::Goodbye => self.end_worker(number, Fate::Exits, Some(0)),
            // It has said something unreadable twice.
            ToWorker::Refused { .. } if !self.workers[number].registered => {
                self.end_worker(number, Fate::Exits, Some(0));
            }
            ToWorker::Refused { .. } | ToWorker::Closing => {}
        }
    }

    /// It says something.
    pub fn worker_says(&mut self, number: usize, link: usize, message: FromWorker) {
        self.send_up(Peer::Worker(number, link), Up::Worker(message));
    }

    /// It can compute nothing for a while: what it has not begun goes back, and sometimes what it
    /// has just begun.
    pub fn becomes_unable(&mut self, number: usize, time: u64) {
        let worker = &mut self.workers[number];
        (worker.unable, worker.was_unable) = (true, true);
        let mut tickets: Vec<_> = worker.waiting.drain(..).map(|(ticket, _)| ticket).collect();
        if self.dice.once_in(2)
            && let Some(begun) = worker.computing.pop_if(|begun| begun.wanted)
        {
            tickets.push(begun.ticket);
        }
        let process = worker.process();
        if worker.registered {
            self.hand_back(number, tickets);
        }
        self.after(time, Step::Able(number, process));
    }

    fn hand_back(&mut self, number: usize, tickets: Vec<Ticket>) {
        self.worker_says(number, 0, FromWorker::Unable { reason: "no program".into(), tickets });
    }

    /// It can compute again.
    pub fn becomes_able(&mut self, number: usize, process: u64) {
        let worker = &mut self.workers[number];
        if worker.process() != process || !worker.unable {
            return;
        }
        if worker.state == Process::Frozen {
            return self.after(MS, Step::Able(number, process));
        }
        worker.unable = false;
        if worker.registered && !worker.leaving {
            self.worker_says(number, 0, FromWorker::Able);
        }
    }

    /// It wants no more requests.
    pub fn leave(&mut self, number: usize) {
        if !self.workers[number].registered {
            // It may have been registered meanwhile.
            if self.workers[number].sockets[0].conn.is_some() {
                self.worker_says(number, 0, FromWorker::Leave);
            }
            return self.end_worker(number, Fate::Exits, Some(0));
        }
        self.workers[number].leaving = true;
        self.worker_says(number, 0, FromWorker::Leave);
        // What it has may take longer than it is given to finish that.
        if self.dice.once_in(2) {
            let grace = self.dice.range(0, 20) * MS;
            self.after(grace, Step::WorkerDue(number, self.workers[number].process()));
        }
    }

    /// A worker that leaves has waited long enough.
    pub fn worker_is_due(&mut self, number: usize, process: u64) {
        if self.workers[number].state == Process::Running && self.workers[number].process() == process {
            self.counts.count("worker-grace-ends");
            self.end_worker(number, Fate::Exits, Some(0));
        }
    }

    fn start_over(&mut self, number: usize, register: bool) {
        let worker = &mut self.workers[number];
        worker.waiting.clear();
        worker.results.clear();
        worker.computing.iter_mut().for_each(|computing| computing.wanted = false);
        worker.registered = false;
        if worker.leaving {
            self.end_worker(number, Fate::Exits, Some(0));
        } else if register {
            self.worker_says(number, 0, self.workers[number].register(0));
        }
    }

    /// Starts waiting requests on its free threads.
    fn compute(&mut self, number: usize) {
        while self.workers[number].computing.len() < self.workers[number].threads
            && let Some((ticket, body)) = self.workers[number].waiting.pop_front()
        {
            let time = self.dice.range(100, self.plan.computing) * self.workers[number].slowness;
            self.computations += 1;
            let computation = self.computations;
            let task = Task::of(&body);
            self.workers[number].computing.push(Computing { number: computation, ticket, task, wanted: true });
            self.after(time, Step::Computed(number, computation));
        }
    }

    /// A thread is done.
    pub fn computed(&mut self, number: usize, computation: u64) {
        let frozen = self.workers[number].state == Process::Frozen;
        let computing = &mut self.workers[number].computing;
        let Some(place) = computing.iter().position(|it| it.number == computation) else { return };
        if frozen {
            return self.after(MS, Step::Computed(number, computation));
        }
        let Computing { ticket, task, wanted, .. } = computing.remove(place);
        let Some(outcome) = task.outcome() else {
            self.counts.count("worker-killed-by-poison");
            let notice = Some(self.dice.range(0, MS));
            return self.end_worker(number, Fate::Dies, notice);
        };
        if wanted {
            self.has_result(number, ticket, outcome);
        }
        self.compute(number);
    }

    /// It has something to send, and does so soon.
    fn has_result(&mut self, number: usize, ticket: Ticket, outcome: Outcome) {
        let worker = &mut self.workers[number];
        worker.results.push((ticket, outcome));
        if !worker.flushing {
            worker.flushing = true;
            let process = worker.process();
            let after = if self.dice.once_in(4) { self.dice.range(100, 3 * MS) } else { 0 };
            self.after(after, Step::Flush(number, process));
        }
    }

    /// It sends its results.
    pub fn flush_results(&mut self, number: usize, process: u64) {
        let worker = &mut self.workers[number];
        if worker.process() != process || worker.state == Process::Frozen {
            return;
        }
        worker.flushing = false;
        let results = std::mem::take(&mut worker.results);
        worker.replied.extend(results.iter().map(|&(ticket, _)| ticket));
        let forgotten = worker.replied.len().saturating_sub(REMEMBERED);
        worker.replied.drain(..forgotten);
        if !results.is_empty() {
            self.worker_says(number, 0, FromWorker::Replies(results));
        }
    }
}
