//! The ring of a pool: whose turn it is, by the log. It shares no code with the broker's own ring.

/// How many times in a row a seat may be passed over before it counts as empty. The line that
/// emptied it is missing, which has been reported.
const MAX_PASSED: u8 = 3;

/// The seat of a worker.
#[derive(Clone, Copy, Debug)]
struct Seat {
    worker: u64,
    /// How many times it was wrongly passed over since its last turn.
    passed: u8,
}

/// The seats of a pool in the order of registration, and the index after the seat that had the last
/// turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    seats: Vec<Seat>,
    next: usize,
}

impl Ring {
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Adds a seat at the tail.
    pub fn join(&mut self, worker: u64) {
        self.seats.push(Seat { worker, passed: 0 });
    }

    /// Adds a seat where the turn is, for a worker whose place is unknown.
    pub fn adopt(&mut self, worker: u64) {
        self.seats.insert(self.next, Seat { worker, passed: 0 });
    }

    /// Removes the worker's seat, if it has one.
    pub fn leave(&mut self, worker: u64) {
        if let Some(index) = self.seats.iter().position(|seat| seat.worker == worker) {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: usize) {
        self.seats.remove(index);
        if index < self.next {
            self.next -= 1;
        }
    }

    /// Returns how many other turns come before the worker's; `None` if it has no seat.
    pub fn distance(&self, worker: u64) -> Option<usize> {
        let len = self.seats.len();
        (0..len).find(|&turns| self.upcoming(turns) == worker)
    }

    /// Returns the worker that has the turn after `turns` others. There must be a seat.
    pub fn upcoming(&self, turns: usize) -> u64 {
        self.seats[self.index(turns)].worker
    }

    fn index(&self, turns: usize) -> usize {
        let index = self.next + turns;
        // Without a division, since every dispatch asks for it.
        if index < self.seats.len() { index } else { index - self.seats.len() }
    }

    /// Gives the turn to the seat that is `turns` away.
    pub fn turn(&mut self, turns: usize) {
        let index = self.index(turns);
        self.seats[index].passed = 0;
        self.next = index + 1;
    }

    /// Gives the turn to the seat that is `turns` away, which wrongly passes over those before it.
    pub fn wrong_turn(&mut self, turns: usize) {
        let found = self.upcoming(turns);
        for passed in 0..turns {
            let index = self.index(passed);
            self.seats[index].passed += 1;
        }
        self.turn(turns);
        while let Some(index) = self.seats.iter().position(|seat| seat.passed >= MAX_PASSED && seat.worker != found) {
            self.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(workers: impl IntoIterator<Item = u64>) -> Ring {
        let mut ring = Ring::default();
        workers.into_iter().for_each(|worker| ring.join(worker));
        ring
    }

    fn turns(ring: &mut Ring, count: usize) -> Vec<u64> {
        let one = |ring: &mut Ring| {
            let worker = ring.upcoming(0);
            ring.turn(0);
            worker
        };
        (0..count).map(|_| one(ring)).collect()
    }

    #[test]
    fn joining_at_the_tail_and_leaving_takes_nobodys_turn_along() {
        let mut ring = ring(1..=3);
        assert_eq!(turns(&mut ring, 3), [1, 2, 3]);
        ring.join(4);
        assert_eq!(turns(&mut ring, 3), [4, 1, 2]);
        ring.leave(1);
        ring.leave(4);
        assert_eq!(turns(&mut ring, 3), [3, 2, 3]);
        assert_eq!((ring.distance(2), ring.distance(3), ring.distance(1)), (Some(0), Some(1), None));
    }

    #[test]
    fn a_seat_that_is_passed_over_again_and_again_is_taken_for_empty() {
        let mut ring = ring(1..=3);
        for _ in 0..3 {
            assert_eq!(turns(&mut ring, 1), [1]);
            ring.wrong_turn(1);
        }
        assert_eq!((turns(&mut ring, 3), ring.len()), (vec![1, 3, 1], 2));
    }
}
