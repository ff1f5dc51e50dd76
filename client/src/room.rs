//! How many requests may be under way at a time: so many, and so many bytes with their results.

/// What is under way, and how much may be.
///
/// Bytes are those of the bodies of unanswered requests, and of results that have not been handed on. How large a result will
/// be nobody knows: each that is still to come counts as much as those that have come did on average.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    requests: usize,
    bytes: usize,
    unanswered: usize,
    held: usize,
    answered: u64,
    results: u64,
}

impl Room {
    /// Requests that may be unanswered if nothing else is said.
    pub const REQUESTS: usize = 4096;

    /// Bytes that may be held if nothing else is said: 64 MiB.
    pub const BYTES: usize = 64 << 20;

    /// Room for so many requests, and so many bytes; in any case for one request.
    pub fn new(requests: usize, bytes: usize) -> Self {
        Self { requests, bytes, unanswered: 0, held: 0, answered: 0, results: 0 }
    }

    /// Whether one more may be asked for.
    pub fn is_left(&self) -> bool {
        let expected = self.results.checked_div(self.answered).unwrap_or(0) as usize;
        let bytes = self.held.saturating_add(self.unanswered.saturating_mul(expected));
        self.unanswered == 0 || (self.unanswered < self.requests && bytes < self.bytes)
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
        self.answered += 1;
        self.results += result as u64;
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

impl Default for Room {
    fn default() -> Self {
        Self::new(Self::REQUESTS, Self::BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(room: &mut Room, body: usize) -> usize {
        std::iter::repeat_with(|| room.is_left().then(|| room.ask(body))).map_while(|asked| asked).count()
    }

    #[test]
    fn there_is_room_for_so_many_requests_or_bytes_and_always_for_one() {
        assert_eq!(fill(&mut Room::new(10, 1000), 1), 10);
        assert_eq!(fill(&mut Room::new(10, 1000), 250), 4);
        assert_eq!(fill(&mut Room::new(10, 1000), 5000), 1);
        assert_eq!(fill(&mut Room::new(0, 0), 1), 1);
    }

    #[test]
    fn large_results_that_came_make_room_scarce_for_those_to_come() {
        let mut room = Room::new(100, 1000);
        assert_eq!(fill(&mut room, 0), 100);
        (0..100).for_each(|_| room.answer(0, 100));
        assert_eq!((room.unanswered(), room.is_left()), (0, true));
        (0..100).for_each(|_| room.hand_on(100));
        assert_eq!(fill(&mut room, 0), 10);
    }
}
