//! The load: clients, each of which keeps a window of requests unanswered.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use giostra_client::{Client, Context, Error, Options, wait_any};
use giostra_protocol::{Outcome, Reply, RequestId};
use giostra_transport::shutdown::Shutdown;

use super::args::Bench;
use super::work::Work;
use crate::common::CommonArgs;
use crate::summary::Summary;

/// How often one client is served in a row before the others are.
const TURNS: usize = 8;

/// The amount of a load.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The maximum number of requests.
    pub requests: u64,
    /// The time in which requests are sent. Their replies may come later.
    pub length: Option<Duration>,
}

/// The connected clients.
pub struct Load {
    loaders: Vec<Loader>,
    shutdown: Shutdown,
    timeout: Option<Duration>,
}

struct Loader {
    client: Client,
    sent: SentTimes,
    window: usize,
    /// When to serve it even if nothing arrives.
    wake: Option<Instant>,
    /// Whether to serve it without waiting.
    ready: bool,
}

impl Load {
    /// Connects all clients, and waits until the broker has greeted each.
    pub fn connect(bench: &Bench, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let context = Context::default();
        let shared = common.options("bench", shutdown)?;
        let mut loaders = Vec::new();
        for number in 1..=bench.clients {
            let options = Options { name: format!("{}-{number}", shared.name), ..shared.clone() };
            let mut client = Client::connect_in(&context, options)?;
            // One after the other: until it is greeted, a client needs several of the context's sockets.
            client.await_broker()?;
            let window = bench.window as usize;
            loaders.push(Loader { client, sent: SentTimes::new(window), window, wake: None, ready: false });
        }
        Ok(Self { loaders, shutdown: shutdown.clone(), timeout: common.timeout })
    }

    /// Sends the requests of the span, and waits until all are answered.
    pub fn run(&mut self, work: &Work, span: Span, summary: &mut Summary) -> Result<(), Error> {
        let began = Instant::now();
        let mut run = Run {
            work,
            summary,
            timeout: self.timeout,
            limit: span.requests,
            until: span.length.and_then(|length| began.checked_add(length)),
        };
        let ended = self.send(&mut run);
        summary.took += began.elapsed();
        ended
    }

    fn send(&mut self, run: &mut Run<'_>) -> Result<(), Error> {
        for loader in &mut self.loaders {
            loader.submit(run, Instant::now())?;
            loader.ready = true;
        }
        loop {
            for loader in self.loaders.iter_mut().filter(|loader| loader.ready) {
                loader.serve(run)?;
            }
            if run.is_over() {
                return Ok(());
            }
            self.wait(run)?;
        }
    }

    /// Waits until some clients have something to do, and marks them as ready.
    fn wait(&mut self, run: &Run<'_>) -> Result<(), Error> {
        let until = match self.loaders.iter().any(|loader| loader.ready) {
            true => Some(Instant::now()),
            false => {
                let wakes = self.loaders.iter().filter_map(|loader| loader.wake);
                // Without unanswered requests no client wakes at the end of the time.
                let end = run.until.filter(|_| run.summary.unanswered() == 0);
                wakes.chain(end).min()
            }
        };
        let clients: Vec<_> = self.loaders.iter().map(|loader| &loader.client).collect();
        wait_any(&clients, &[self.shutdown.as_fd()], until)?;
        let now = Instant::now();
        for loader in &mut self.loaders {
            loader.ready |= loader.client.has_news() || loader.wake.is_some_and(|wake| wake <= now);
        }
        // The client that is served next returns an error.
        self.loaders[0].ready |= self.shutdown.requested();
        Ok(())
    }

    /// Cancels all unanswered requests.
    pub fn cancel_all(&mut self) -> Result<(), Error> {
        self.loaders.iter_mut().try_for_each(|loader| loader.client.cancel_all())
    }

    /// The number of replies to requests that had one already.
    pub fn duplicated(&self) -> u64 {
        self.loaders.iter().map(|loader| loader.client.duplicated()).sum()
    }
}

/// A run of all clients.
struct Run<'a> {
    work: &'a Work,
    summary: &'a mut Summary,
    timeout: Option<Duration>,
    limit: u64,
    until: Option<Instant>,
}

impl Run<'_> {
    /// Returns whether more requests may be sent.
    fn continues(&self, now: Instant) -> bool {
        self.summary.sent < self.limit && self.until.is_none_or(|until| now < until)
    }

    fn is_over(&self) -> bool {
        self.summary.unanswered() == 0 && !self.continues(Instant::now())
    }

    fn check(&mut self, reply: Reply, latency: Duration) {
        match reply.outcome {
            Outcome::Ok(body) => self.summary.add_answer(reply.trace.attempts, body == self.work.expected, latency),
            Outcome::Error(failure) => self.summary.add_failure(failure),
        }
    }
}

impl Loader {
    /// Receives replies and sends requests until nothing more arrives at once.
    fn serve(&mut self, run: &mut Run<'_>) -> Result<(), Error> {
        self.ready = false;
        for _ in 0..TURNS {
            self.wake = self.client.turn()?;
            let now = Instant::now();
            while let Some(reply) = self.client.take_reply() {
                if let Some(sent) = self.sent.at(reply.id).take() {
                    run.check(reply, now.saturating_duration_since(sent));
                }
            }
            if !self.submit(run, now)? {
                return Ok(());
            }
        }
        self.ready = true;
        Ok(())
    }

    /// Fills the window. Returns whether anything was submitted.
    fn submit(&mut self, run: &mut Run<'_>, now: Instant) -> Result<bool, Error> {
        if !run.continues(now) {
            return Ok(false);
        }
        let mut submitted = false;
        while self.client.unanswered() < self.window && self.sent.has_room() && run.summary.sent < run.limit {
            let id = self.client.submit_within(run.work.body.clone(), run.timeout)?;
            self.sent.insert(id, now);
            run.summary.sent += 1;
            submitted = true;
        }
        Ok(submitted)
    }
}

/// The times at which unanswered requests were sent, by their ids modulo a power of two. Ids count up
/// by one.
struct SentTimes {
    times: Vec<Option<Instant>>,
    last: RequestId,
}

impl SentTimes {
    /// Returns a table for twice as many requests, because some are answered out of turn.
    fn new(window: usize) -> Self {
        Self { times: vec![None; (2 * window).next_power_of_two()], last: RequestId(0) }
    }

    fn at(&mut self, id: RequestId) -> &mut Option<Instant> {
        let place = id.0 as usize & (self.times.len() - 1);
        &mut self.times[place]
    }

    /// Returns whether the place of the next request is free: the one that had it is answered.
    fn has_room(&mut self) -> bool {
        let next = RequestId(self.last.0 + 1);
        self.at(next).is_none()
    }

    fn insert(&mut self, id: RequestId, now: Instant) {
        *self.at(id) = Some(now);
        self.last = id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straggler_keeps_its_time_and_holds_up_the_one_that_would_take_its_place() {
        let mut asked = SentTimes::new(3);
        let times: Vec<_> = (0..9).map(|seconds| Instant::now() + Duration::from_secs(seconds)).collect();
        for id in 1..=8 {
            assert!(asked.has_room());
            asked.insert(RequestId(id), times[id as usize]);
            if id > 1 {
                assert_eq!(asked.at(RequestId(id)).take(), Some(times[id as usize]));
            }
        }
        assert!(!asked.has_room());
        assert_eq!(asked.at(RequestId(1)).take(), Some(times[1]));
        assert!(asked.has_room());
    }
}
