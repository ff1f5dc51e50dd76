//! A broker without its shell, its peers, and its outputs: the base of the tests of the core.

#![allow(dead_code)] // each file of tests uses a part of it
#![allow(clippy::disallowed_methods)] // an instant to begin with

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use giostra_core::broker::{Broker, Output};
use giostra_core::config::{Rights, Settings};
use giostra_core::store::Op;
use giostra_protocol::Identity;
use giostra_protocol::{
    Bytes, Failure, FromClient, FromWorker, Outcome, Registration, Reply, RequestId, Ticket, ToClient, ToWorker,
    VERSION,
};

/// A broker, its clock, and its outputs.
pub struct World {
    pub broker: Broker,
    pub now: Instant,
    /// The requests that each worker holds, as it sees them.
    pub held: Vec<(String, Ticket, u64)>,
    pub replies: Vec<(String, Reply)>,
    pub log: Vec<String>,
    /// The session of each client.
    pub sessions: BTreeMap<String, u64>,
    /// All other messages, after the name of their receiver.
    pub sent: Vec<String>,
    /// What the store was asked.
    pub asked: Vec<Op>,
}

pub fn settings() -> Settings {
    Settings { first_ticket: 1000, ..Settings::default() }
}

pub fn peer(name: &str) -> Identity {
    Identity(Bytes::copy_from_slice(name.as_bytes()))
}

pub fn name(peer: &Identity) -> String {
    String::from_utf8(peer.0.to_vec()).unwrap()
}

pub fn body(id: u64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// What a worker of the pool `p` says of itself.
pub fn registration(name: &str) -> Registration {
    Registration { name: name.into(), pool: "p".into(), ..Registration::default() }
}

pub fn register(name: &str, window: u32) -> FromWorker {
    Registration { window, ..registration(name) }.into()
}

impl World {
    pub fn new(settings: Settings) -> Self {
        let now = Instant::now();
        let broker = Broker::new(settings, now);
        Self {
            broker,
            now,
            held: vec![],
            replies: vec![],
            log: vec![],
            sessions: BTreeMap::new(),
            sent: vec![],
            asked: vec![],
        }
    }

    pub fn settle(&mut self) {
        while let Some(output) = self.broker.poll_output(self.now) {
            match output {
                Output::Log(event) => self.log.push(event.to_string()),
                Output::Store(op) => self.asked.push(op),
                Output::ToWorker(to, ToWorker::Dispatch { requests, .. }) => {
                    for (ticket, body) in requests {
                        self.held.push((name(&to), ticket, u64::from_be_bytes(body[..].try_into().unwrap())));
                    }
                }
                Output::ToClient(to, ToClient::Replies(replies)) => {
                    self.replies.extend(replies.into_iter().map(|reply| (name(&to), reply)));
                }
                Output::ToClient(to, ToClient::Welcome { session, .. }) => {
                    self.sessions.insert(name(&to), session);
                }
                Output::Status(to, status) => {
                    let message = format!("{:?}", ToClient::<Bytes>::Status(status));
                    self.sent.extend(to.iter().map(|to| format!("{} {message}", name(to))));
                }
                Output::Close(to) => self.sent.push(format!("{} is closed", name(&to))),
                Output::ToWorker(to, message) => self.sent.push(format!("{} {message:?}", name(&to))),
                Output::ToClient(to, message) => self.sent.push(format!("{} {message:?}", name(&to))),
            }
        }
        self.broker.check();
    }

    pub fn client_says(&mut self, client: &str, message: FromClient) {
        self.broker.handle_client(&peer(client), Rights::ALL, message, self.now);
        self.settle();
    }

    pub fn worker_says(&mut self, worker: &str, message: FromWorker) {
        self.broker.handle_worker(&peer(worker), message, self.now);
        self.settle();
    }

    pub fn client(&mut self, client: &str) {
        self.client_says(client, FromClient::Hello { version: VERSION, name: client.into() });
    }

    pub fn join(&mut self, worker: &str) {
        self.join_with_window(worker, 0);
    }

    pub fn join_with_window(&mut self, worker: &str, window: u32) {
        self.worker_says(worker, register(&format!("worker-{worker}"), window));
    }

    pub fn submit(&mut self, client: &str, ids: impl IntoIterator<Item = u64>) {
        let requests = ids.into_iter().map(|id| (RequestId(id), body(id))).collect();
        self.submit_to("p", client, requests, 0);
    }

    pub fn submit_to(&mut self, pool: &str, client: &str, requests: Vec<(RequestId, Bytes)>, timeout_ms: u64) {
        let session = self.sessions.get(client).copied().unwrap_or_default();
        self.client_says(
            client,
            FromClient::Submit {
                session,
                pool: pool.into(),
                timeout_ms,
                priority: Default::default(),
                wait: true,
                requests,
            },
        );
    }

    /// The worker replies to the oldest request that it holds.
    pub fn reply(&mut self, worker: &str) {
        let place = self.held.iter().position(|(holder, ..)| holder == worker).expect("it holds a request");
        let (_, ticket, id) = self.held.remove(place);
        self.reply_to(worker, ticket, id);
    }

    pub fn reply_to(&mut self, worker: &str, ticket: Ticket, id: u64) {
        self.worker_says(worker, FromWorker::Replies(vec![(ticket, Outcome::Ok(body(id)))]));
    }

    /// Its connection breaks, and what it held is gone.
    pub fn lose(&mut self, worker: &str) {
        self.held.retain(|(holder, ..)| holder != worker);
        self.worker_says(worker, FromWorker::Disconnected);
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.broker.handle_timeout(self.now);
        self.settle();
    }

    /// The requests that a worker holds, in the order of dispatch.
    pub fn holding(&self, worker: &str) -> Vec<u64> {
        self.held.iter().filter(|(holder, ..)| holder == worker).map(|&(.., id)| id).collect()
    }

    /// The reply to a request that the client got.
    pub fn outcome(&self, client: &str, id: u64) -> Vec<&Outcome> {
        let its = |(to, reply): &&(String, Reply)| to == client && reply.id == RequestId(id);
        self.replies.iter().filter(its).map(|(_, reply)| &reply.outcome).collect()
    }

    pub fn failure(&self, client: &str, id: u64) -> &Failure {
        match self.outcome(client, id)[..] {
            [Outcome::Error(failure)] => failure,
            ref other => panic!("not one error, but {other:?}"),
        }
    }

    pub fn answered(&self) -> Vec<u64> {
        self.replies.iter().map(|(_, reply)| reply.id.0).collect()
    }

    pub fn logged(&self, start: &str) -> Vec<&str> {
        self.log.iter().map(String::as_str).filter(|line| line.starts_with(start)).collect()
    }
}
