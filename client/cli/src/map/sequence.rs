//! Which lines are open, and what waits for its turn to be printed.

use giostra_client::reorder::ReorderBuffer;

/// How far lines may be answered ahead of the oldest that is not, where none waits for it: a byte
/// each is remembered, and what a journal knows of as many lines that were read again.
const FAR: u64 = 1 << 18;

/// The lines from the oldest open one on.
pub struct Sequence<T> {
    lines: Lines<T>,
    /// How far from the oldest open line on lines may be asked for.
    ahead: u64,
}

enum Lines<T> {
    /// When an answer waits for those of all lines before.
    Ordered(ReorderBuffer<T>),
    /// When it does not.
    Unordered(ReorderBuffer<()>),
}

impl<T> Sequence<T> {
    /// Before line 1.
    pub fn new(ordered: bool, window: u32) -> Self {
        let window = u64::from(window);
        match ordered {
            true => Self { lines: Lines::Ordered(ReorderBuffer::starting_at(1)), ahead: window },
            false => Self { lines: Lines::Unordered(ReorderBuffer::starting_at(1)), ahead: window.max(FAR) },
        }
    }

    /// Whether a line may be asked for, or some before it must be answered first.
    pub fn has_room(&self, number: u64) -> bool {
        let oldest = match &self.lines {
            Lines::Ordered(order) => order.next(),
            Lines::Unordered(order) => order.next(),
        };
        number < oldest + self.ahead
    }

    /// A line has ended, once. Each answer whose turn it is now is handed to `print`.
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
