//! A broker with a store, step by step.

use std::time::{Duration, Instant};

use giostra_core::broker::{Broker, Output};
use giostra_core::config::{Rights, Settings};
use giostra_core::peer_info::{Key, PeerInfo};
use giostra_core::store::Op;
use giostra_protocol::{
    Bytes, Failure, FromClient, FromWorker, Identity, JobId, JobSpec, JobState, JobsReply, JobsRequest, Outcome,
    Registration, Ticket, ToClient, ToWorker, VERSION,
};

use crate::store::{Disk, HOME, Queue};

/// A broker with a store, and everything that it has sent.
pub struct Bench {
    pub broker: Broker,
    pub now: Instant,
    pub disk: Disk,
    pub queue: Queue,
    /// What the store was asked.
    pub asked: Vec<Op>,
    /// Answers about jobs, by client.
    pub told: Vec<(Identity, JobsReply)>,
    pub dispatched: Vec<(Ticket, Bytes)>,
    /// The number of requests that were dispatched, ever.
    pub count: usize,
}

pub fn peer(name: &str) -> Identity {
    Identity(Bytes::copy_from_slice(name.as_bytes()))
}

pub fn id(number: u64) -> JobId {
    JobId { home: HOME, number }
}

pub fn spec() -> JobSpec {
    JobSpec { pool: "p".into(), key: "k".into(), ..JobSpec::default() }
}

pub fn part(first: u32, count: u8, closes: bool) -> JobsRequest {
    JobsRequest::Submit { job: spec(), first, bodies: (0..count).map(|n| vec![n].into()).collect(), closes }
}

impl Bench {
    pub fn new(with_store: bool) -> Self {
        let now = Instant::now();
        let disk = Disk::default();
        let broker = Broker::new(Settings { job_slice: 8, ..Settings::default() }, now);
        let broker = if with_store { broker.with_store(disk.restored()) } else { broker };
        let (queue, asked, told, dispatched) = (Queue::default(), vec![], vec![], vec![]);
        let mut bench = Self { broker, now, disk, queue, asked, told, dispatched, count: 0 };
        bench.join("ada", Rights::ALL, "");
        bench
    }

    pub fn join(&mut self, client: &str, rights: Rights, key: &str) {
        let key = (!key.is_empty()).then(|| Key { public: key.into(), name: key.into() });
        self.broker.handle_client_info(&peer(client), PeerInfo { address: "there".into(), key });
        let hello = FromClient::Hello { version: VERSION, name: client.into() };
        self.broker.handle_client(&peer(client), rights, hello, self.now);
        self.settle();
    }

    /// A worker registers.
    pub fn work(&mut self) {
        let register = Registration { name: "worker".into(), pool: "p".into(), ..Registration::default() };
        self.broker.handle_worker(&peer("w"), register.into(), self.now);
        self.settle();
    }

    /// The worker is lost without a word.
    pub fn lose(&mut self) {
        self.dispatched.clear();
        self.broker.handle_worker(&peer("w"), FromWorker::Disconnected, self.now);
        self.settle();
    }

    /// It answers everything with an error.
    pub fn fail(&mut self) {
        let failure = || Outcome::Error(Failure::new("failed", "no"));
        let replies = self.dispatched.drain(..).map(|(ticket, _)| (ticket, failure())).collect();
        self.broker.handle_worker(&peer("w"), FromWorker::Replies(replies), self.now);
        self.settle();
    }

    /// Time passes.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.disk.now_ms += time.as_millis() as u64;
        self.broker.handle_timeout(self.now);
        self.settle();
    }

    /// The broker is killed, and another one takes its place.
    pub fn restart(&mut self) {
        (self.queue, self.dispatched) = (Queue::default(), vec![]);
        let settings = Settings { job_slice: 8, ..Settings::default() };
        self.broker = Broker::new(settings, self.now).with_store(self.disk.restored());
        self.join("ada", Rights::ALL, "");
    }

    /// It answers all that it has.
    pub fn reply(&mut self) {
        self.answer(self.dispatched.len());
    }

    /// It answers the first that it has.
    pub fn answer(&mut self, count: usize) {
        let replies = self.dispatched.drain(..count).map(|(ticket, body)| (ticket, Outcome::Ok(body))).collect();
        self.broker.handle_worker(&peer("w"), FromWorker::Replies(replies), self.now);
        self.settle();
    }

    pub fn ask(&mut self, client: &str, request: JobsRequest) {
        self.told.clear();
        self.ask_as(1, client, request);
    }

    /// Asks one of several questions of a client.
    pub fn ask_as(&mut self, tag: u64, client: &str, request: JobsRequest) {
        let message = FromClient::Jobs { tag, request };
        self.broker.handle_client(&peer(client), Rights::NONE, message, self.now);
        self.settle();
    }

    /// The store does and says everything.
    pub fn sync(&mut self) {
        while !self.queue.is_idle() {
            self.queue.work(&mut self.disk, 1);
            while let Some(done) = self.queue.say() {
                self.broker.handle_stored(done, self.now);
            }
            self.settle();
        }
        self.broker.check();
    }

    pub fn settle(&mut self) {
        while let Some(output) = self.broker.poll_output(self.now) {
            match output {
                Output::Store(op) => {
                    self.asked.push(op.clone());
                    self.queue.ask(op);
                }
                Output::ToClient(to, ToClient::Jobs { reply, .. }) => self.told.push((to, reply)),
                Output::ToWorker(_, ToWorker::Dispatch { requests, .. }) => {
                    self.count += requests.len();
                    self.dispatched.extend(requests);
                }
                _ => {}
            }
        }
    }

    /// How many were told that the whole job is safe.
    pub fn accepted(&self) -> usize {
        let is_safe = |reply: &JobsReply| matches!(reply, JobsReply::Accepted { closed: true, .. });
        self.told.iter().filter(|(_, reply)| is_safe(reply)).count()
    }

    pub fn refusal(&self) -> &str {
        match &self.told[..] {
            [(_, JobsReply::Refused { reason })] => reason,
            other => panic!("no refusal, but {other:?}"),
        }
    }

    pub fn state(&mut self, number: u64) -> JobState {
        self.ask("ada", JobsRequest::Look { id: id(number), wait: false });
        self.sync();
        match &self.told[..] {
            [(_, JobsReply::Jobs(jobs))] => jobs[0].state,
            other => panic!("no job, but {other:?}"),
        }
    }
}
