//! What Giostra is measured against: libzmq's own `zmq_proxy`, as published, between a ROUTER and a
//! DEALER, with echo workers.
//!
//! `reference proxy FRONTEND BACKEND`, `reference echo BACKEND`, `reference client FRONTEND ..`:
//! the load of `giostra bench`, its clients waited for in the same way, one message a request. It
//! keeps no books: no in-flight table, no numbers in the requests, no log. What it is spared
//! besides: the bytes of a reply are sent again as a request, so that nothing is copied in the
//! client.
//!
//! `reference relay`, `reference raw-echo BACKEND`, `reference raw-client FRONTEND`: the same with
//! one request at a time and without libzmq.

mod raw;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use giostra_common::args::positive_duration;
use giostra_transport::keys::{KeyPair, PublicKey};
use giostra_transport::socket;
use hdrhistogram::Histogram;
use serde_json::json;
use zmq::{Context, DONTWAIT, Message, PollItem, Socket, SocketType};

/// How often one client is served again for what came meanwhile, before it is the others' turn.
const TURNS: usize = 8;

/// What the bare proxy's sides are.
#[derive(Clone, Debug, Parser)]
enum Args {
    /// Between clients and workers
    Proxy {
        frontend: String,
        backend: String,
        /// A secret certificate: CURVE on both sockets
        #[arg(long)]
        keys: Option<PathBuf>,
    },
    /// A worker
    Echo {
        backend: String,
        /// The proxy's, if it has one
        #[arg(long)]
        key: Option<PublicKey>,
    },
    /// The clients
    Client(Load),
    /// Between one client and workers, on TCP sockets
    Relay {
        #[arg(long)]
        workers: usize,
        #[arg(long, default_value_t = 24)]
        size: usize,
        /// For how long to look for data without sleeping
        #[arg(long, value_parser = humantime::parse_duration)]
        spin: Duration,
    },
    /// A worker of the relay
    RawEcho {
        backend: String,
        #[arg(long, default_value_t = 24)]
        size: usize,
    },
    /// The client of the relay, with one request at a time
    RawClient(Load),
}

/// As for `giostra bench`.
#[derive(Clone, Debug, clap::Args)]
struct Load {
    frontend: String,
    /// Each of them with a connection of its own
    #[arg(long, default_value_t = 1)]
    clients: usize,
    /// Requests of each client that may be unanswered at a time
    #[arg(long, default_value_t = 4096)]
    window: usize,
    /// Bytes of a request
    #[arg(long, default_value_t = 24)]
    size: usize,
    #[arg(long, default_value = "10s", value_parser = positive_duration)]
    duration: Duration,
    /// Requests to be answered before the clock starts
    #[arg(long, default_value_t = 1000)]
    warm_up: u64,
    /// The proxy's, if it has one
    #[arg(long)]
    key: Option<PublicKey>,
}

fn main() -> Result<()> {
    giostra_transport::io_loop::be_as_published();
    match Args::parse() {
        Args::Proxy { frontend, backend, keys } => proxy(&frontend, &backend, keys.as_deref()),
        Args::Echo { backend, key } => echo(&backend, key.as_ref()),
        Args::Client(load) => client(&load),
        Args::Relay { workers, size, spin } => raw::relay(workers, size, spin),
        Args::RawEcho { backend, size } => raw::echo(&backend, size),
        Args::RawClient(load) => {
            let raw::Measured { answered, took, latency_ns } =
                raw::client(&load.frontend, &body(load.size), load.warm_up, load.duration)?;
            print(answered, answered, took, &latency_ns)
        }
    }
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|place| (place.wrapping_mul(0x9e37_79b9) >> 16) as u8).collect()
}

fn print(sent: u64, answered: u64, took: Duration, latency_ns: &Histogram<u64>) -> Result<()> {
    let micros = |percent: f64| latency_ns.value_at_percentile(percent) as f64 / 1000.0;
    let summary = json!({
        "sent": sent,
        "answered": answered,
        "seconds": took.as_secs_f64(),
        "rate": answered as f64 / took.as_secs_f64(),
        "latency_us": {"p50": micros(50.0), "p90": micros(90.0), "p99": micros(99.0), "p99.9": micros(99.9)},
    });
    writeln!(io::stdout(), "{summary}")?;
    Ok(())
}

fn socket(context: &Context, kind: SocketType) -> Result<Socket> {
    let socket = context.socket(kind)?;
    socket.set_sndhwm(0)?;
    socket.set_rcvhwm(0)?;
    socket.set_backlog(4096)?;
    socket.set_linger(0)?;
    Ok(socket)
}

/// A DEALER that connects; with a key, as somebody whom nobody knows.
fn dealer(context: &Context, endpoint: &str, key: Option<&PublicKey>) -> Result<Socket> {
    let socket = socket(context, SocketType::DEALER)?;
    if let Some(key) = key {
        let own = KeyPair::generate()?;
        socket.set_curve_serverkey(key.as_bytes())?;
        socket.set_curve_publickey(own.public.as_bytes())?;
        socket.set_curve_secretkey(own.secret.as_bytes())?;
    }
    socket.connect(endpoint)?;
    Ok(socket)
}

