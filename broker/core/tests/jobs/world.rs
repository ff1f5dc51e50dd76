//! One run: clients, workers, a broker that is killed, and a disk that stays.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use giostra_core::broker::{Broker, Output};
use giostra_core::config::{Rights, Settings};
use giostra_core::ids::JobNumber;
use giostra_protocol::{
    Bytes, Failure, FromClient, FromWorker, Identity, JobId, JobSpec, JobState, JobsReply, JobsRequest, Outcome,
    Ticket, ToClient, ToWorker, VERSION,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::store::{Disk, HOME, Queue};

/// A client that submits one job, and what it was told.
struct Submitter {
    key: String,
    total: u32,
    /// The number of requests that were acknowledged, and whether the job was closed.
    acknowledged: u32,
    closed: bool,
    id: Option<JobId>,
    /// The next request to send in this life.
    next: u32,
    gave_up: bool,
}

/// A worker, and the requests that it holds.
#[derive(Default)]
struct Worker {
    is_here: bool,
    held: Vec<(Ticket, Bytes)>,
}

/// One run.
pub struct World {
    random: StdRng,
    now: Instant,
    broker: Broker,
    queue: Queue,
    disk: Disk,
    submitters: Vec<Submitter>,
    workers: Vec<Worker>,
    slice: usize,
    lives: u64,
    /// Jobs that clients have asked to cancel.
    cancelled: BTreeMap<JobId, ()>,
}

impl World {
    /// Runs a seed; returns how often the broker was killed.
    pub fn run(seed: u64) -> u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let slice = random.random_range(2..40);
        let submitter = |n: u32, random: &mut StdRng| Submitter {
            // Two clients with the same key submit the same job.
            key: format!("key-{}", n / 2),
            total: [0, 1, 7, 60][random.random_range(0..4)],
            acknowledged: 0,
            closed: false,
            id: None,
            next: 0,
            gave_up: false,
        };
        let mut submitters: Vec<_> = (0..6).map(|n| submitter(n, &mut random)).collect();
        for n in [1, 3, 5] {
            submitters[n].total = submitters[n - 1].total;
        }
        let now = Instant::now();
        let mut world = Self {
            broker: Broker::new(Settings::default(), now),
            random,
            now,
            queue: Queue::default(),
            disk: Disk::default(),
            submitters,
            workers: (0..3).map(|_| Worker::default()).collect(),
            slice,
            lives: 0,
            cancelled: BTreeMap::new(),
        };
        world.start();
        for _ in 0..600 {
            world.step();
        }
        world.finish();
        world.lives - 1
    }

    fn start(&mut self) {
        self.lives += 1;
        let settings = Settings {
            job_slice: self.slice,
            window: self.random.random_range(1..9),
            // No request is given up.
            max_attempts: u32::MAX,
            first_ticket: self.lives << 32,
            ..Settings::default()
        };
        self.queue = Queue::default();
        self.broker = Broker::new(settings, self.now).with_store(self.disk.restored());
        for worker in &mut self.workers {
            *worker = Worker::default();
        }
        for n in 0..self.submitters.len() {
            self.submitters[n].next = self.submitters[n].acknowledged;
            self.says(n, FromClient::Hello { version: VERSION, name: "client".into() });
        }
        self.settle();
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        match self.random.random_range(0..1000) {
            0..400 => self.submit(),
            400..600 => {
                let count = self.random.random_range(1..8);
                self.queue.work(&mut self.disk, count);
            }
            600..750 => self.hear(),
            750..960 => self.compute(),
            960..975 => self.lose_a_worker(),
            975..980 => self.cancel(),
            980..983 => self.queue.fail(),
            983..990 => self.start(),
            _ => self.collect(),
        }
        self.settle();
        self.broker.check();
    }

    fn submit(&mut self) {
        let n = self.random.random_range(0..self.submitters.len());
        let size = self.random.random_range(1..12);
        let submitter = &mut self.submitters[n];
        if submitter.closed || submitter.gave_up {
            return;
        }
        let (first, last) = (submitter.next, (submitter.next + size).min(submitter.total));
        let bodies = (first..last).map(|number| body(&submitter.key, number)).collect();
        let closes = last == submitter.total;
        // From the acknowledged ones on again, once all was sent.
        submitter.next = if closes { submitter.acknowledged } else { last };
        let job = JobSpec { pool: "p".into(), key: submitter.key.clone(), name: String::new() };
        let request = JobsRequest::Submit { job, first, bodies, closes };
        self.says(n, FromClient::Jobs { tag: 1, request });
    }

    fn hear(&mut self) {
        while let Some(done) = self.queue.say() {
            self.broker.handle_stored(done, self.now);
            if self.random.random_range(0..3) == 0 {
                break;
            }
        }
    }

    fn compute(&mut self) {
        let n = self.random.random_range(0..self.workers.len());
        if !self.workers[n].is_here {
            let (name, pool) = (format!("worker-{n}"), "p".into());
            let (version, operations, threads, window, instance) = (VERSION, vec![], 1, 0, 0);
            let register = FromWorker::Register { version, name, pool, operations, threads, window, instance };
            self.workers[n].is_here = true;
            return self.broker.handle_worker(&worker(n), register, self.now);
        }
        let count = self.random.random_range(0..=self.workers[n].held.len());
        let replies: Vec<_> =
            self.workers[n].held.drain(..count).map(|(ticket, body)| (ticket, result(&body))).collect();
        self.broker.handle_worker(&worker(n), FromWorker::Replies(replies), self.now);
    }

    fn lose_a_worker(&mut self) {
        let n = self.random.random_range(0..self.workers.len());
        if self.workers[n].is_here {
            self.workers[n] = Worker::default();
            self.broker.handle_worker(&worker(n), FromWorker::Disconnected, self.now);
        }
    }

    fn cancel(&mut self) {
        let n = self.random.random_range(0..self.submitters.len());
        if let Some(id) = self.submitters[n].id {
            self.cancelled.insert(id, ());
            self.says(n, FromClient::Jobs { tag: 2, request: JobsRequest::Cancel(id) });
        }
    }

    fn collect(&mut self) {
        let n = self.random.random_range(0..self.submitters.len());
        if let Some(id) = self.submitters[n].id {
            let from = self.random.random_range(0..60);
            self.says(n, FromClient::Jobs { tag: 3, request: JobsRequest::Collect { id, from } });
            self.says(n, FromClient::Jobs { tag: 4, request: JobsRequest::Look { id, wait: from % 2 == 0 } });
        }
    }

    fn says(&mut self, client: usize, message: FromClient) {
        self.broker.handle_client(&Identity(vec![client as u8].into()), Rights::ALL, message, self.now);
    }

    fn settle(&mut self) {
        while let Some(output) = self.broker.poll_output(self.now) {
            match output {
                Output::Store(op) => self.queue.ask(op),
                Output::ToWorker(to, ToWorker::Dispatch { requests, .. }) => {
                    self.workers[to.0[1] as usize].held.extend(requests);
                }
                Output::ToClient(to, ToClient::Jobs { tag, reply }) => self.told(to.0[0] as usize, tag, reply),
                _ => {}
            }
        }
    }

    fn told(&mut self, n: usize, tag: u64, reply: JobsReply) {
        let submitter = &mut self.submitters[n];
        match reply {
            JobsReply::Accepted { id, requests, closed } => {
                let stored = &self.disk.jobs[&JobNumber(id.number)];
                assert!(stored.bodies.len() >= requests as usize, "acknowledged before it was safe");
                assert!(!closed || stored.record.state != JobState::Open);
                submitter.acknowledged = submitter.acknowledged.max(requests);
                submitter.closed |= closed;
                submitter.id = Some(id);
            }
            JobsReply::Later { requests } => submitter.next = requests,
            // Cancelled, or the disk is gone: only a submission that can't go on gives up.
            JobsReply::Refused { reason } => submitter.gave_up |= tag == 1 && !reason.contains("out of order"),
            JobsReply::Results { job, results } => {
                for (number, outcome) in results {
                    assert_eq!(outcome, result(&body(&job.spec.key, number)), "{job:?}");
                }
            }
            JobsReply::Jobs(jobs) => {
                for job in jobs {
                    let in_all = self.disk.jobs[&JobNumber(job.id.number)].results.len();
                    assert!((job.succeeded + job.failed) as usize <= in_all, "{job:?}");
                }
            }
        }
    }

    /// Without further faults everything comes to its end.
    fn finish(&mut self) {
        self.start();
        for round in 0.. {
            assert!(round < 20_000, "it does not come to an end: {:?}", self.disk.restored());
            self.now += Duration::from_millis(1);
            self.submit();
            self.queue.work(&mut self.disk, 100);
            self.hear();
            self.compute();
            self.settle();
            let are_done = self.submitters.iter().all(|one| one.closed || one.gave_up);
            if are_done && self.queue.is_idle() && self.disk.restored().jobs.is_empty() {
                break;
            }
        }
        self.broker.check();
        for submitter in self.submitters.iter().filter(|one| !one.gave_up) {
            let id = submitter.id.expect("it was told");
            let stored = &self.disk.jobs[&JobNumber(id.number)];
            let cancelled = stored.record.state == JobState::Cancelled;
            assert_eq!((id.home, cancelled && !self.cancelled.contains_key(&id)), (HOME, false), "nobody cancelled it");
            assert!(stored.bodies.len() >= submitter.acknowledged as usize);
            for (number, outcome) in &stored.results {
                assert_eq!(*outcome, result(&body(&submitter.key, *number)));
            }
            if !cancelled {
                assert_eq!(stored.results.len(), submitter.total as usize, "{:?}", stored.record);
            }
        }
    }
}

fn worker(n: usize) -> Identity {
    Identity(vec![b'w', n as u8].into())
}

fn body(key: &str, number: u32) -> Bytes {
    format!("{key}#{number}").into_bytes().into()
}

/// What a worker makes of a body: some fail.
fn result(body: &Bytes) -> Outcome {
    match body.last() {
        Some(b'7') => Outcome::Error(Failure::new("failed", "it ends with a seven")),
        _ => Outcome::Ok(body.clone()),
    }
}
