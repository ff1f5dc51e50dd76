//! Handshakes that fail again and again, and when to try the next one.

use std::time::{Duration, Instant};

use crate::monitor::Failure;

/// The number of handshakes that may fail in a row before attempts are spaced out. A broker that is
/// killed and restarted causes one or two.
const MAX_FAILURES: u32 = 3;

/// The time between two attempts from then on.
pub const PAUSE: Duration = Duration::from_secs(1);

/// The failed handshakes in a row, and when to connect again.
#[derive(Debug, Default)]
pub struct Attempts {
    failed: u32,
    pub resume: Option<Instant>,
}

impl Attempts {
    /// Records a failed handshake. Returns whether to replace the socket by a new one, to be
    /// connected once [`Self::is_due`] says so.
    pub fn failed(&mut self, failure: Failure, now: Instant) -> bool {
        self.failed += 1;
        let replace = (self.failed >= MAX_FAILURES || !failure.is_retried()) && self.resume.is_none();
        if replace {
            self.resume = Some(now + PAUSE);
        }
        replace
    }

    /// Records that the broker answered.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Returns whether it is time to connect, once.
    pub fn is_due(&mut self, now: Instant) -> bool {
        self.resume.take_if(|resume| *resume <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn after_three_failures_there_is_a_pause_and_then_one_attempt_a_second() {
        let mut attempts = Attempts::default();
        let mut now = Instant::now();
        let broken = Failure::Broken(Errno::EPIPE);
        assert_eq!([(); 3].map(|()| attempts.failed(broken, now)), [false, false, true]);
        for _ in 0..3 {
            // A late failure changes nothing.
            assert!(!attempts.failed(broken, now) && !attempts.is_due(now));
            assert_eq!(attempts.resume, Some(now + PAUSE));
            now += PAUSE;
            assert!(attempts.is_due(now) && !attempts.is_due(now));
            assert!(attempts.failed(broken, now));
        }
        attempts.succeeded();
        assert!(!attempts.failed(broken, now) && attempts.resume.is_none());
        // After this failure libzmq does not reconnect by itself.
        assert!(attempts.failed(Failure::Refused(400), now));
    }
}
