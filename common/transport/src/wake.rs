//! Wakes a thread that sleeps in a poll.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Wakes the thread that polls the [`Alarm`]. Costs one atomic operation if it is awake already.
#[derive(Clone, Debug)]
pub struct Waker {
    ringing: Arc<AtomicBool>,
    pipe: Arc<PipeWriter>,
}

/// The descriptor that the sleeping thread polls.
#[derive(Debug)]
pub struct Alarm {
    ringing: Arc<AtomicBool>,
    pipe: PipeReader,
}

/// Creates a waker and its alarm.
///
/// # Errors
/// If the system has no pipe left.
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
            // The pipe never holds more than one byte, so this does not block. It fails only if the alarm
            // was dropped.
            let _ = (&*self.pipe).write(&[0]);
        }
    }
}

impl Alarm {
    /// Makes the descriptor unreadable again, without blocking. Returns whether it was readable.
    /// Check for work after this call, not before it: otherwise the alarm stays set for work that is
    /// done already.
    pub fn clear(&self) -> bool {
        // A waker that was interrupted before its write sets the alarm once more, later.
        let was_set = self.ringing.load(Ordering::Acquire) && matches!((&self.pipe).read(&mut [0]), Ok(1));
        if was_set {
            self.ringing.swap(false, Ordering::AcqRel);
        }
        was_set
    }
}

/// The descriptor to poll for reading.
impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn rings(alarm: &Alarm) -> bool {
        poll(&mut [PollFd::new(alarm.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn an_alarm_rings_until_it_is_cleared_however_often_it_was_set() {
        let (waker, alarm) = alarm().unwrap();
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
        let (waker, alarm) = alarm().unwrap();
        // The waker's first half: it is interrupted before it writes.
        assert!(!waker.ringing.swap(true, Ordering::AcqRel));
        assert!(!alarm.clear());
        // A second waker leaves the write to the first.
        waker.wake();
        assert!(!rings(&alarm));
        (&*waker.pipe).write_all(&[0]).unwrap();
        assert!(rings(&alarm));
        assert!(alarm.clear() && !alarm.clear());
        assert!(!rings(&alarm));
        waker.wake();
        assert!(rings(&alarm));
    }
}
