//! The lists of ids in a line: `c1#1..190/3` are the requests 1, 4, 7 and so on to 190 of client 1,
//! `t5` is a ticket. They are read without being expanded.

use std::fmt;
use std::str::FromStr;

/// The maximum number of ids that one line may name: as many as requests may be open. A damaged number must not
/// keep the audit counting for long.
const MAX_IDS: u64 = 1 << 24;

/// The limit of client, worker and ticket numbers: there is always a next one.
const MAX_NUMBER: u64 = 1 << 63;

/// A job: the number of its store, and its own.
pub(crate) type JobKey = (u32, u64);

/// The bit that the number of a job has where that of a client is expected.
pub(super) const JOB: u64 = MAX_NUMBER;

/// The limit of counts in a line: their sums do not overflow, however many lines there are.
const MAX_COUNT: u64 = 1 << 40;

/// The id of a request: `c1#7` is request 7 of client 1; or a ticket, as `t5`, whose client is 0.
/// Displays as in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The client's number; that of a job plus 2^63.
    pub client: u64,
    /// The number of the request, or of the ticket.
    pub number: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { client: 0, number } => write!(f, "t{number}"),
            Self { client, number } if client & JOB != 0 => write!(f, "j{}#{number}", client & !JOB),
            Self { client, number } => write!(f, "c{client}#{number}"),
        }
    }
}

/// Parses the id of a request as the log writes it: `c1#7`, or `j1#7` of a job.
impl FromStr for Id {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('#').and_then(|(source, id)| Some((client(source)?, number(id)?)));
        let (client, number) = parts.ok_or("a request is written as in the log: c1#17, or j1#17 of a job")?;
        Ok(Self { client, number })
    }
}

/// Ids at equal distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdRange {
    /// The number of the client whose requests they are; that of a job plus 2^63; 0 for tickets.
    pub client: u64,
    /// The first id.
    pub first: u64,
    /// The last id.
    pub last: u64,
    /// The distance between two ids, at least 1.
    pub step: u64,
}

impl IdRange {
    /// Parses `c1#1..190/3` or `t1..190/3`. `None` for what the broker would not write.
    fn parse(word: &str) -> Option<Self> {
        let (client, numbers) = match word.strip_prefix('t') {
            Some(numbers) => (0, numbers),
            None => {
                let (source, numbers) = word.split_once('#')?;
                (client(source)?, numbers)
            }
        };
        let (range, step) = match numbers.split_once('/') {
            Some((range, step)) => (range, number(step)?),
            None => (numbers, 1),
        };
        let (first, last) = match range.split_once("..") {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(range)?, number(range)?),
        };
        let sound = step > 0
            && first <= last
            && (last - first).is_multiple_of(step)
            && (last - first) / step < MAX_IDS
            // Clients choose their requests' ids freely.
            && (client > 0 || last < MAX_NUMBER);
        sound.then_some(Self { client, first, last, step })
    }

    /// The number of ids.
    pub(super) fn count(&self) -> u64 {
        (self.last - self.first) / self.step + 1
    }

    /// The index of `number` among the ids.
    fn position(&self, number: u64) -> Option<u64> {
        let inside = self.first <= number && number <= self.last && (number - self.first).is_multiple_of(self.step);
        inside.then(|| (number - self.first) / self.step)
    }
}

impl IntoIterator for IdRange {
    type Item = Id;
    type IntoIter = Ids;

    fn into_iter(self) -> Ids {
        Ids { client: self.client, next: self.first, left: self.count(), step: self.step }
    }
}

/// An iterator over the ids of an [`IdRange`].
#[derive(Clone, Debug)]
pub struct Ids {
    client: u64,
    next: u64,
    left: u64,
    step: u64,
}

impl Iterator for Ids {
    type Item = Id;

    fn next(&mut self) -> Option<Id> {
        self.left = self.left.checked_sub(1)?;
        let number = self.next;
        self.next = number.wrapping_add(self.step);
        Some(Id { client: self.client, number })
    }
}

/// A valid list of id ranges, borrowed from its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRanges<'a> {
    text: &'a str,
    count: u64,
}

impl<'a> IdRanges<'a> {
    /// Parses a list of tickets.
    pub(super) fn tickets(text: &'a str) -> Option<Self> {
        Self::parse(text, |range| range.client == 0)
    }

