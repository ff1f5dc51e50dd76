//! The floor: the relay of one request at a time over TCP sockets, without any messaging between.
//! What it takes is what the machine takes for the same wake-ups and system calls.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Accepts `workers` workers, and then one client after the other, whose requests go to the workers
/// in turn. Looks for data without sleeping for as long as `spin`.
pub fn relay(workers: usize, size: usize, spin: Duration) -> Result<()> {
    let [frontend, backend] = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    eprintln!("listening {} {}", frontend.local_addr()?, backend.local_addr()?);
    let mut workers = (0..workers).map(|_| accept(&backend)).collect::<Result<Vec<_>>>()?;
    let mut message = vec![0; size];
    loop {
        let mut client = accept(&frontend)?;
        while receive(&mut client, &mut message, spin)? {
            workers.rotate_left(1);
            let worker = workers.first_mut().context("no workers")?;
            worker.write_all(&message)?;
            ensure!(receive(worker, &mut message, spin)?, "a worker has left");
            client.write_all(&message)?;
        }
    }
}

fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Receives a whole message. Returns false if the other side has closed.
fn receive(stream: &mut TcpStream, message: &mut [u8], spin: Duration) -> Result<bool> {
    let began = Instant::now();
    let mut received = 0;
    while received < message.len() {
        match stream.read(&mut message[received..]) {
            Ok(0) => return Ok(false),
            Ok(bytes) => received += bytes,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
            Err(_) if began.elapsed() < spin => thread::yield_now(),
            Err(_) => drop(poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?),
        }
    }
    Ok(true)
}

/// A worker that returns what it gets.
pub fn echo(backend: &str, size: usize) -> Result<()> {
    let mut stream = TcpStream::connect(backend)?;
    stream.set_nodelay(true)?;
    eprintln!("ready");
    let mut message = vec![0; size];
    while stream.read_exact(&mut message).is_ok() {
        stream.write_all(&message)?;
    }
    Ok(())
}

/// What a client has measured.
pub struct Measured {
    /// Requests that were answered.
    pub answered: u64,
    /// For how long it asked.
    pub took: Duration,
    /// Of each request, in nanoseconds.
    pub latency_ns: Histogram<u64>,
}

/// A client with one request at a time.
pub fn client(frontend: &str, body: &[u8], warm_up: u64, length: Duration) -> Result<Measured> {
    let mut stream = TcpStream::connect(frontend).with_context(|| format!("can't connect to {frontend}"))?;
    stream.set_nodelay(true)?;
    let mut reply = vec![0; body.len()];
    let mut ask = || -> Result<Instant> {
        let asked = Instant::now();
        stream.write_all(body)?;
        stream.read_exact(&mut reply)?;
        ensure!(reply == body, "a reply is not what was sent");
        Ok(asked)
    };
    for _ in 0..warm_up {
        ask()?;
    }
    let began = Instant::now();
    let mut measured = Measured {
        answered: 0,
        took: Duration::ZERO,
        latency_ns: Histogram::new_with_bounds(100, 3600 * 1_000_000_000, 3)?,
    };
    while began.elapsed() < length {
        let asked = ask()?;
        measured.latency_ns.saturating_record(asked.elapsed().as_nanos() as u64);
        measured.answered += 1;
    }
    measured.took = began.elapsed();
    Ok(measured)
}
