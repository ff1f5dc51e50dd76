//! The load: clients that each keep a window of requests unanswered.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use giostra_client::{Client, Context, Error, Options};
use giostra_protocol::{Outcome, Reply, RequestId};
use giostra_transport::shutdown::Shutdown;
use giostra_transport::socket;
use zmq::PollItem;

use super::args::Bench;
use super::work::Work;
use crate::common::CommonArgs;
use crate::summary::Summary;

/// How often one client is served again for what came meanwhile, before it is the others' turn.
const TURNS: usize = 8;

/// How much is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The most requests.
    pub requests: u64,
    /// For how long at most; what is unanswered then is waited for.
    pub length: Option<Duration>,
}

/// Clients that are connected.
pub struct Load {
    /// Of each: itself and what it waits for.
    loaders: Vec<Loader>,
    /// What is polled: each client's descriptor, then the shutdown's.
    items: Vec<PollItem<'static>>,
    timeout: Option<Duration>,
}

struct Loader {
    client: Client,
    asked: Asked,
    window: usize,
    /// When it wants to be served even if nothing comes.
    wake: Option<Instant>,
    /// Whether it is to be served without waiting.
    ready: bool,
}

impl Load {
    /// Connects all clients, and waits until the broker has welcomed each.
    pub fn connect(bench: &Bench, common: &CommonArgs, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let context = Context::default();
        let shared = common.options("bench", shutdown)?;
        let mut loaders = Vec::new();
        for number in 1..=bench.clients {
            let options = Options { name: format!("{}-{number}", shared.name), ..shared.clone() };
            let mut client = Client::connect_in(&context, options)?;
            // One after the other: until it is welcomed a client needs several of the context's sockets.
            client.await_broker()?;
            let window = bench.window as usize;
            loaders.push(Loader { client, asked: Asked::new(window), window, wake: None, ready: false });
        }
        let mut items = Vec::new();
        for loader in &mut loaders {
            items.push(PollItem::from_fd(loader.client.fd()?.as_raw_fd(), zmq::POLLIN));
        }
        items.push(PollItem::from_fd(shutdown.as_fd().as_raw_fd(), zmq::POLLIN));
        Ok(Self { loaders, items, timeout: common.timeout })
    }

    /// Asks for all that is asked for, and waits until it is answered.
    pub fn run(&mut self, work: &Work, span: Span, summary: &mut Summary) -> Result<(), Error> {
        let began = Instant::now();
        let mut run = Run {
            work,
            summary,
            timeout: self.timeout,
            most: span.requests,
            until: span.length.and_then(|length| began.checked_add(length)),
        };
        let ended = self.ask(&mut run);
        summary.took += began.elapsed();
        ended
    }

    fn ask(&mut self, run: &mut Run<'_>) -> Result<(), Error> {
        for loader in &mut self.loaders {
            loader.submit(run, Instant::now())?;
            loader.ready = true;
        }
        loop {
            for (loader, item) in self.loaders.iter_mut().zip(&mut self.items) {
                if !loader.ready {
                    continue;
                }
                loader.serve(run)?;
                *item = PollItem::from_fd(loader.client.fd()?.as_raw_fd(), zmq::POLLIN);
            }
            if run.is_over() {
                return Ok(());
            }
            self.wait(run)?;
        }
    }

    /// Waits until there is something to do for one of the clients, and notes for which.
    fn wait(&mut self, run: &Run<'_>) -> Result<(), Error> {
        let until = match self.loaders.iter().any(|loader| loader.ready) {
            true => Some(Duration::ZERO),
            false => {
                let wakes = self.loaders.iter().filter_map(|loader| loader.wake);
                // When the time is over, there may be nobody left to say so.
                let end = run.until.filter(|_| run.summary.unanswered() == 0);
                wakes.chain(end).min().map(|wake| wake.saturating_duration_since(Instant::now()))
            }
        };
        socket::poll(&mut self.items, until).map_err(|error| Error::Socket(error.to_string()))?;
        let now = Instant::now();
        for (loader, item) in self.loaders.iter_mut().zip(&self.items) {
            loader.ready |= item.is_readable() || loader.wake.is_some_and(|wake| wake <= now);
        }
        // The last item is the shutdown's: whoever is served next says so.
        if self.items.last().is_some_and(PollItem::is_readable) {
            self.loaders[0].ready = true;
        }
        Ok(())
    }

