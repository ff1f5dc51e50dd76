//! The window of a worker: how many requests it is handed at once, so that it always has work and
//! no more than that.
//!
//! By Little's law, a worker that answers `r` requests a second and holds `W` of them keeps each
//! for `W / r`. A window of
//!
//! ```text
//! W = r x (hold + 2 x round trip),  never below its threads and its spare, never above its bound
//! ```
//!
//! gives it `hold` of work and covers the way there and back. Of requests of ten seconds it holds
//! the next one, so that other workers get the rest; requests of a microsecond stream. The round
//! trip is that of its pings. `r` is that of the latest work: the window is the number of requests
//! that it has answered in its last `hold + 2 x round trip` of having any, with older ones fading.
//! So long requests shrink it with the first reply, and short ones let it grow within milliseconds.
//! Time without work does not count.
//!
//! The spare is one request with strict rotation, which comes round to each seat in turn. Where the
//! rotation passes over full seats there is none: a spare behind a long request would wait for it
//! while another worker idles. Requests shorter than `hold` get theirs from the product.
//!
//! Where long requests differ in length, one spare is too few: strict rotation waits for the seat
//! with the longest, and the others run dry. So while another worker idles, the seat whose turn it
//! is gets more spares ([`Window::widen`]), and loses them again when they have not been needed for
//! a while. Where all requests take equally long, there is one spare.
//!
//! The window can't trap itself: if it slows the worker down, because each request goes there and
//! back and nothing is computed meanwhile, then `r = W / round trip`, and the next window is at
//! least twice `W`.
//!
//! A worker that has rested starts again with the smallest window: requests after a pause may be of
//! another kind, and excessive caution costs one round trip.

use std::time::Duration;

/// Requests that a worker may hold besides those that its threads compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spare {
    /// When the next request is there as soon as a thread is free.
    One,
    /// When a request stays with the broker instead, for the first worker with a free thread.
    None,
}

/// The maximum number of spares. With seven, three workers whose requests take exponentially
/// distributed times are busy for 93 % of the time, with one for 76 %, and without a bound for 97 %
/// (3,000 requests, simulated).
const MAX_SPARES: usize = 7;

/// The replies of each thread, without more spares having been needed, after which one is removed.
const CALM: u64 = 16;

/// The nanoseconds without work after which a worker has rested.
const REST: u64 = 1_000_000_000;

/// A worker's window. Times are nanoseconds of one clock.
#[derive(Clone, Debug)]
pub struct Window {
    threads: usize,
    /// The spares, at least and now, and the replies since they were too few.
    min_spare: usize,
    spare: usize,
    calm: u64,
    /// The bounds of threads and requests from the registration, and the bound of requests now.
    bounds: (usize, usize),
    max: usize,
    now: usize,
    hold: Duration,
    /// Of the latest work: its duration and its replies.
    time: f64,
    replies: f64,
    /// The time up to which that is counted, and whether the worker has had work since.
    until: u64,
    busy: bool,
}

impl Window {
    /// Creates the window of a worker with `threads` threads that may hold `max` requests. With a
    /// `hold` of zero the window is always `max`.
    pub fn new(threads: usize, max: usize, hold: Duration, spare: Spare) -> Self {
        let spare = match spare {
            _ if hold.is_zero() => max,
            Spare::One => 1,
            // It is handed something even if it claims to have no threads.
            Spare::None => usize::from(threads == 0),
        };
        let mut window = Self {
            threads,
            min_spare: spare,
            spare,
            calm: 0,
            bounds: (threads, max),
            max,
            now: 0,
            hold,
            time: 0.0,
            replies: 0.0,
            until: 0,
            busy: false,
        };
        window.now = window.min();
        window
    }

    /// Returns the smallest window for now.
    fn min(&self) -> usize {
        self.threads.saturating_add(self.spare).min(self.max)
    }

    /// Returns the number of requests that the worker may hold now.
    pub fn now(&self) -> usize {
        self.now
    }

    /// Returns the number of requests that the worker may hold now if one more can wait: a quarter of
    /// the window stays free, so that an urgent request finds room at once and not only when
    /// the worker has answered. Each thread may have a request, however small the window.
    pub fn for_low(&self) -> usize {
        let free = (self.now / 4).max(1);
        self.now.saturating_sub(free).max(self.threads.max(1)).min(self.now)
    }

