//! The core, scenario by scenario: what a user would lose if it were wrong. No sockets, no clock,
//! no sleeping.

mod admission;
mod clients;
mod hosts;
mod leaving;
mod losses;
mod rotation;
mod status;
#[path = "../world/mod.rs"]
mod world;

use std::time::Duration;

use giostra_core::broker::Output;
use giostra_core::config::{Rights, Settings};
use giostra_core::peer_info::{Key, PeerInfo};
use giostra_core::policy::rotation::Rotation;
use giostra_protocol::{
    Bytes, Failure, FromClient, FromWorker, History, MAX_BATCH, Outcome, Progress, Registration, RequestId, Ticket,
    ToClient, ToWorker, VERSION, code,
};
use world::{World, body, peer, register, registration, settings};

/// One without a key.
fn peer_info(address: &str) -> PeerInfo {
    PeerInfo { address: address.into(), key: None }
}

fn pong(sequence: u64) -> FromWorker {
    FromWorker::Pong { sequence, computing: 0, waiting: 0, oldest_ms: 0 }
}

fn submit(session: u64, requests: Vec<(RequestId, Bytes)>) -> FromClient {
    FromClient::Submit { session, pool: "p".into(), timeout_ms: 0, priority: Default::default(), wait: true, requests }
}

impl World {
    /// With the client `c` and the workers `1` to `count`.
    fn with_workers(count: usize) -> Self {
        let mut world = Self::new(settings());
        world.client("c");
        (1..=count).for_each(|number| world.join(&number.to_string()));
        world
    }

    fn join_as(&mut self, worker: &str, name: &str) {
        self.worker_says(worker, register(name, 0));
    }

    /// Returns the answer to the client `c`, and the number of workers that are leaving or have
    /// left.
    fn drain(&mut self, worker: &str, number: u64, all: bool) -> (String, usize) {
        self.take_sent();
        self.client_says("c", FromClient::Drain { worker: worker.into(), number, all });
        (self.take_sent().concat(), self.logged("leaving").len())
    }

    fn submit_within(&mut self, client: &str, ids: impl IntoIterator<Item = u64>, timeout_ms: u64) {
        let requests = ids.into_iter().map(|id| (RequestId(id), body(id))).collect();
        self.submit_to("p", client, requests, timeout_ms);
    }

    /// A client as the lines of acceptance name it.
    fn number_of(&self, client: &str) -> String {
        let name = format!(" {client} clients=");
        let joined = self.log.iter().find(|line| line.starts_with("client-joined ") && line.contains(&name));
        format!(" {}#", joined.unwrap().split(' ').nth(1).unwrap())
    }

    /// Returns the other messages sent since the last call, without pings and welcomes.
    fn take_sent(&mut self) -> Vec<String> {
        let mut sent = std::mem::take(&mut self.sent);
        sent.retain(|sent| !sent.contains("Ping") && !sent.contains("Welcome"));
        sent
    }

    fn reply_from_first_holder(&mut self) {
        let worker = self.held[0].0.clone();
        self.reply(&worker);
    }
}
