//! Light stand-ins for many workers: sockets in a few threads of this process, which answer an
//! `echo` without looking at it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use giostra_protocol::codec::Message;
use giostra_protocol::{Bytes, DEFAULT_POOL, FromWorker, Outcome, Registration, ToWorker};
use giostra_transport::socket;
use zmq::{Context, PollItem, Socket};

/// Sockets of one libzmq context, which has room for a thousand, and of one thread.
const PER_THREAD: usize = 500;

/// How soon the threads notice that they are no longer wanted.
const TICK: Duration = Duration::from_millis(50);

/// What stands in an `echo` before its argument.
const BEFORE_ARGUMENT: usize = 7;

/// Workers that are connected until this is dropped.
#[derive(Debug)]
pub struct Crowd {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Begins to connect this many, which do not say where they are.
    pub fn join(backend: &str, workers: usize) -> Self {
        Self::on_hosts(backend, DEFAULT_POOL, workers, 0)
    }

    /// Begins to connect workers of a pool, so many on each of the hosts `node-1`, `node-2` ..
    pub fn on_hosts(backend: &str, pool: &str, workers: usize, per_host: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let numbers: Vec<_> = (0..workers).collect();
        let threads = numbers.chunks(PER_THREAD).map(|chunk| {
            let (backend, numbers, over) = (backend.to_string(), chunk.to_vec(), Arc::clone(&over));
            let pool = pool.to_string();
            thread::spawn(move || {
                // Its requests are then not answered, and the load fails.
                if let Err(error) = serve((&backend, &pool), &numbers, per_host, &over) {
                    eprintln!("a stand-in for workers failed: {error:#}");
                }
            })
        });
        Self { threads: threads.collect(), over }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve((backend, pool): (&str, &str), numbers: &[usize], per_host: usize, over: &AtomicBool) -> Result<()> {
    let context = Context::new();
    let mut workers = Vec::new();
    for number in numbers {
        let host = number.checked_div(per_host).map_or_else(String::new, |host| format!("node-{}", host + 1));
        workers.push(Worker::join(&context, backend, pool, *number, host)?);
    }
    let descriptor = |worker: &Worker| Ok(PollItem::from_fd(worker.socket.get_fd()?, zmq::POLLIN));
    let mut items = workers.iter().map(descriptor).collect::<Result<Vec<_>>>()?;
    while !over.load(Ordering::Relaxed) {
        socket::poll(&mut items, Some(TICK))?;
        for (worker, _) in workers.iter_mut().zip(&items).filter(|(_, item)| item.is_readable()) {
            worker.hear()?;
        }
    }
    Ok(())
}

struct Worker {
    socket: Socket,
    envelope: Vec<u8>,
    attachments: Vec<Bytes>,
}

impl Worker {
    fn join(context: &Context, backend: &str, pool: &str, number: usize, host: String) -> Result<Self> {
        let (name, pool) = (format!("stand-in-{number}"), pool.into());
        let register: FromWorker = Registration { name, pool, host, ..Registration::default() }.into();
        let hiccup = ToWorker::<Bytes>::Hiccup.encode().envelope;
        let socket =
            socket::dealer(context, &register.encode().envelope, &hiccup, Duration::ZERO, socket::PEER_TIMEOUT, None)?;
        socket.connect(backend)?;
        Ok(Self { socket, envelope: Vec::new(), attachments: Vec::new() })
    }

    /// Answers all that has come, and what comes meanwhile: sending takes the descriptor's notice
    /// of it away.
    fn hear(&mut self) -> Result<()> {
        loop {
            let mut results = Vec::new();
            while let Some(frames) = socket::receive(&self.socket)? {
                match ToWorker::decode(&frames)? {
                    ToWorker::Dispatch { requests, .. } => results.extend(
                        requests.into_iter().map(|(ticket, body)| (ticket, Outcome::Ok(body.slice(BEFORE_ARGUMENT..)))),
                    ),
                    ToWorker::Ping { sequence } => {
                        self.send(FromWorker::Pong { sequence, computing: 0, waiting: 0, oldest_ms: 0 })?;
                    }
                    ToWorker::Welcome { .. } | ToWorker::Cancel(_) | ToWorker::Closing | ToWorker::Goodbye => {}
                    other => bail!("the broker said {other:?}"),
                }
            }
            if results.is_empty() {
                return Ok(());
            }
            self.send(FromWorker::Replies(results)).context("replies")?;
        }
    }

    fn send(&mut self, message: FromWorker) -> Result<()> {
        message.encode_into(&mut self.envelope, &mut self.attachments);
        socket::send(&mut self.socket, &self.envelope, &self.attachments)?;
        Ok(())
    }
}
