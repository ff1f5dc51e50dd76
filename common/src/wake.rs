//! Waking a thread that sleeps in a poll.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    let ringing = Arc::new(AtomicBool::new(false));
    Ok((Waker { ringing: Arc::clone(&ringing), pipe: Arc::new(writer) }, Alarm { ringing, pipe: reader }))
}

impl Waker {
    /// Makes the alarm's descriptor readable until [`Alarm::clear`].
    pub fn wake(&self) {
        if !self.ringing.swap(true, Ordering::AcqRel) {
            // One byte at most is ever in the pipe, so this does not block; it fails only if nobody listens any more.
            let _ = (&*self.pipe).write(&[0]);
        }
    }
}

impl Alarm {
    /// The descriptor to poll for reading.
    pub fn fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }

    /// Silences the alarm. Look at what the waker was about after this, not before.
    pub fn clear(&mut self) {
        if self.ringing.load(Ordering::Acquire) {
            // Waits for the byte if the waker is just about to write it.
            let _ = self.pipe.read(&mut [0]);
            self.ringing.store(false, Ordering::Release);
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
}
