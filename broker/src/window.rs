//! How many requests a worker is handed at once: so many that it always has work, and no more.
//!
//! By Little's law, a worker that answers `r` requests a second and holds `W` of them keeps each for `W / r`. A window of
//!
//! ```text
//! W = r x (hold + 2 x round trip),  never below its threads and one more, never above its bound
//! ```
//!
//! gives it `hold` of work and covers the way there and back: requests of ten seconds are not hoarded by one worker while others have none,
//! and those of a microsecond still stream. `r` is that of the time in which it has work; the round trip that of its pings. Is the window itself what slows the
//! worker down (`r = W / round trip`), then each reckoning at least doubles it.

use std::time::Duration;

/// The share of a new measurement in the estimate.
const GAIN: f64 = 0.25;

/// Measurements shorter than this are put together: replies that come in one turn seem to take no time.
const SHORTEST: Duration = Duration::from_millis(1);

/// A worker's window.
#[derive(Clone, Debug)]
pub struct Window {
    least: usize,
    most: usize,
    now: usize,
    /// How much work to hold; zero: the window is always `most`.
    hold: Duration,
    /// Seconds from one reply to the next while there is work.
    pace: Option<f64>,
    /// Since when it has had work that is not in the estimate yet, in nanoseconds, and the replies since.
    since: Option<u64>,
    replies: u64,
}

impl Window {
    /// Of a worker with so many threads.
    pub fn new(threads: usize, most: usize, hold: Duration) -> Self {
        let least = if hold.is_zero() { most } else { threads.saturating_add(1).min(most) };
        Self { least, most, now: least, hold, pace: None, since: None, replies: 0 }
    }

    /// The most requests that the worker is handed at once, now.
    pub fn now(&self) -> usize {
        self.now
    }

    /// The most that it is ever handed at once.
    pub fn most(&self) -> usize {
        self.most
    }

    /// It has been handed requests, after it had none or not.
    pub fn handed(&mut self, now: u64) {
        self.since.get_or_insert(now);
    }

    /// It has replied to so many, and has still some or not. Its last ping took so long.
    pub fn replied(&mut self, replies: u64, has_more: bool, round_trip: Duration, now: u64) {
        let Some(since) = self.since else { return };
        self.replies += replies;
        let time = Duration::from_nanos(now.saturating_sub(since));
        if self.replies > 0 && (time >= SHORTEST || !has_more) {
            let measured = time.as_secs_f64() / self.replies as f64;
            let pace = self.pace.map_or(measured, |pace| pace + GAIN * (measured - pace));
            (self.pace, self.replies) = (Some(pace), 0);
            self.since = Some(now);
            self.now = self.reckon(pace, round_trip);
        }
        if !has_more {
            (self.since, self.replies) = (None, 0);
        }
    }

    fn reckon(&self, pace: f64, round_trip: Duration) -> usize {
        let time = self.hold.as_secs_f64() + 2.0 * round_trip.as_secs_f64();
        // Division by zero gives infinity, and the cast the largest number.
        ((time / pace).ceil() as usize).clamp(self.least, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_millis(50);
    const MILLI: u64 = 1_000_000;

    /// Lets a worker with so many threads compute requests of so many nanoseconds that take half of `way` to it and half back, always with
    /// as many in flight as its window allows. The window after so many requests.
    fn after(requests: usize, threads: u64, each: u64, way: u64) -> usize {
        let mut window = Window::new(threads as usize, 1024, HOLD);
        let (mut now, mut free, mut back) = (0, vec![0; threads as usize], std::collections::BinaryHeap::new());
        let (mut in_flight, mut answered) = (0, 0);
        while answered < requests {
            while in_flight < window.now() {
                window.handed(now);
                free.sort_unstable();
                let start = free[0].max(now + way / 2);
                free[0] = start + each;
                back.push(std::cmp::Reverse(start + each + way / 2));
                in_flight += 1;
            }
            let std::cmp::Reverse(at) = back.pop().unwrap();
            (now, in_flight, answered) = (at, in_flight - 1, answered + 1);
            window.replied(1, in_flight > 0, Duration::from_nanos(way), now);
        }
        window.now()
    }

    #[test]
    fn long_requests_are_not_hoarded_and_short_ones_stream() {
        assert_eq!(after(30, 1, 10_000 * MILLI, MILLI / 5), 2);
        assert_eq!(after(100, 8, 10_000 * MILLI, MILLI / 5), 9);
        assert_eq!(after(300, 1, 200 * MILLI, MILLI / 5), 2);
        assert!((45..=55).contains(&after(300, 1, MILLI, MILLI / 5)), "{}", after(300, 1, MILLI, MILLI / 5));
        assert_eq!(after(3000, 1, MILLI / 1000, MILLI / 5), 1024);
    }

    #[test]
    fn a_long_way_does_not_starve_the_worker() {
        // 100 requests are on the way at any time.
        let window = after(3000, 1, MILLI, 100 * MILLI);
        assert!((100..=300).contains(&window), "{window}");
    }

    #[test]
    fn without_a_time_to_hold_it_is_fixed_and_the_bound_holds() {
        let mut window = Window::new(4, 10, Duration::ZERO);
        window.handed(0);
        window.replied(1, true, Duration::ZERO, 10_000 * MILLI);
        assert_eq!((window.now(), window.most()), (10, 10));
        let mut window = Window::new(64, 3, HOLD);
        assert_eq!(window.now(), 3);
        window.handed(5);
        window.replied(u64::MAX, false, Duration::MAX, 5);
        assert_eq!(window.now(), 3);
    }

    #[test]
    fn idle_time_counts_for_nothing() {
        let mut window = Window::new(1, 1024, HOLD);
        for second in 1..100 {
            window.handed(second * 1000 * MILLI);
            window.replied(1, false, Duration::ZERO, second * 1000 * MILLI + 5 * MILLI);
        }
        assert_eq!(window.now(), 10);
    }
}
