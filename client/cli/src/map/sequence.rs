//! The order of the lines: which are open, and which answers wait to be printed.

use giostra_client::reorder::ReorderBuffer;

/// How far answers may be ahead of the oldest open line, without order. A byte is kept for each
/// line between, and the journal's records of that many lines that have not been read yet.
const FAR: u64 = 1 << 18;

/// The lines from the oldest open one on.
pub struct Sequence<T> {
    lines: Lines<T>,
    /// The number of lines, from the oldest open one on, that may be requested.
    ahead: u64,
}

enum Lines<T> {
    /// When an answer waits for those of all earlier lines.
    Ordered(ReorderBuffer<T>),
    /// When answers are printed as they arrive.
    Unordered(ReorderBuffer<()>),
}

impl<T> Sequence<T> {
    /// Begins before line 1.
    pub fn new(ordered: bool, window: u32) -> Self {
        let window = u64::from(window);
        match ordered {
            true => Self { lines: Lines::Ordered(ReorderBuffer::starting_at(1)), ahead: window },
            false => Self { lines: Lines::Unordered(ReorderBuffer::starting_at(1)), ahead: window.max(FAR) },
        }
    }

    /// Returns whether a line may be requested before the oldest open one has ended.
    pub fn has_room(&self, number: u64) -> bool {
        let oldest = match &self.lines {
            Lines::Ordered(order) => order.next(),
            Lines::Unordered(order) => order.next(),
        };
        number < oldest + self.ahead
    }

    /// Ends a line, which may happen once. Passes each answer whose turn it is to `print`.
    pub fn end<E>(&mut self, number: u64, answer: T, mut print: impl FnMut(T) -> Result<(), E>) -> Result<(), E> {
        match &mut self.lines {
            Lines::Ordered(order) => {
                assert!(order.put(number, answer).is_ok(), "line {number} has ended twice");
                while let Some(answer) = order.pop() {
                    print(answer)?;
                }
                Ok(())
            }
            Lines::Unordered(order) => {
                assert!(order.put(number, ()).is_ok(), "line {number} has ended twice");
                while order.pop().is_some() {}
                print(answer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn printed(ordered: bool, numbers: &[u64]) -> (Vec<u64>, Sequence<u64>) {
        let (mut out, mut sequence) = (Vec::new(), Sequence::new(ordered, 4));
        for &number in numbers {
            let print = |number| {
                out.push(number);
                Ok::<_, Infallible>(())
            };
            let Ok(()) = sequence.end(number, number, print);
        }
        (out, sequence)
    }

    #[test]
    fn in_order_an_answer_waits_for_those_before_and_lines_for_room() {
        let (out, sequence) = printed(true, &[2, 1, 4, 5]);
        assert_eq!(out, [1, 2]);
        assert!(sequence.has_room(6) && !sequence.has_room(7));
    }

    #[test]
    fn out_of_order_no_answer_waits() {
        let (out, sequence) = printed(false, &[2, 1, 4, 5]);
        assert_eq!(out, [2, 1, 4, 5]);
        assert!(sequence.has_room(FAR + 2) && !sequence.has_room(FAR + 3));
    }
}