    /// Gives up all that is unanswered.
    pub fn cancel_all(&mut self) -> Result<(), Error> {
        self.loaders.iter_mut().try_for_each(|loader| loader.client.cancel_all())
    }

    /// Replies that came for requests that had one already.
    pub fn duplicated(&self) -> u64 {
        self.loaders.iter().map(|loader| loader.client.duplicated()).sum()
    }
}

/// What is under way, for all clients.
struct Run<'a> {
    work: &'a Work,
    summary: &'a mut Summary,
    timeout: Option<Duration>,
    most: u64,
    until: Option<Instant>,
}

impl Run<'_> {
    /// Whether more is to be asked for.
    fn goes_on(&self, now: Instant) -> bool {
        self.summary.sent < self.most && self.until.is_none_or(|until| now < until)
    }

    fn is_over(&self) -> bool {
        self.summary.unanswered() == 0 && !self.goes_on(Instant::now())
    }

    fn check(&mut self, reply: Reply, latency: Duration) {
        match reply.outcome {
            Outcome::Ok(body) => self.summary.add_answer(reply.trace.attempts, body == self.work.expected, latency),
            Outcome::Error(failure) => self.summary.add_failure(failure),
        }
    }
}

impl Loader {
    /// Receives, and asks for more, until nothing more comes at once.
    fn serve(&mut self, run: &mut Run<'_>) -> Result<(), Error> {
        self.ready = false;
        for _ in 0..TURNS {
            self.wake = self.client.turn()?;
            let now = Instant::now();
            while let Some(reply) = self.client.take_reply() {
                if let Some(asked) = self.asked.at(reply.id).take() {
                    run.check(reply, now.saturating_duration_since(asked));
                }
            }
            if !self.submit(run, now)? {
                return Ok(());
            }
        }
        self.ready = true;
        Ok(())
    }

    /// Fills the window. Whether anything was submitted.
    fn submit(&mut self, run: &mut Run<'_>, now: Instant) -> Result<bool, Error> {
        if !run.goes_on(now) {
            return Ok(false);
        }
        let mut submitted = false;
        while self.client.unanswered() < self.window && self.asked.has_room() && run.summary.sent < run.most {
            let id = self.client.submit_within(run.work.body.clone(), run.timeout)?;
            self.asked.note(id, now);
            run.summary.sent += 1;
            submitted = true;
        }
        Ok(submitted)
    }
}

/// When each unanswered request was asked for: at its id, modulo a power of two. Ids count up by
/// one.
struct Asked {
    times: Vec<Option<Instant>>,
    last: RequestId,
}

impl Asked {
    /// For so many at a time, and as many again: those answered out of turn.
    fn new(window: usize) -> Self {
        Self { times: vec![None; (2 * window).next_power_of_two()], last: RequestId(0) }
    }

    fn at(&mut self, id: RequestId) -> &mut Option<Instant> {
        let place = id.0 as usize & (self.times.len() - 1);
        &mut self.times[place]
    }

    /// Whether the place of the next one is free: the request that was asked for so many before it
    /// is answered.
    fn has_room(&mut self) -> bool {
        let next = RequestId(self.last.0 + 1);
        self.at(next).is_none()
    }

    fn note(&mut self, id: RequestId, now: Instant) {
        *self.at(id) = Some(now);
        self.last = id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straggler_keeps_its_time_and_holds_up_the_one_that_would_take_its_place() {
        let mut asked = Asked::new(3);
        let times: Vec<_> = (0..9).map(|seconds| Instant::now() + Duration::from_secs(seconds)).collect();
        for id in 1..=8 {
            assert!(asked.has_room());
            asked.note(RequestId(id), times[id as usize]);
            if id > 1 {
                assert_eq!(asked.at(RequestId(id)).take(), Some(times[id as usize]));
            }
        }
        assert!(!asked.has_room());
        assert_eq!(asked.at(RequestId(1)).take(), Some(times[1]));
        assert!(asked.has_room());
    }
}
