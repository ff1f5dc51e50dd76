//! Sleeping until sockets or descriptors are ready.

use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, Instant};

use zmq::Error;

use super::QuietSocket;
use crate::ffi::{self, descriptor, retrying};
use crate::io_loop::{Inside, IoLoop};
use crate::time::deadline;

/// The most passes of the I/O loop before the sockets are looked at: what arrives meanwhile is
/// handled together.
const MAX_PASSES: usize = 8;

/// Whether a sleeping thread runs the I/O loop meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleeper {
    /// It does, unless another thread of the process does.
    RunsLoop {
        /// For how long it looks for news before it sleeps, giving way to other threads.
        looks: Duration,
    },
    /// It does not: the loop may be held up for long, as by a name server.
    Follows,
}

/// Sleeps until one of `sockets` may have a message, one of `descriptors` is readable, or the
/// timeout has passed. A signal may end the sleep early. All sockets have to be of the loop's
/// context.
pub fn sleep(
    io: &IoLoop,
    sleeper: Sleeper,
    sockets: &[&QuietSocket],
    descriptors: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> zmq::Result<()> {
    // Asks libzmq, also for messages whose news a send has consumed.
    sleep_until(io, sleeper, || any_readable(sockets), sockets, descriptors, timeout)
}

/// As [`sleep`], for sockets that were read until they were empty after the last send to each: asks
/// [`QuietSocket::has_news`], which costs little, as often as there are sockets.
pub fn sleep_for_news(
    io: &IoLoop,
    sleeper: Sleeper,
    sockets: &[&QuietSocket],
    descriptors: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> zmq::Result<()> {
    let has_news = || Ok(sockets.iter().any(|socket| socket.has_news()));
    sleep_until(io, sleeper, has_news, sockets, descriptors, timeout)
}

fn sleep_until(
    io: &IoLoop,
    sleeper: Sleeper,
    is_ready: impl Fn() -> zmq::Result<bool>,
    sockets: &[&QuietSocket],
    descriptors: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> zmq::Result<()> {
    if let Sleeper::RunsLoop { looks } = sleeper
        && let Some(inside) = io.enter()
    {
        return run_loop(inside, looks, is_ready, descriptors, timeout);
    }
    if is_ready()? { Ok(()) } else { follow(io, sockets, descriptors, timeout) }
}

/// Handles the I/O that is due, without waiting, unless another thread runs the loop.
pub fn run_io(io: &IoLoop) {
    if let Some(mut inside) = io.enter() {
        inside.timers();
        for _ in 0..MAX_PASSES {
            if !inside.pass() {
                break;
            }
        }
    }
}

/// Sends what sockets have taken, without looking for what has arrived, unless another thread runs
/// the loop, which will.
pub fn push(io: &IoLoop) {
    if let Some(mut inside) = io.try_enter() {
        inside.push();
    }
}

fn run_loop(
    mut inside: Inside<'_>,
    mut looks: Duration,
    is_ready: impl Fn() -> zmq::Result<bool>,
    descriptors: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> zmq::Result<()> {
    let until = timeout.map(|timeout| deadline(Instant::now(), timeout));
    loop {
        let timer = inside.timers();
        // Arming sends what the sockets have taken.
        let armed = inside.arm();
        if is_ready()? {
            return Ok(());
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            inside.pass();
            return Ok(());
        }
        let looks = std::mem::take(&mut looks);
        if !looks.is_zero() {
            look(&mut inside, looks);
            continue;
        }
        let left = if armed { [left, timer].into_iter().flatten().min() } else { Some(Duration::ZERO) };
        let all: Vec<_> = [inside.descriptor()].into_iter().chain(descriptors.iter().copied()).collect();
        let ended = ffi::poll_readable(&all, 1, left)?;
        inside.pass();
        if ended {
            return Ok(());
        }
    }
}

/// Handles what arrives, until something has or the time is over.
fn look(inside: &mut Inside<'_>, time: Duration) {
    let began = Instant::now();
    while !inside.pass() && began.elapsed() < time {
        thread::yield_now();
    }
}

/// Makes about half as many system calls as libzmq's own poll, which polls without a timeout first
/// and queries each socket again afterwards.
fn follow(
    io: &IoLoop,
    sockets: &[&QuietSocket],
    descriptors: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> zmq::Result<()> {
    let _follower = io.follow();
    if sockets.iter().all(|socket| socket.arm()) {
        let mut all = descriptors.to_vec();
        for socket in sockets {
            all.push(descriptor(socket)?);
        }
        ffi::poll_readable(&all, 0, timeout)?;
    }
    sockets.iter().for_each(|socket| socket.disarm());
    Ok(())
}

fn any_readable(sockets: &[&QuietSocket]) -> zmq::Result<bool> {
    for socket in sockets {
        if retrying(|| socket.get_events())?.contains(zmq::POLLIN) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sleeps until one of the items is ready or the timeout has passed. `None` sleeps without a limit.
/// A signal ends the sleep early.
pub fn poll(items: &mut [zmq::PollItem<'_>], timeout: Option<Duration>) -> zmq::Result<()> {
    // Rounded up: after a sleep that ends too early, several short ones would follow.
    let timeout = timeout.map_or(-1, |timeout| timeout.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(i64::MAX));
    match zmq::poll(items, timeout) {
        Ok(_) | Err(Error::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}
