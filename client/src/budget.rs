//! How many requests may be under way at a time: so many, and so many bytes with their results.

use std::time::{Duration, Instant};

/// What is under way, and how much may be.
///
/// Bytes are those of the bodies of unanswered requests, and of results that have not been handed
/// on. How large a result will be nobody knows: each that is still to come counts as much as the
/// largest of late. Before any is known, few are asked for, and with each that comes some
/// more, so that large ones are seen before thousands of them are on their way. While no answer
/// comes, the requests are long, and workers may be idle for want of more: then their number
/// doubles every 250 ms.
#[derive(Clone, Copy, Debug)]
pub struct InFlightBudget {
    requests: usize,
    bytes: usize,
    unanswered: usize,
    held: usize,
    answered: usize,
    /// Bytes that a result to come may have: the largest of late, which fades.
    expected: usize,
    /// Requests that may be unanswered because no answer came for long.
    grown: usize,
    /// Since when more is held back, and no answer has come.
    silent_since: Option<Instant>,
}

/// Requests that may be unanswered before there is any answer.
const FIRST: usize = 64;

/// How long no answer comes until that number doubles.
const SILENCE: Duration = Duration::from_millis(250);

/// How many more may be for each answer.
const MORE: usize = 4;

/// What is expected fades by this part with each answer that is smaller: of what is large once in a
/// while, most is forgotten after some hundreds.
const FADING: usize = 64;

impl InFlightBudget {
    /// Requests that may be unanswered if nothing else is said.
    pub const REQUESTS: usize = 4096;

    /// Bytes that may be held if nothing else is said: 64 MiB.
    pub const BYTES: usize = 64 << 20;

    /// InFlightBudget for so many requests, and so many bytes; in any case for one request.
    pub fn new(requests: usize, bytes: usize) -> Self {
        Self { requests, bytes, unanswered: 0, held: 0, answered: 0, expected: 0, grown: FIRST, silent_since: None }
    }

    /// Whether one more may be asked for.
    pub fn is_left(&self) -> bool {
        self.unanswered == 0 || (self.unanswered < self.allowed() && self.has_bytes())
    }

    /// Lets the number of requests grow if more has been held back for long without an answer. To
    /// be called before asking. The clock is read only if something is held back.
    pub fn pass(&mut self, now: impl FnOnce() -> Instant) {
        let allowed = self.allowed();
        let is_held_back = self.unanswered >= allowed && allowed < self.requests && self.has_bytes();
        if !is_held_back {
            self.silent_since = None;
            return;
        }
        let now = now();
        match self.silent_since {
            None => self.silent_since = Some(now),
            Some(since) if now.saturating_duration_since(since) >= SILENCE => {
                self.grown = allowed.saturating_mul(2);
                self.silent_since = None;
            }
            Some(_) => {}
        }
    }

    /// When there may be room though no answer has come. To be asked after asking, before waiting.
    pub fn poll_timeout(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        self.pass(now);
        self.silent_since.map(|since| since + SILENCE)
    }

    fn allowed(&self) -> usize {
        self.requests.min(self.answered.saturating_mul(MORE).max(self.grown))
    }

    fn has_bytes(&self) -> bool {
        self.held.saturating_add(self.unanswered.saturating_mul(self.expected)) < self.bytes
    }

    /// A request with so many bytes is asked for.
    pub fn ask(&mut self, body: usize) {
        self.unanswered += 1;
        self.held += body;
    }

    /// A request is answered: its bytes are no longer held, those of the result are.
    pub fn answer(&mut self, body: usize, result: usize) {
        self.unanswered -= 1;
        self.held = self.held - body + result;
        self.answered = self.answered.saturating_add(1);
        self.silent_since = None;
        self.expected = result.max(self.expected - self.expected.div_ceil(FADING));
    }

    /// A result was handed on.
    pub fn hand_on(&mut self, result: usize) {
        self.held -= result;
    }

    /// Requests without an answer.
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

    fn fill(room: &mut InFlightBudget, body: usize) -> usize {
        std::iter::repeat_with(|| room.is_left().then(|| room.ask(body))).map_while(|asked| asked).count()
    }