    /// Parses a list of requests.
    pub(super) fn requests(text: &'a str) -> Option<Self> {
        Self::parse(text, |range| range.client > 0)
    }

    fn parse(text: &'a str, fits: impl Fn(&IdRange) -> bool) -> Option<Self> {
        let mut count = 0;
        for word in text.split(' ') {
            count += IdRange::parse(word).filter(&fits)?.count();
            if count > MAX_IDS {
                return None;
            }
        }
        Some(Self { text, count })
    }

    /// Returns the number of ids.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the ranges.
    pub fn ranges(&self) -> impl Iterator<Item = IdRange> + use<'a> {
        self.text.split(' ').filter_map(IdRange::parse)
    }

    /// Returns every id, in the order of the line.
    pub fn ids(&self) -> impl Iterator<Item = Id> + use<'a> {
        self.ranges().flatten()
    }

    /// Returns the index of that request in the list.
    pub(super) fn position(&self, Id { client, number }: Id) -> Option<u64> {
        let mut before = 0;
        for range in self.ranges() {
            if range.client == client
                && let Some(position) = range.position(number)
            {
                return Some(before + position);
            }
            before += range.count();
        }
        None
    }

    /// Returns the id at that index of the list.
    pub(super) fn get(&self, mut index: u64) -> Option<u64> {
        for range in self.ranges() {
            if index < range.count() {
                return Some(range.first + index * range.step);
            }
            index -= range.count();
        }
        None
    }
}

/// Parses `c1`, or `j1` for a job.
fn client(text: &str) -> Option<u64> {
    let number = |digits| ordinal(digits).filter(|&number| number > 0);
    match text.strip_prefix('j') {
        Some(job) => number(job).map(|job| job | JOB),
        None => number(text.strip_prefix('c')?),
    }
}

/// Parses a number as the broker writes it: digits alone.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// Parses the number of a client or worker.
pub(super) fn ordinal(text: &str) -> Option<u64> {
    number(text).filter(|&number| number < MAX_NUMBER)
}

/// Parses a count.
pub(super) fn count(text: &str) -> Option<u64> {
    number(text).filter(|&count| count < MAX_COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ranges: IdRanges<'_>) -> String {
        ranges.ids().map(|id| id.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ranges_are_what_the_broker_means_by_them() {
        let ranges = IdRanges::requests("c1#1..7/3 c2#5 c3#8..9").unwrap();
        assert_eq!((&*all(ranges), ranges.count()), ("c1#1 c1#4 c1#7 c2#5 c3#8 c3#9", 6));
        for (position, request) in ranges.ids().enumerate() {
            assert_eq!(ranges.position(request), Some(position as u64));
            assert_eq!(ranges.get(position as u64), Some(request.number));
        }
        let absent = [(1, 2), (2, 8)].map(|(client, number)| ranges.position(Id { client, number }));
        assert_eq!((absent, ranges.get(6)), ([None, None], None));
        assert_eq!(all(IdRanges::tickets("t1..7/3 t8").unwrap()), "t1 t4 t7 t8");
        let last = format!("c1#{}", u64::MAX);
        assert_eq!(all(IdRanges::requests(&last).unwrap()), last);
    }

    #[test]
    fn requests_of_a_job_are_told_from_those_of_the_client_with_its_number() {
        let ranges = IdRanges::requests("c1#1 j1#0..1").unwrap();
        assert_eq!(all(ranges), "c1#1 j1#0 j1#1");
        assert_eq!(ranges.position(Id { client: 1 | JOB, number: 1 }), Some(2));
        assert!(["j0#1", "j#1", "j9223372036854775808#1"].iter().all(|text| IdRanges::requests(text).is_none()));
    }

    #[test]
    fn what_the_broker_would_not_write_is_not_read() {
        for text in
            ["", "c1", "c1#", "c#1", "c0#1", "t1", "c1#3..1", "c1#1..8/3", "c1#1..7/0", "c1#+1", "c1#1 ", "c1#1 x"]
        {
            assert!(IdRanges::requests(text).is_none(), "{text:?}");
        }
        for text in ["c1#1", "t", "t1.7", "t-1", "t99999999999999999999", "t1..99999999999"] {
            assert!(IdRanges::tickets(text).is_none(), "{text:?}");
        }
    }
}
