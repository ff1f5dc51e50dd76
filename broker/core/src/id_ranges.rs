//! Lists of numbers in short form: `c1#1..190/3` are the requests 1, 4, 7 and so on to 190 of
//! client 1.
//!
//! Requests are dispatched one a seat, so that the requests of one worker in one turn of the loop
//! mostly have numbers at equal distances. A line of the log names each of them and stays short.

use std::fmt;

use giostra_protocol::RequestId;

use crate::ids::Source;

/// Numbers at equal distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    source: Option<Source>,
    first: u64,
    last: u64,
    /// The distance; 0 if there is only one number.
    step: u64,
}

/// A list of numbers in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdRanges {
    runs: Vec<Run>,
}

impl IdRanges {
    /// Adds a request.
    pub fn request(&mut self, source: impl Into<Source>, id: RequestId) {
        self.add(Some(source.into()), id.0);
    }

    /// Adds a ticket, counted from the broker's first.
    pub fn ticket(&mut self, ticket: u64) {
        self.add(None, ticket);
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Returns the number of members.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|run| (run.last - run.first).checked_div(run.step).unwrap_or(0) + 1).sum()
    }

    /// Splits off the last number, if there are at least two.
    pub fn split_last(&mut self) -> Option<Self> {
        let several = self.runs.len() > 1;
        let run = self.runs.last_mut()?;
        let split = Run { first: run.last, step: 0, ..*run };
        if run.step > 0 {
            run.last -= run.step;
            if run.last == run.first {
                run.step = 0;
            }
        } else if several {
            self.runs.pop();
        } else {
            return None;
        }
        Some(Self { runs: vec![split] })
    }

    fn add(&mut self, source: Option<Source>, number: u64) {
        if let Some(run) = self.runs.last_mut()
            && run.source == source
            && number > run.last
            && (run.step == 0 || number - run.last == run.step)
        {
            run.step = number - run.last;
            run.last = number;
        } else {
            self.runs.push(Run { source, first: number, last: number, step: 0 });
        }
    }
}

impl<S: Into<Source>> FromIterator<(S, RequestId)> for IdRanges {
    fn from_iter<I: IntoIterator<Item = (S, RequestId)>>(requests: I) -> Self {
        let mut runs = Self::default();
        for (source, id) in requests {
            runs.request(source, id);
        }
        runs
    }
}

impl fmt::Display for IdRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Run { source, first, last, step }) in self.runs.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            match source {
                Some(source) => write!(f, "{source}#{first}")?,
                None => write!(f, "t{first}")?,
            }
            if *step > 0 {
                write!(f, "..{last}")?;
            }
            if *step > 1 {
                write!(f, "/{step}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClientNumber, JobNumber};

    fn tickets(numbers: &[u64]) -> IdRanges {
        let mut runs = IdRanges::default();
        numbers.iter().for_each(|&number| runs.ticket(number));
        runs
    }

    #[test]
    fn numbers_at_equal_distances_are_written_short() {
        assert_eq!(tickets(&[]).to_string(), "");
        assert_eq!(tickets(&[5]).to_string(), "t5");
        assert_eq!(tickets(&[5, 6]).to_string(), "t5..6");
        assert_eq!(tickets(&[1, 4, 7, 8, 9, 3]).to_string(), "t1..7/3 t8..9 t3");
        assert_eq!(tickets(&[1, 4, 7, 8, 9, 3]).len(), 6);
        assert_eq!(tickets(&[7, 7, 6]).to_string(), "t7 t7 t6");
        let (a, b) = (ClientNumber(1), ClientNumber(2));
        let requests: IdRanges =
            [(a, 1), (a, 2), (b, 3), (b, 5)].map(|(c, id)| (c, RequestId(id))).into_iter().collect();
        assert_eq!(requests.to_string(), "c1#1..2 c2#3..5/2");
        let requests: IdRanges =
            [Source::from(a), JobNumber(1).into()].map(|s| (s, RequestId(7))).into_iter().collect();
        assert_eq!(requests.to_string(), "c1#7 j1#7");
    }

    #[test]
    fn the_last_number_can_be_split_off() {
        let mut runs = tickets(&[1, 4, 7]);
        assert_eq!(runs.split_last().unwrap().to_string(), "t7");
        assert_eq!(runs.to_string(), "t1..4/3");
        assert_eq!(runs.split_last().unwrap().to_string(), "t4");
        assert_eq!(runs.to_string(), "t1");
        assert_eq!(runs.split_last(), None);
        let mut runs = tickets(&[1, 4, 3]);
        assert_eq!(runs.split_last().unwrap().to_string(), "t3");
        assert_eq!(runs.to_string(), "t1..4/3");
    }
}
