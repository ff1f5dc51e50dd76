//! The rotation: the ring of a pool's seats, and whose turn it is.
//!
//! Seats stand in the order of registration. The ring remembers the gap behind the seat that had
//! the last turn, not an index modulo the length. A worker that joins gets a seat at the tail,
//! before the turn returns to the first seat. A worker that leaves takes its seat along, and no
//! other seat gains or loses a turn.

use std::fmt;
use std::str::FromStr;

/// What happens when it is the turn of a worker whose window is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    /// When dispatch waits for it: no live seat is ever passed over.
    #[default]
    Strict,
    /// When the turn goes on to the next seat with room, which suits unequal machines.
    Available,
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Available => "available",
        })
    }
}

impl FromStr for Rotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let both = [Self::Strict, Self::Available];
        both.into_iter().find(|it| it.to_string() == text).ok_or_else(|| "strict or available".into())
    }
}

/// The seats of a pool.
#[derive(Clone, Debug)]
pub struct Ring<W> {
    seats: Vec<W>,
    /// The place behind the seat that had the last turn, from 0 to the number of seats.
    next: usize,
}

impl<W> Default for Ring<W> {
    fn default() -> Self {
        Self { seats: Vec::new(), next: 0 }
    }
}

impl<W: Copy + PartialEq> Ring<W> {
    /// Returns the seats in their order.
    pub fn seats(&self) -> &[W] {
        &self.seats
    }

    /// Returns the index in [`Self::seats`] of the next turn; 0 if there are none.
    pub fn next(&self) -> usize {
        if self.next < self.seats.len() { self.next } else { 0 }
    }

    /// Adds a seat at the tail.
    pub fn join(&mut self, worker: W) {
        self.seats.push(worker);
    }

    /// Removes the worker's seat; `false` if it has none.
    pub fn leave(&mut self, worker: W) -> bool {
        let Some(seat) = self.seats.iter().position(|&seated| seated == worker) else { return false };
        self.seats.remove(seat);
        if seat < self.next {
            self.next -= 1;
        }
        true
    }

    /// Gives the turn to the next seat if `has_room` for it. Returns the worker that got the turn.
    ///
    /// Under [`Rotation::Strict`] only the very next seat is asked; under [`Rotation::Available`]
    /// each seat once.
    pub fn turn(&mut self, rotation: Rotation, mut has_room: impl FnMut(W) -> bool) -> Option<W> {
        let asked = match rotation {
            Rotation::Strict => self.seats.len().min(1),
            Rotation::Available => self.seats.len(),
        };
        for passed in 0..asked {
            let place = self.next + passed;
            let seat = if place < self.seats.len() { place } else { place - self.seats.len() };
            let worker = self.seats[seat];
            if has_room(worker) {
                self.next = seat + 1;
                return Some(worker);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(ring: &mut Ring<u32>, count: usize) -> Vec<u32> {
        (0..count).filter_map(|_| ring.turn(Rotation::Strict, |_| true)).collect()
    }

    #[test]
    fn a_worker_that_joins_gets_the_seat_at_the_tail() {
        let mut ring = Ring::default();
        assert_eq!(ring.turn(Rotation::Strict, |_| true), None);
        [1, 2, 3].into_iter().for_each(|worker| ring.join(worker));
        assert_eq!(turns(&mut ring, 3), [1, 2, 3]);
        ring.join(4);
        assert_eq!(turns(&mut ring, 3), [4, 1, 2]);
    }

    #[test]
    fn when_a_worker_leaves_no_other_loses_its_turn() {
        for leaver in [1, 2, 3, 4] {
            let mut ring = Ring::default();
            [1, 2, 3, 4].into_iter().for_each(|worker| ring.join(worker));
            assert_eq!(turns(&mut ring, 2), [1, 2]);
            assert!(ring.leave(leaver));
            let rest: Vec<_> = [3, 4, 1, 2].into_iter().filter(|&worker| worker != leaver).collect();
            assert_eq!(turns(&mut ring, 3), rest, "after {leaver} left");
        }
    }

    #[test]
    fn a_full_window_stops_strict_rotation_and_is_passed_over_by_the_other() {
        let mut ring = Ring::default();
        [1, 2, 3].into_iter().for_each(|worker| ring.join(worker));
        assert_eq!(ring.turn(Rotation::Strict, |worker| worker != 1), None);
        assert_eq!(ring.turn(Rotation::Available, |worker| worker != 1), Some(2));
        assert_eq!(ring.turn(Rotation::Available, |_| false), None);
        assert_eq!(ring.turn(Rotation::Strict, |_| true), Some(3));
    }

    proptest! {
        /// Between two turns of one worker, each other that was seated all the while has exactly
        /// one.
        #[test]
        fn nobodys_turn_is_lost_or_doubled(steps in prop::collection::vec(0..8u8, 1..300)) {
            let (mut ring, mut joined) = (Ring::default(), 0);
            // For each seated worker: its number, and who had a turn since its own last turn (or
            // its joining).
            let mut since: Vec<(u32, Option<Vec<u32>>)> = Vec::new();
            for step in steps {
                match step {
                    0 => {
                        joined += 1;
                        ring.join(joined);
                        since.push((joined, None));
                    }
                    1 if !since.is_empty() => {
                        let (leaver, _) = since.remove(joined as usize % since.len());
                        prop_assert!(ring.leave(leaver));
                        prop_assert!(!ring.leave(leaver));
                    }
                    _ => {
                        let turn = ring.turn(Rotation::Strict, |_| true);
                        prop_assert_eq!(turn.is_none(), since.is_empty());
                        let Some(worker) = turn else { continue };
                        for (seated, others) in &mut since {
                            if *seated == worker {
                                if let Some(others) = others.replace(Vec::new()) {
                                    let mut once = others.clone();
                                    once.sort_unstable();
                                    once.dedup();
                                    prop_assert_eq!(once.len(), others.len(), "somebody had two turns: {:?}", others);
                                }
                            } else if let Some(others) = others {
                                prop_assert!(!others.contains(&worker), "{} again before {}", worker, seated);
                                others.push(worker);
                            }
                        }
                    }
                }
                prop_assert!(ring.seats().iter().eq(since.iter().map(|(worker, _)| worker)));
            }
        }
    }
}