    /// Returns the largest window that it ever has.
    pub fn max(&self) -> usize {
        self.bounds.1
    }

    /// Returns the number of requests that it computes at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Gives it a share of the worker: so many threads and requests, within what the worker has
    /// registered with. `None`: as many requests as ever. What it holds beyond that it may still answer.
    pub fn share(&mut self, threads: usize, max: Option<usize>) {
        let before = std::mem::replace(&mut self.threads, threads.clamp(1, self.bounds.0.max(1)));
        self.max = max.unwrap_or(self.bounds.1).clamp(1, self.bounds.1.max(1));
        if self.hold.is_zero() {
            self.spare = self.max;
        }
        // Its pace is that of its threads.
        let now = (self.now * self.threads).div_ceil(before.max(1));
        self.now = now.clamp(self.min(), self.max);
    }

    /// Records that it is handed requests.
    pub fn handed(&mut self, now: u64) {
        if self.busy {
            return;
        }
        if now.saturating_sub(self.until) > REST {
            self.spare = self.min_spare;
            (self.time, self.replies, self.now) = (0.0, 0.0, self.min());
        }
        (self.until, self.busy) = (now, true);
    }

    /// Whether the worker, which holds `held` requests and has no room, may hold one more if others
    /// idle.
    pub fn may_widen(&self, held: usize) -> bool {
        held < self.threads.saturating_add(MAX_SPARES).min(self.max)
    }

    /// Makes room for one more, because others idle.
    pub fn widen(&mut self, held: usize) {
        self.spare = (held + 1).saturating_sub(self.threads).max(self.spare);
        (self.calm, self.now) = (0, self.min().max(self.now));
    }

