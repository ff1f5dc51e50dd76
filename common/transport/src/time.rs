//! Deadlines that never overflow, and the state of the wall clock.

use std::time::{Duration, Instant};

use crate::ffi;

/// The longest duration that the command lines accept and the libraries add to an instant: ten years.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Returns the instant `time` after `from`. A longer time than ten years, such as [`Duration::MAX`],
/// counts as ten years, so that the sum is in the range of every system's clock.
pub fn deadline(from: Instant, time: Duration) -> Instant {
    from + time.min(MAX_DURATION)
}

/// Returns whether this machine's wall clock is kept right by a time server, by what the kernel knows;
/// `None` if it does not say.
pub fn clock_is_synchronised() -> Option<bool> {
    ffi::clock_is_synchronised()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_time_counts_as_ten_years() {
        let now = Instant::now();
        assert_eq!(deadline(now, Duration::from_secs(1)), now + Duration::from_secs(1));
        assert_eq!(deadline(now, Duration::MAX), now + MAX_DURATION);
    }
}
