//! Times that are added to a clock.

use std::time::{Duration, Instant};

/// The longest time that the command lines take, and that the libraries add to a clock: ten years.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The end of a time that begins at `from`. A time of more than ten years, such as
/// [`Duration::MAX`], counts as ten years: the sum is within the range of every system's clock.
pub fn deadline(from: Instant, time: Duration) -> Instant {
    from + time.min(MAX_DURATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_end_is_over_in_ten_years() {
        let now = Instant::now();
        assert_eq!(deadline(now, Duration::from_secs(1)), now + Duration::from_secs(1));
        assert_eq!(deadline(now, Duration::MAX), now + MAX_DURATION);
    }
}
