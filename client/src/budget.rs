//! Limits the requests in flight, by their number and by the bytes of bodies and results.
//!
//! Hidden from the documentation: `giostra map` shares it, other programs should not.

use std::time::{Duration, Instant};

/// The requests in flight, and how many more may be submitted.
///
/// The bytes are those of the bodies of unanswered requests, and of results that the user has not
/// taken. A result that has not arrived yet counts as much as the largest recent one. Before any
/// result has arrived, few requests are allowed, and some more with each answer, so that large
/// results are noticed before thousands of them are in flight. While no answer arrives, the requests
/// take long, and workers may lack requests: then the number doubles every 250 ms.
#[derive(Clone, Copy, Debug)]
pub struct InFlightBudget {
    max_requests: usize,
    max_bytes: usize,
    unanswered: usize,
    /// Bytes of bodies and results that are held.
    held: usize,
    answered: usize,
    /// The expected size of a result in bytes: that of the largest recent one, decaying.
    expected: usize,
    /// Requests that may be unanswered because no answer arrived for long.
    grown: usize,
    /// Since when requests are held back without an answer.
    stalled_since: Option<Instant>,
}

/// The number of requests that may be unanswered before the first answer.
const INITIAL_REQUESTS: usize = 64;

/// How long no answer arrives until the number of requests doubles.
const STALL: Duration = Duration::from_millis(250);

/// How many requests each answer allows.
const REQUESTS_PER_ANSWER: usize = 4;

/// The expected size decays by this fraction, one in 64, with each smaller result: most of a single
/// large one is forgotten after some hundred.
const DECAY: usize = 64;

impl InFlightBudget {
    /// The default number of requests that may be unanswered.
    pub const REQUESTS: usize = 4096;

    /// The default number of bytes that may be held: 64 MiB.
    pub const BYTES: usize = 64 << 20;

    /// Creates a budget of this many requests and bytes. One request is always allowed.
    pub fn new(max_requests: usize, max_bytes: usize) -> Self {
        Self {
            max_requests,
            max_bytes,
            unanswered: 0,
            held: 0,
            answered: 0,
            expected: 0,
            grown: INITIAL_REQUESTS,
            stalled_since: None,
        }
    }

    /// Whether one more request may be submitted.
    pub fn is_left(&self) -> bool {
        self.unanswered == 0 || (self.unanswered < self.allowed() && self.has_bytes())
    }

    /// Lets the number of requests grow if some have been held back for long without an answer. Call
    /// it before submitting. It reads the clock only if requests are held back.
    pub fn pass(&mut self, now: impl FnOnce() -> Instant) {
        let allowed = self.allowed();
        let is_held_back = self.unanswered >= allowed && allowed < self.max_requests && self.has_bytes();
        if !is_held_back {
            self.stalled_since = None;
            return;
        }
        let now = now();
        match self.stalled_since {
            None => self.stalled_since = Some(now),
            Some(since) if now.saturating_duration_since(since) >= STALL => {
                self.grown = allowed.saturating_mul(2);
                self.stalled_since = None;
            }
            Some(_) => {}
        }
    }

    /// When more requests may be allowed without an answer. Call it after submitting, before waiting.
    pub fn poll_timeout(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        self.pass(now);
        self.stalled_since.map(|since| since + STALL)
    }

    fn allowed(&self) -> usize {
        self.max_requests.min(self.answered.saturating_mul(REQUESTS_PER_ANSWER).max(self.grown))
    }

    fn has_bytes(&self) -> bool {
        self.held.saturating_add(self.unanswered.saturating_mul(self.expected)) < self.max_bytes
    }

    /// Counts a submitted request with a body of this many bytes.
    pub fn ask(&mut self, body: usize) {
        self.unanswered += 1;
        self.held += body;
    }

    /// Counts an answer: the bytes of the body are no longer held, those of the result are.
    pub fn answer(&mut self, body: usize, result: usize) {
        self.unanswered -= 1;
        self.held = self.held - body + result;
        self.answered = self.answered.saturating_add(1);
        self.stalled_since = None;
        self.expected = result.max(self.expected - self.expected.div_ceil(DECAY));
    }

    /// Counts a result of this many bytes that the user took.
    pub fn hand_on(&mut self, result: usize) {
        self.held -= result;
    }

    /// The number of requests without an answer.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }
}

