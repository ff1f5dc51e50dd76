//! A second, different implementation of the rotation: the seats that have had a turn in this
//! round, and those that have not.

/// The seats of a pool.
#[derive(Debug, Default)]
pub struct Seats {
    had: Vec<u64>,
    to_have: Vec<u64>,
}

impl Seats {
    /// Returns the number of seats.
    pub fn len(&self) -> usize {
        self.had.len() + self.to_have.len()
    }

    /// All, the one whose turn is next first.
    pub fn upcoming(&self) -> Vec<u64> {
        [&self.to_have[..], &self.had[..]].concat()
    }

    /// A worker sits down at the tail.
    pub fn join(&mut self, worker: u64) {
        self.to_have.push(worker);
    }

    /// A worker takes its seat away.
    pub fn leave(&mut self, worker: u64) {
        let seats = self.len();
        self.had.retain(|&seated| seated != worker);
        self.to_have.retain(|&seated| seated != worker);
        assert_eq!(self.len() + 1, seats, "w{worker} had no seat");
    }

    /// A worker has had the turn: all that sit before it had theirs or were passed over.
    pub fn turn(&mut self, worker: u64) {
        let mut seats = [&self.had[..], &self.to_have[..]].concat();
        let place = seats.iter().position(|&seated| seated == worker).expect("it has a seat");
        self.to_have = seats.split_off(place + 1);
        self.had = seats;
    }
}
