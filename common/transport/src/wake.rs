//! Waking a thread that sleeps in a poll.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Wakes the thread that holds the [`Alarm`]. Cheap when it has been woken already.
#[derive(Clone, Debug)]
pub struct Waker {
    ringing: Arc<AtomicBool>,
    pipe: Arc<PipeWriter>,
}

/// What the sleeping thread polls.
#[derive(Debug)]
pub struct Alarm {
    ringing: Arc<AtomicBool>,
    pipe: PipeReader,
}

/// A waker and its alarm. An error if the system gives no pipe.
pub fn alarm() -> io::Result<(Waker, Alarm)> {
    let (reader, writer) = io::pipe()?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let ringing = Arc::new(AtomicBool::new(false));
    Ok((Waker { ringing: Arc::clone(&ringing), pipe: Arc::new(writer) }, Alarm { ringing, pipe: reader }))
}

impl Waker {
    /// Makes the alarm's descriptor readable until [`Alarm::clear`].
    pub fn wake(&self) {
        if !self.ringing.swap(true, Ordering::AcqRel) {
            // One byte at most is ever in the pipe, so this does not block; it fails only if nobody listens any
            // more.
            let _ = (&*self.pipe).write(&[0]);
        }
    }
}

impl Alarm {
    /// The descriptor to poll for reading.
    pub fn fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }

    /// Silences the alarm, without waiting for anybody. Look at what the waker was about after
    /// this, not before: otherwise the alarm goes on ringing for what has been seen to already.
    pub fn clear(&mut self) {
        // A waker that has not written its byte yet writes it later: then the alarm rings once more.
        if self.ringing.load(Ordering::Acquire) && matches!(self.pipe.read(&mut [0]), Ok(1)) {
            self.ringing.swap(false, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings(alarm: &Alarm) -> bool {
        let mut items = [zmq::PollItem::from_fd(alarm.fd(), zmq::POLLIN)];
        zmq::poll(&mut items, 0).unwrap() == 1
    }

    #[test]
    fn an_alarm_rings_until_it_is_cleared_however_often_it_was_set_off() {
        let (waker, mut alarm) = alarm().unwrap();
        assert!(!rings(&alarm));
        for _ in 0..100_000 {
            waker.wake();
        }
        assert!(rings(&alarm));
        alarm.clear();
        assert!(!rings(&alarm));
        waker.clone().wake();
        assert!(rings(&alarm));
    }

    #[test]
    fn clearing_waits_for_nobody_and_loses_no_wake() {
        let (waker, mut alarm) = alarm().unwrap();
        // The waker's first half: it is interrupted before it writes.
        assert!(!waker.ringing.swap(true, Ordering::AcqRel));
        alarm.clear();
        // Another one leaves the writing to it.
        waker.wake();
        assert!(!rings(&alarm));
        (&*waker.pipe).write_all(&[0]).unwrap();
        assert!(rings(&alarm));
        alarm.clear();
        assert!(!rings(&alarm));
        waker.wake();
        assert!(rings(&alarm));
    }
}
