//! The bar on stderr that shows the progress of something long, and the time that is left.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Returns a bar for so many units, or a spinner if their number is not known. It is hidden unless
/// it is `shown` and stderr is a terminal that can be drawn on.
pub fn new(length: Option<u64>, shown: bool) -> ProgressBar {
    let bar = if shown { ProgressBar::new(length.unwrap_or(0)) } else { ProgressBar::hidden() };
    let template = if length.is_some() { "{bar:30} {percent:>3}%  {msg}" } else { "{spinner} {msg}" };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Estimates the time for the rest from the pace so far.
pub fn left(done: f64, rest: f64, elapsed: Duration) -> Option<Duration> {
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * rest.max(0.0) / done).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_is_done_took() {
        let seconds = Duration::from_secs;
        assert_eq!(left(25.0, 75.0, seconds(2)), Some(seconds(6)));
        assert_eq!(left(25.0, -1.0, seconds(2)), Some(seconds(0)));
        assert_eq!(left(0.0, 75.0, seconds(2)), None);
    }
}