fn proxy(frontend: &str, backend: &str, keys: Option<&Path>) -> Result<()> {
    let context = Context::new();
    let clients = socket(&context, SocketType::ROUTER)?;
    let workers = socket(&context, SocketType::DEALER)?;
    if let Some(keys) = keys.map(KeyPair::read).transpose()? {
        for socket in [&clients, &workers] {
            socket.set_curve_server(true)?;
            socket.set_curve_secretkey(keys.secret.as_bytes())?;
        }
    }
    clients.bind(frontend)?;
    workers.bind(backend)?;
    eprintln!("listening {} {}", socket::bound_endpoint(&clients)?, socket::bound_endpoint(&workers)?);
    zmq::proxy(&clients, &workers)?;
    Ok(())
}

/// A worker that returns what it gets, frame by frame.
fn echo(backend: &str, key: Option<&PublicKey>) -> Result<()> {
    let context = Context::new();
    let socket = dealer(&context, backend, key)?;
    eprintln!("ready");
    let mut frame = Message::new();
    loop {
        socket.recv(&mut frame, 0)?;
        let more = if frame.get_more() { zmq::SNDMORE } else { 0 };
        socket.send(std::mem::replace(&mut frame, Message::new()), more)?;
    }
}

fn client(load: &Load) -> Result<()> {
    let context = Context::new();
    let body = body(load.size);
    let mut clients = Vec::new();
    let mut items = Vec::new();
    for _ in 0..load.clients {
        let socket = dealer(&context, &load.frontend, load.key.as_ref())?;
        items.push(PollItem::from_fd(socket.get_fd()?, zmq::POLLIN));
        clients.push(Client { socket, asked: VecDeque::new(), spare: Vec::new(), ready: false });
    }
    let warm_up = load.warm_up.max(load.clients as u64);
    Run::new(load, &body, warm_up, None)?.ask(&mut clients, &mut items)?;
    let mut run = Run::new(load, &body, u64::MAX, Some(load.duration))?;
    let took = run.ask(&mut clients, &mut items)?;
    print(run.sent, run.answered, took, &run.latency_ns)
}

struct Client {
    socket: Socket,
    /// When the unanswered requests were sent. Nothing tells them apart: the oldest is taken for
    /// the one that is answered.
    asked: VecDeque<Instant>,
    /// Replies, to be sent as requests.
    spare: Vec<Message>,
    ready: bool,
}

struct Run<'a> {
    window: usize,
    body: &'a [u8],
    most: u64,
    until: Option<Instant>,
    sent: u64,
    answered: u64,
    latency_ns: Histogram<u64>,
}

impl<'a> Run<'a> {
    fn new(load: &Load, body: &'a [u8], most: u64, length: Option<Duration>) -> Result<Self> {
        let until = length.map(|length| Instant::now() + length);
        let latency_ns = Histogram::new_with_bounds(100, 3600 * 1_000_000_000, 3)?;
        Ok(Self { window: load.window, body, most, until, sent: 0, answered: 0, latency_ns })
    }

    /// Asks until the end and waits for all replies. How long that took.
    fn ask(&mut self, clients: &mut [Client], items: &mut [PollItem<'_>]) -> Result<Duration> {
        let began = Instant::now();
        for client in &mut *clients {
            client.submit(self, began)?;
            client.ready = true;
        }
        loop {
            for client in clients.iter_mut().filter(|client| client.ready) {
                client.serve(self)?;
            }
            if self.answered == self.sent && !self.goes_on(Instant::now()) {
                return Ok(began.elapsed());
            }
            let at_once = clients.iter().any(|client| client.ready);
            socket::poll(items, at_once.then_some(Duration::ZERO))?;
            for (client, item) in clients.iter_mut().zip(&*items) {
                client.ready |= item.is_readable();
            }
        }
    }

    fn goes_on(&self, now: Instant) -> bool {
        self.sent < self.most && self.until.is_none_or(|until| now < until)
    }
}

impl Client {
    fn serve(&mut self, run: &mut Run<'_>) -> Result<()> {
        self.ready = false;
        for _ in 0..TURNS {
            let received = self.receive(run)?;
            let now = Instant::now();
            for asked in self.asked.drain(..received) {
                run.latency_ns.saturating_record(now.saturating_duration_since(asked).as_nanos() as u64);
            }
            if !self.submit(run, now)? {
                return Ok(());
            }
        }
        self.ready = true;
        Ok(())
    }

    /// Takes all that has come. How much that was.
    fn receive(&mut self, run: &mut Run<'_>) -> Result<usize> {
        let mut received = 0;
        loop {
            let mut frame = Message::new();
            match self.socket.recv(&mut frame, DONTWAIT) {
                Ok(()) => {}
                Err(zmq::Error::EAGAIN) => return Ok(received),
                Err(error) => return Err(error.into()),
            }
            ensure!(*frame == *run.body, "a reply is not what was sent");
            self.spare.push(frame);
            received += 1;
            run.answered += 1;
        }
    }

    /// Fills the window. Whether anything was sent.
    fn submit(&mut self, run: &mut Run<'_>, now: Instant) -> Result<bool> {
        let mut submitted = false;
        while self.asked.len() < run.window && run.goes_on(now) {
            let frame = self.spare.pop().unwrap_or_else(|| Message::from(run.body));
            self.socket.send(frame, DONTWAIT)?;
            self.asked.push_back(now);
            run.sent += 1;
            submitted = true;
        }
        Ok(submitted)
    }
}
