//! A flag that another thread raises, and that wakes the server's loop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use giostra_transport::wake::{self, Alarm, Waker};

/// The end that raises the flag.
#[derive(Clone, Debug)]
pub(crate) struct Notifier {
    raised: Arc<AtomicBool>,
    waker: Waker,
}

/// The server's end.
#[derive(Debug)]
pub(crate) struct Notified {
    raised: Arc<AtomicBool>,
    alarm: Alarm,
}

/// Returns both ends of a flag that is not raised.
///
/// # Errors
/// If the system gives no pipe.
pub(crate) fn channel() -> io::Result<(Notifier, Notified)> {
    let (waker, alarm) = wake::alarm()?;
    let raised = Arc::new(AtomicBool::new(false));
    Ok((Notifier { raised: Arc::clone(&raised), waker }, Notified { raised, alarm }))
}

impl Notifier {
    /// Raises the flag.
    pub(crate) fn notify(&self) {
        self.raised.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Notified {
    /// Lowers the flag; returns whether it was raised.
    pub(crate) fn take(&mut self) -> bool {
        // The alarm first: if the flag is seen before its alarm rings, the next call clears it.
        self.alarm.clear();
        self.raised.load(Ordering::Relaxed) && self.raised.swap(false, Ordering::AcqRel)
    }
}

/// The descriptor is readable once the flag has been raised.
impl AsFd for Notified {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn an_alarm_that_rings_after_its_flag_was_seen_is_silenced_at_the_next_look() {
        let (notifier, mut notified) = channel().unwrap();
        let rings = |notified: &Notified| {
            let mut items = [zmq::PollItem::from_fd(notified.as_fd().as_raw_fd(), zmq::POLLIN)];
            zmq::poll(&mut items, 0).unwrap() == 1
        };
        // The notifier is interrupted between its two steps.
        notifier.raised.store(true, Ordering::Release);
        assert!(notified.take());
        notifier.waker.wake();
        assert!(rings(&notified));
        assert!(!notified.take());
        assert!(!rings(&notified), "the server would never sleep again");
        notifier.notify();
        assert!(rings(&notified) && notified.take() && !rings(&notified));
    }
}
