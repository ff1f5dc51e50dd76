//! One run: clients, workers, a broker that is killed, and a disk that stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use giostra_core::broker::{Broker, Output};
use giostra_core::config::{Rights, Settings};
use giostra_core::ids::JobNumber;
use giostra_protocol::{
    Bytes, Failure, FromClient, FromWorker, Identity, JobId, JobSpec, JobState, JobsReply, JobsRequest, Outcome,
    Priority, Registration, Ticket, ToClient, ToWorker, VERSION, code,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::store::{Disk, HOME, Queue};

/// A client that submits one job, and what it was told.
struct Submitter {
    spec: JobSpec,
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
    /// Jobs that clients have asked to cancel, and to compute again.
    cancelled: BTreeSet<JobId>,
    retried: BTreeSet<JobId>,
    /// How often workers have said that a request failed, by its body.
    failures: BTreeMap<Bytes, u32>,
    begin: Instant,
}

impl World {
    /// Runs a seed; returns how often the broker was killed.
    pub fn run(seed: u64) -> u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let slice = random.random_range(2..40);
        let submitter = |n: u32, random: &mut StdRng| Submitter {
            // Two clients with the same key submit the same job.
            spec: spec(format!("key-{}", n / 2), random),
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
            submitters[n].spec = submitters[n - 1].spec.clone();
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
            cancelled: BTreeSet::new(),
            retried: BTreeSet::new(),
            failures: BTreeMap::new(),
            begin: now,
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
        self.tick();
        match self.random.random_range(0..1000) {
            0..400 => self.submit(),
            400..600 => {
                let count = self.random.random_range(1..8);
                self.queue.work(&mut self.disk, count);
            }
            600..750 => self.hear(),
            750..960 => self.compute(),
            960..975 => self.lose_a_worker(),
            975..978 => self.cancel(),
            978..980 => self.disk.full = [self.random.random_bool(0.5), self.random.random_bool(0.3)],
            980..983 => self.queue.fail(),
            983..990 => self.start(),
            990..993 => self.retry(),
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
        let bodies = (first..last).map(|number| body(&submitter.spec.key, number)).collect();
        let closes = last == submitter.total;
        // From the acknowledged ones on again, once all was sent.
        submitter.next = if closes { submitter.acknowledged } else { last };
        let job = submitter.spec.clone();
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
            let register = Registration { name: format!("worker-{n}"), pool: "p".into(), ..Registration::default() };
            self.workers[n].is_here = true;
            return self.broker.handle_worker(&worker(n), register.into(), self.now);
        }
        let count = self.random.random_range(0..=self.workers[n].held.len());
        let held: Vec<_> = self.workers[n].held[..count].iter().map(|(_, body)| body.clone()).collect();
        let replies: Vec<_> = self.workers[n]
            .held
            .drain(..count)
            .map(|(ticket, body)| (ticket, result(&body, &mut self.random)))
            .collect();
        for (held, (_, outcome)) in held.into_iter().zip(&replies) {
            if matches!(outcome, Outcome::Error(_)) {
                *self.failures.entry(held).or_default() += 1;
            }
        }
        self.broker.handle_worker(&worker(n), FromWorker::Replies(replies), self.now);
    }

    fn tick(&mut self) {
        self.disk.now_ms = self.now.duration_since(self.begin).as_millis() as u64;
        if self.broker.poll_timeout().is_some_and(|due| due <= self.now) {
            self.broker.handle_timeout(self.now);
        }
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
            self.cancelled.insert(id);
            self.says(n, FromClient::Jobs { tag: 2, request: JobsRequest::Cancel(id) });
        }
    }

    fn retry(&mut self) {
        let n = self.random.random_range(0..self.submitters.len());
        if let Some(id) = self.submitters[n].id {
            self.retried.insert(id);
            self.says(n, FromClient::Jobs { tag: 5, request: JobsRequest::Retry(id) });
        }
    }

    fn collect(&mut self) {
        let n = self.random.random_range(0..self.submitters.len());
        if let Some(id) = self.submitters[n].id {
            let from = self.random.random_range(0..60);
            self.says(
                n,
                FromClient::Jobs { tag: 3, request: JobsRequest::Collect { id, from, with_failed: from % 3 == 0 } },
            );
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
                if let Some(stored) = self.disk.jobs.get(&JobNumber(id.number)) {
                    assert!(stored.bodies.len() >= requests as usize, "acknowledged before it was safe");
                    assert!(!closed || stored.record.state != JobState::Open);
                }
                // Its job has expired, and another was begun with its key.
                submitter.gave_up |= requests < submitter.acknowledged;
                submitter.acknowledged = submitter.acknowledged.max(requests);
                submitter.closed |= closed;
                submitter.id = Some(id);
            }
            JobsReply::Later { requests } => submitter.next = requests,
            // Cancelled, or the disk is gone: only a submission that can't go on gives up.
            // Without room it is tried again.
            JobsReply::Refused { reason } if reason == "no space" => submitter.next = submitter.acknowledged,
            JobsReply::Refused { reason } => submitter.gave_up |= tag == 1 && !reason.contains("out of order"),
            JobsReply::Results { job, results, failed } => {
                for (number, outcome) in &results {
                    self.judge(&job.spec, *number, outcome);
                }
                for (number, failed) in failed {
                    assert_eq!(failed, body(&job.spec.key, number));
                }
            }
            JobsReply::Jobs(jobs) => {
                for job in jobs.into_iter().filter(|job| !self.retried.contains(&job.id)) {
                    let Some(stored) = self.disk.jobs.get(&JobNumber(job.id.number)) else { continue };
                    let in_all = stored.results.len();
                    assert!((job.succeeded + job.failed) as usize <= in_all, "{job:?}");
                }
            }
        }
    }

    /// Checks what became of a request: a failure was computed as often as it was to be.
    fn judge(&self, spec: &JobSpec, number: u32, outcome: &Outcome) {
        let body = body(&spec.key, number);
        match outcome {
            Outcome::Ok(result) => assert_eq!(*result, body),
            Outcome::Error(failure) if failure.code == code::EXPIRED => assert!(spec.timeout_ms > 0, "{spec:?}"),
            Outcome::Error(_) if spec.timeout_ms > 0 => {}
            Outcome::Error(failure) => {
                let failures = self.failures.get(&body).copied().unwrap_or_default();
                assert!(failures > spec.retries, "{body:?} failed {failures} times: {failure:?} {spec:?}");
            }
        }
    }

    /// Without further faults everything comes to its end.
    fn finish(&mut self) {
        self.disk.full = [false; 2];
        self.start();
        // There may have been no room for it.
        for id in self.cancelled.clone() {
            self.says(0, FromClient::Jobs { tag: 2, request: JobsRequest::Cancel(id) });
        }
        for round in 0.. {
            assert!(round < 20_000, "it does not come to an end: {:?}", self.disk.restored());
            self.now += Duration::from_millis(5);
            self.tick();
            self.submit();
            self.queue.work(&mut self.disk, 100);
            self.hear();
            self.compute();
            self.settle();
            let are_done = self.submitters.iter().all(|one| one.closed || one.gave_up);
            if are_done && self.queue.is_idle() {
                let left = self.disk.restored().jobs;
                if left.is_empty() {
                    break;
                }
                // Nobody goes on with these.
                for job in left.into_iter().filter(|job| job.state == JobState::Open) {
                    let id = JobId { home: HOME, number: job.job.0 };
                    self.cancelled.insert(id);
                    self.says(0, FromClient::Jobs { tag: 2, request: JobsRequest::Cancel(id) });
                }
            }
        }
        self.broker.check();
        for submitter in self.submitters.iter().filter(|one| !one.gave_up) {
            let id = submitter.id.expect("it was told");
            let Some(stored) = self.disk.jobs.get(&JobNumber(id.number)) else {
                assert!(submitter.spec.keep_ms > 0, "{id} is gone");
                continue;
            };
            let cancelled = stored.record.state == JobState::Cancelled;
            assert_eq!((id.home, cancelled && !self.cancelled.contains(&id)), (HOME, false), "nobody cancelled it");
            assert!(stored.bodies.len() >= submitter.acknowledged as usize);
            for (number, outcome) in &stored.results {
                self.judge(&submitter.spec, *number, outcome);
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

fn spec(key: String, random: &mut StdRng) -> JobSpec {
    JobSpec {
        pool: "p".into(),
        key,
        name: String::new(),
        priority: Priority::ALL[random.random_range(0..3)],
        timeout_ms: [0, 0, 20][random.random_range(0..3)],
        retries: random.random_range(0..3),
        keep_ms: [0, 0, 300][random.random_range(0..3)],
    }
}

/// What a worker makes of a body: some fail, some now and then.
fn result(body: &Bytes, random: &mut StdRng) -> Outcome {
    let fails = match body.last() {
        Some(b'7') => true,
        Some(b'3') => random.random_bool(0.5),
        _ => false,
    };
    if fails { Outcome::Error(Failure::new("failed", "it ends badly")) } else { Outcome::Ok(body.clone()) }
}