    #[test]
    fn there_is_room_for_so_many_requests_or_bytes_and_always_for_one() {
        assert_eq!(fill(&mut InFlightBudget::new(10, 1000), 1), 10);
        assert_eq!(fill(&mut InFlightBudget::new(10, 1000), 250), 4);
        assert_eq!(fill(&mut InFlightBudget::new(10, 1000), 5000), 1);
        assert_eq!(fill(&mut InFlightBudget::new(0, 0), 1), 1);
    }

    #[test]
    fn large_results_that_came_make_room_scarce_for_those_to_come() {
        let mut room = InFlightBudget::new(50, 1000);
        assert_eq!(fill(&mut room, 0), 50);
        (0..50).for_each(|_| room.answer(0, 100));
        assert_eq!((room.unanswered(), room.is_left()), (0, true));
        (0..50).for_each(|_| room.hand_on(100));
        assert_eq!(fill(&mut room, 0), 10);
    }

    #[test]
    fn with_each_answer_there_is_room_for_more() {
        let mut room = InFlightBudget::new(4096, usize::MAX);
        assert_eq!(fill(&mut room, 0), FIRST);
        let mut rounds = 0;
        while room.unanswered() < 4096 {
            (0..room.unanswered()).for_each(|_| room.answer(0, 0));
            fill(&mut room, 0);
            rounds += 1;
        }
        assert!(rounds <= 4, "{rounds}");
    }

    #[test]
    fn while_no_answer_comes_the_number_doubles_up_to_what_is_allowed() {
        let (mut room, mut now) = (InFlightBudget::new(300, usize::MAX), Instant::now());
        let mut asked = vec![fill(&mut room, 0)];
        while let Some(due) = room.poll_timeout(|| now) {
            assert!(due > now);
            room.pass(|| due - Duration::from_millis(1));
            assert!(!room.is_left(), "it is not time yet");
            now = due;
            room.pass(|| now);
            asked.push(fill(&mut room, 0));
        }
        assert_eq!(asked, [64, 64, 128, 44]);
    }

    #[test]
    fn while_answers_come_or_results_are_large_silence_lets_nothing_more_be_asked() {
        let (mut room, now) = (InFlightBudget::new(4096, 1000), Instant::now());
        fill(&mut room, 0);
        room.pass(|| now);
        room.answer(0, 100);
        fill(&mut room, 0);
        room.pass(|| now + SILENCE);
        room.pass(|| now + 2 * SILENCE);
        assert!(!room.is_left(), "63 results of 100 bytes are more than 1000");
    }

    /// The most bytes that are held if results are handed on in order, the first of which comes
    /// when there is no more room. Answers come one by one, in order.
    fn most_held(room: &mut InFlightBudget, requests: usize, result: impl Fn(usize) -> usize) -> usize {
        let (mut asked, mut answered, mut most) = (1, 1, 0);
        room.ask(0);
        while asked < requests {
            if room.is_left() {
                room.ask(0);
                asked += 1;
            } else if answered < asked {
                room.answer(0, result(answered));
                answered += 1;
            } else {
                break;
            }
            most = most.max(room.held);
        }
        most
    }

    #[test]
    fn large_results_behind_a_slow_first_one_are_bounded() {
        const LARGE: usize = 1 << 20;
        let mut room = InFlightBudget::default();
        let held = most_held(&mut room, 4096, |_| LARGE);
        assert!(held <= InFlightBudget::BYTES + LARGE, "{held}");
    }

    #[test]
    fn large_results_are_bounded_also_if_there_were_many_small_ones_before() {
        const LARGE: usize = 1 << 20;
        let mut room = InFlightBudget::default();
        for _ in 0..100_000 {
            room.ask(0);
            room.answer(0, 10);
            room.hand_on(10);
        }
        room.ask(0);
        room.answer(0, LARGE);
        room.hand_on(LARGE);
        assert_eq!(fill(&mut room, 0), InFlightBudget::BYTES / LARGE);
        // When they are over, it is forgotten.
        for _ in 0..1000 {
            room.answer(0, 10);
            room.hand_on(10);
            room.ask(0);
        }
        assert_eq!(room.unanswered() + fill(&mut room, 0), InFlightBudget::REQUESTS);
    }
}