impl Default for InFlightBudget {
    fn default() -> Self {
        Self::new(Self::REQUESTS, Self::BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(budget: &mut InFlightBudget, body: usize) -> usize {
        std::iter::repeat_with(|| budget.is_left().then(|| budget.ask(body))).map_while(|asked| asked).count()
    }

    #[test]
    fn the_budget_limits_requests_and_bytes_and_always_allows_one() {
        assert_eq!(fill(&mut InFlightBudget::new(10, 1000), 1), 10);
        assert_eq!(fill(&mut InFlightBudget::new(10, 1000), 250), 4);
        assert_eq!(fill(&mut InFlightBudget::new(10, 1000), 5000), 1);
        assert_eq!(fill(&mut InFlightBudget::new(0, 0), 1), 1);
    }

    #[test]
    fn large_results_leave_less_budget_for_those_to_come() {
        let mut budget = InFlightBudget::new(50, 1000);
        assert_eq!(fill(&mut budget, 0), 50);
        (0..50).for_each(|_| budget.answer(0, 100));
        assert_eq!((budget.unanswered(), budget.is_left()), (0, true));
        (0..50).for_each(|_| budget.hand_on(100));
        assert_eq!(fill(&mut budget, 0), 10);
    }

    #[test]
    fn each_answer_allows_more_requests() {
        let mut budget = InFlightBudget::new(4096, usize::MAX);
        assert_eq!(fill(&mut budget, 0), INITIAL_REQUESTS);
        let mut rounds = 0;
        while budget.unanswered() < 4096 {
            (0..budget.unanswered()).for_each(|_| budget.answer(0, 0));
            fill(&mut budget, 0);
            rounds += 1;
        }
        assert!(rounds <= 4, "{rounds}");
    }

    #[test]
    fn while_no_answer_arrives_the_number_of_requests_doubles_up_to_the_limit() {
        let (mut budget, mut now) = (InFlightBudget::new(300, usize::MAX), Instant::now());
        let mut asked = vec![fill(&mut budget, 0)];
        while let Some(due) = budget.poll_timeout(|| now) {
            assert!(due > now);
            budget.pass(|| due - Duration::from_millis(1));
            assert!(!budget.is_left(), "it is not time yet");
            now = due;
            budget.pass(|| now);
            asked.push(fill(&mut budget, 0));
        }
        assert_eq!(asked, [64, 64, 128, 44]);
    }

    #[test]
    fn while_answers_arrive_or_results_are_large_a_stall_allows_no_more_requests() {
        let (mut budget, now) = (InFlightBudget::new(4096, 1000), Instant::now());
        fill(&mut budget, 0);
        budget.pass(|| now);
        budget.answer(0, 100);
        fill(&mut budget, 0);
        budget.pass(|| now + STALL);
        budget.pass(|| now + 2 * STALL);
        assert!(!budget.is_left(), "63 results of 100 bytes are more than 1000");
    }

    /// Returns the largest number of bytes held if the first answer never arrives, so that no result
    /// is released. The others arrive one by one, in order, each when the budget is used up.
    fn most_held(budget: &mut InFlightBudget, requests: usize, result: impl Fn(usize) -> usize) -> usize {
        let (mut asked, mut answered, mut most) = (1, 1, 0);
        budget.ask(0);
        while asked < requests {
            if budget.is_left() {
                budget.ask(0);
                asked += 1;
            } else if answered < asked {
                budget.answer(0, result(answered));
                answered += 1;
            } else {
                break;
            }
            most = most.max(budget.held);
        }
        most
    }

    #[test]
    fn large_results_behind_a_slow_first_one_are_bounded() {
        const LARGE: usize = 1 << 20;
        let mut budget = InFlightBudget::default();
        let held = most_held(&mut budget, 4096, |_| LARGE);
        assert!(held <= InFlightBudget::BYTES + LARGE, "{held}");
    }

    #[test]
    fn large_results_are_bounded_also_if_there_were_many_small_ones_before() {
        const LARGE: usize = 1 << 20;
        let mut budget = InFlightBudget::default();
        for _ in 0..100_000 {
            budget.ask(0);
            budget.answer(0, 10);
            budget.hand_on(10);
        }
        budget.ask(0);
        budget.answer(0, LARGE);
        budget.hand_on(LARGE);
        assert_eq!(fill(&mut budget, 0), InFlightBudget::BYTES / LARGE);
        // When they are over, it is forgotten.
        for _ in 0..1000 {
            budget.answer(0, 10);
            budget.hand_on(10);
            budget.ask(0);
        }
        assert_eq!(budget.unanswered() + fill(&mut budget, 0), InFlightBudget::REQUESTS);
    }
}
