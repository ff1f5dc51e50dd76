//! The workers of the long run: sockets that speak the protocol and answer at once, and keep
//! joining and leaving.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use giostra_protocol::codec::Message;
use giostra_protocol::{Bytes, FromWorker, Outcome, Registration, ToWorker};
use giostra_transport::socket;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use zmq::{Context, Socket};

use super::Tally;

/// How often, in each thread, a seat is drawn whose worker joins or goes.
const CHANGE: Duration = Duration::from_millis(20);

/// Sockets of one libzmq context, which has room for a thousand.
const PER_CONTEXT: usize = 500;

/// What a worker computes: the body, its bits inverted.
pub fn result_of(body: &[u8]) -> Bytes {
    body.iter().map(|byte| !byte).collect()
}

/// Plays up to `seats` workers until the run is over.
pub fn play(backend: &str, seats: usize, seed: u64, tally: &Tally) -> Result<()> {
    let contexts: Vec<_> = (0..seats.div_ceil(PER_CONTEXT)).map(|_| Context::new()).collect();
    let mut dice = StdRng::seed_from_u64(seed);
    let mut workers: Vec<Option<Worker>> = Vec::new();
    for seat in 0..seats {
        workers.push(Some(Worker::join(&contexts[seat / PER_CONTEXT], backend, seat)?));
    }
    let mut next_change = Instant::now() + CHANGE;
    while !tally.over.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= next_change {
            next_change = now + CHANGE;
            let seat = dice.random_range(0..seats);
            match &mut workers[seat] {
                empty @ None => *empty = Some(Worker::join(&contexts[seat / PER_CONTEXT], backend, seat)?),
                // Half of those that are drawn stay, so that two thirds are there on average.
                Some(_) if dice.random_range(0..2) == 0 => {}
                Some(worker) if dice.random_range(0..2) == 0 => worker.send(FromWorker::Leave)?,
                there => {
                    *there = None;
                    count(&tally.breaks);
                }
            }
        }
        let present: Vec<_> = (0..seats).filter(|&seat| workers[seat].is_some()).collect();
        let mut items: Vec<_> =
            workers.iter().flatten().map(|worker| worker.socket.as_poll_item(zmq::POLLIN)).collect();
        socket::poll(&mut items, Some(next_change.saturating_duration_since(Instant::now())))?;
        let ready: Vec<_> = items.iter().map(zmq::PollItem::is_readable).collect();
        drop(items);
        for (seat, _) in present.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            let worker = workers[seat].as_mut().context("it is there")?;
            if worker.hear(tally)? == Next::Go {
                workers[seat] = None;
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Stay,
    Go,
}

struct Worker {
    socket: Socket,
    register: FromWorker,
    envelope: Vec<u8>,
    attachments: Vec<Bytes>,
}

impl Worker {
    fn join(context: &Context, backend: &str, seat: usize) -> Result<Self> {
        let register = FromWorker::from(Registration { name: format!("seat-{seat}"), ..Registration::default() });
        let hello = register.clone().encode().envelope;
        let hiccup = ToWorker::<Bytes>::Hiccup.encode().envelope;
        let socket = socket::dealer(context, &hello, &hiccup, Duration::ZERO, socket::PEER_TIMEOUT, None)?;
        socket.connect(backend)?;
        Ok(Self { socket, register, envelope: Vec::new(), attachments: Vec::new() })
    }

    /// Answers all that has come.
    fn hear(&mut self, tally: &Tally) -> Result<Next> {
        let mut results = Vec::new();
        while let Some(frames) = socket::receive(&self.socket)? {
            match ToWorker::decode(&frames)? {
                ToWorker::Welcome { .. } => count(&tally.joins),
                ToWorker::Dispatch { requests, .. } => {
                    results.extend(requests.iter().map(|(ticket, body)| (*ticket, Outcome::Ok(result_of(body)))));
                }
                ToWorker::Ping { sequence } => {
                    self.send(FromWorker::Pong { sequence, computing: 0, waiting: 0, oldest_ms: 0 })?;
                }
                ToWorker::RegisterAgain => {
                    count(&tally.dropped);
                    results.clear();
                    self.send(self.register.clone())?;
                }
                ToWorker::Goodbye => {
                    count(&tally.leaves);
                    return Ok(Next::Go);
                }
                // All that it has is answered.
                ToWorker::Cancel(_) => {}
                // libzmq registers again by itself.
                ToWorker::Hiccup | ToWorker::Closing => results.clear(),
                ToWorker::Refused { reason } => bail!("a worker was refused: {reason}"),
            }
        }
        if !results.is_empty() {
            self.send(FromWorker::Replies(results))?;
        }
        Ok(Next::Stay)
    }

    fn send(&mut self, message: FromWorker) -> Result<()> {
        message.encode_into(&mut self.envelope, &mut self.attachments);
        socket::send(&mut self.socket, &self.envelope, &self.attachments)?;
        Ok(())
    }
}

fn count(what: &AtomicU64) {
    what.fetch_add(1, Ordering::Relaxed);
}