    /// Records that it has computed `computed` requests, whether it holds more, and the round trip
    /// of its last ping.
    pub fn replied(&mut self, computed: u64, holds_more: bool, round_trip: Duration, now: u64) {
        self.time += now.saturating_sub(self.until) as f64;
        self.replies += computed as f64;
        (self.until, self.busy) = (now, holds_more);
        self.calm = self.calm.saturating_add(computed);
        if self.calm > CALM * self.threads as u64 {
            (self.calm, self.spare) = (0, self.spare.saturating_sub(1).max(self.min_spare));
        }
        let horizon = self.hold.as_nanos() as f64 + 2.0 * round_trip.as_nanos() as f64;
        if self.time > horizon {
            self.replies *= horizon / self.time;
            self.time = horizon;
        }
        // Without any time the quotient is infinite, and the cast the largest number, or 0 without
        // a reply.
        self.now = ((self.replies / self.time * horizon).ceil() as usize).clamp(self.min(), self.max);
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    const HOLD: Duration = Duration::from_millis(50);
    const MICRO: u64 = 1000;
    const MILLI: u64 = 1000 * MICRO;
    const SECOND: u64 = 1000 * MILLI;
    const MAX: usize = 1024;

    /// A worker that has always as many requests in flight as its window allows.
    struct Worker {
        window: Window,
        now: u64,
        /// From the broker to the worker and back.
        way: u64,
        /// When each of its threads is free.
        free: BinaryHeap<Reverse<u64>>,
        /// When the replies to what is in flight are there.
        back: BinaryHeap<Reverse<u64>>,
        /// Replies travel together that are ready within so long.
        together: u64,
    }

    impl Worker {
        fn new(threads: usize, way: u64) -> Self {
            Self::with(threads, way, Spare::One)
        }

        fn with(threads: usize, way: u64, spare: Spare) -> Self {
            let free = (0..threads).map(|_| Reverse(0)).collect();
            let window = Window::new(threads, MAX, HOLD, spare);
            Self { window, now: 0, way, free, back: BinaryHeap::new(), together: 0 }
        }

        /// Returns the window after this many more nanoseconds, in which each request takes as long
        /// as `each` says.
        fn after(&mut self, time: u64, mut each: impl FnMut() -> u64) -> usize {
            let end = self.now + time;
            while self.now < end {
                while self.back.len() < self.window.now() {
                    self.window.handed(self.now);
                    let Reverse(free) = self.free.pop().unwrap();
                    let done = free.max(self.now + self.way / 2) + each();
                    self.free.push(Reverse(done));
                    self.back.push(Reverse(done + self.way / 2));
                }
                self.now = self.back.peek().unwrap().0 + self.together;
                let mut replies = 0;
                while self.back.peek().is_some_and(|&Reverse(at)| at <= self.now) {
                    self.back.pop();
                    replies += 1;
                }
                self.window.replied(replies, !self.back.is_empty(), Duration::from_nanos(self.way), self.now);
            }
            self.window.now()
        }
    }

    #[test]
    fn a_worker_holds_one_long_request_more_than_it_computes() {
        assert_eq!(Worker::new(1, 200 * MICRO).after(100 * SECOND, || 10 * SECOND), 2);
        assert_eq!(Worker::new(1, 200 * MICRO).after(10 * SECOND, || 200 * MILLI), 2);
        // All threads are done at the same time.
        assert_eq!(Worker::new(8, 200 * MICRO).after(100 * SECOND, || 10 * SECOND), 9);
        assert_eq!(Worker::new(64, 200 * MICRO).after(10 * SECOND, || 200 * MILLI), 65);
    }

    #[test]
    fn without_a_spare_a_worker_holds_no_more_long_requests_than_it_computes_and_short_ones_stream() {
        for threads in [1, 4, 64] {
            let worker = || Worker::with(threads, 200 * MICRO, Spare::None);
            assert_eq!(worker().window.now(), threads);
            assert_eq!(worker().after(100 * SECOND, || 10 * SECOND), threads);
            // Longer than the time to hold, if not by much.
            assert_eq!(worker().after(10 * SECOND, || 60 * MILLI), threads);
            assert_eq!(worker().after(2 * MILLI, || MICRO), MAX, "{threads} threads");
            let window = worker().after(2 * SECOND, || 10 * MILLI);
            assert!((5 * threads..=7 * threads + 1).contains(&window), "{threads} threads: {window}");
        }
        // What it says of its threads is not believed.
        assert_eq!(Window::new(0, MAX, HOLD, Spare::None).now(), 1);
    }

    #[test]
    fn while_others_have_nothing_to_do_it_may_hold_a_few_more() {
        let mut worker = Worker::new(4, 200 * MICRO);
        assert_eq!(worker.after(10 * SECOND, || SECOND), 5);
        for held in 5..11 {
            assert!(worker.window.may_widen(held));
            worker.window.widen(held);
            assert_eq!(worker.window.now(), held + 1);
        }
        assert!(!worker.window.may_widen(11));
        assert_eq!(worker.after(10 * SECOND, || SECOND), 11);
        assert_eq!(worker.after(200 * SECOND, || SECOND), 5, "it was not needed for a while");
        // Of a bound, or a fixed size, there is nothing more.
        assert!(!Window::new(1, 2, HOLD, Spare::One).may_widen(2));
        assert!(!Window::new(1, 3, Duration::ZERO, Spare::One).may_widen(3));
    }

    #[test]
    fn short_requests_fill_the_time_to_hold() {
        for (threads, each, expected) in [(1, MILLI, 50), (1, 10 * MILLI, 5), (8, 10 * MILLI, 40)] {
            let window = Worker::new(threads, 100 * MICRO).after(2 * SECOND, || each);
            assert!((expected..=expected + expected / 4 + 1).contains(&window), "{each} ns: {window}");
        }
    }

    #[test]
    fn a_new_worker_streams_within_a_millisecond() {
        assert_eq!(Worker::new(1, 200 * MICRO).after(MILLI, || MICRO), MAX);
    }

    #[test]
    fn replies_that_come_many_at_a_time_make_no_difference() {
        let mut worker = Worker::new(1, 200 * MICRO);
        worker.together = 5 * MILLI;
        let windows: Vec<_> = (0..100).map(|_| worker.after(20 * MILLI, || 500 * MICRO)).collect();
        assert!(windows[10..].iter().all(|window| (90..=115).contains(window)), "{windows:?}");
        // Held back for longer than they are computed, with nothing to compute meanwhile: the
        // window does not settle at that.
        assert_eq!(worker.after(200 * MILLI, || MICRO), MAX);
    }

    #[test]
    fn a_long_round_trip_starves_no_worker() {
        // At least a hundred are on the way at any time, if none is to wait for work. What the
        // pings say covers it twice.
        let window = Worker::new(1, 100 * MILLI).after(10 * SECOND, || MILLI);
        assert!((200..=300).contains(&window), "{window}");
        assert_eq!(Worker::new(1, 100 * MILLI).after(3 * SECOND, || MICRO), MAX);
    }

    #[test]
    fn a_share_is_kept_to_at_once_and_never_more_than_the_whole() {
        let mut worker = Worker::new(8, 0);
        worker.window.share(4, Some(10));
        assert_eq!(worker.window.now(), 5);
        assert!((6..=10).contains(&worker.after(SECOND, || 10 * MILLI)), "{}", worker.window.now());
        worker.window.share(2, Some(4));
        assert!((3..=4).contains(&worker.window.now()), "{}", worker.window.now());
        worker.window.share(100, None);
        assert!((9..=16).contains(&worker.window.now()) && worker.window.max() == MAX, "{}", worker.window.now());
        worker.window.share(0, Some(0));
        assert_eq!(worker.window.now(), 1);
        let mut fixed = Window::new(1, 100, Duration::ZERO, Spare::One);
        fixed.share(1, Some(50));
        assert_eq!(fixed.now(), 50);
        fixed.share(1, None);
        assert_eq!(fixed.now(), 100);
    }

    #[test]
    fn the_window_follows_changing_work_at_once() {
        let mut worker = Worker::new(1, 200 * MICRO);
        for _ in 0..3 {
            assert_eq!(worker.after(100 * MILLI, || MICRO), MAX);
            // Those that it held come to an end; then it holds no more than two.
            worker.after(1100 * 10 * SECOND, || 10 * SECOND);
            assert_eq!((worker.window.now(), worker.back.len()), (2, 1));
            worker.after(20 * SECOND, || MICRO);
            worker.after(5 * MILLI, || MICRO);
            assert_eq!(worker.window.now(), MAX);
        }
    }

    #[test]
    fn a_worker_holds_at_most_a_few_long_requests_among_short_ones() {
        let mut worker = Worker::new(1, 200 * MICRO);
        let mut number = 0;
        let mut each = || {
            number += 1;
            if number % 100 == 0 { SECOND } else { 10 * MICRO }
        };
        let windows: Vec<_> = (0..200).map(|_| worker.after(SECOND, &mut each)).collect();
        assert!(windows[100..].iter().all(|&window| window <= 200), "{windows:?}");
    }

    #[test]
    fn idle_time_does_not_count_and_the_window_resets_after_a_rest() {
        let mut window = Window::new(1, MAX, HOLD, Spare::One);
        for start in (0..100).map(|number| number * REST) {
            window.handed(start);
            assert_eq!(window.now(), if start == 0 { 2 } else { 10 });
            window.replied(1, false, Duration::ZERO, start + 5 * MILLI);
        }
        window.handed(101 * REST);
        assert_eq!(window.now(), 2);
    }

    #[test]
    fn without_a_time_to_hold_the_window_is_fixed_and_its_bound_always_holds() {
        let mut fixed = Window::new(4, 10, Duration::ZERO, Spare::One);
        let mut narrow = Window::new(64, 3, HOLD, Spare::One);
        let mut idle = Window::new(0, MAX, HOLD, Spare::One);
        for window in [&mut fixed, &mut narrow, &mut idle] {
            window.replied(0, false, Duration::ZERO, 0);
        }
        assert_eq!((fixed.now(), narrow.now(), idle.now()), (10, 3, 1));
        for (replies, round_trip, now) in [(u64::MAX, Duration::MAX, 5), (1, Duration::ZERO, u64::MAX), (0, HOLD, 0)] {
            for window in [&mut fixed, &mut narrow] {
                window.handed(now);
                window.replied(replies, false, round_trip, now);
            }
            assert_eq!((fixed.now(), narrow.now()), (10, 3));
        }
    }
}
