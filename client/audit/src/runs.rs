//! The short lists of numbers in a line: `c1#1..190/3` are the requests 1, 4, 7 and so on to 190 of
//! client 1, `t5` is a ticket. They are read without writing the numbers out.

/// The most numbers one line may name: far beyond what the broker writes, so that a damaged number
/// does not make the audit count for years.
const MOST: u64 = 1 << 26;

/// No client, worker or ticket has this number or a higher one: there is always a next one.
const HIGHEST: u64 = 1 << 63;

/// No count in a line is as high: sums of them do not overflow, however many lines there are.
const UNCOUNTABLE: u64 = 1 << 40;

/// Numbers at equal distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose requests they number; 0 for tickets.
    pub client: u64,
    /// The first number.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// The distance, at least 1.
    pub step: u64,
}

impl Run {
    /// Takes `c1#1..190/3` or `t1..190/3` apart. `None` if the broker would not have written it so.
    fn parse(word: &str) -> Option<Self> {
        let (client, numbers) = match word.strip_prefix('t') {
            Some(numbers) => (0, numbers),
            None => {
                let (client, numbers) = word.strip_prefix('c')?.split_once('#')?;
                (number(client).filter(|&client| client > 0)?, numbers)
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
            && (last - first) / step < MOST
            && client < HIGHEST
            // A request's number is its client's, and any.
            && (client > 0 || last < HIGHEST);
        sound.then_some(Self { client, first, last, step })
    }

    /// How many there are.
    fn count(&self) -> u64 {
        (self.last - self.first) / self.step + 1
    }

    /// Which of them `number` is, counted from 0.
    fn position(&self, number: u64) -> Option<u64> {
        let inside = self.first <= number && number <= self.last && (number - self.first).is_multiple_of(self.step);
        inside.then(|| (number - self.first) / self.step)
    }
}

impl IntoIterator for Run {
    type Item = (u64, u64);
    type IntoIter = Numbers;

    fn into_iter(self) -> Numbers {
        Numbers { client: self.client, next: self.first, left: self.count(), step: self.step }
    }
}

/// The numbers of a [`Run`], each with its client.
#[derive(Clone, Debug)]
pub struct Numbers {
    client: u64,
    next: u64,
    left: u64,
    step: u64,
}

impl Iterator for Numbers {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        self.left = self.left.checked_sub(1)?;
        let number = self.next;
        self.next = number.wrapping_add(self.step);
        Some((self.client, number))
    }
}

/// A list of runs as it stands in a line, found to be sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs<'a> {
    text: &'a str,
    count: u64,
}

impl<'a> Runs<'a> {
    /// A list of tickets.
    pub(super) fn tickets(text: &'a str) -> Option<Self> {
        Self::parse(text, |run| run.client == 0)
    }

    /// A list of requests.
    pub(super) fn requests(text: &'a str) -> Option<Self> {
        Self::parse(text, |run| run.client > 0)
    }

    fn parse(text: &'a str, fits: impl Fn(&Run) -> bool) -> Option<Self> {
        let mut count = 0;
        for word in text.split(' ') {
            count += Run::parse(word).filter(&fits)?.count();
            if count > MOST {
                return None;
            }
        }
        Some(Self { text, count })
    }

    /// How many numbers it names.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The runs.
    pub fn runs(&self) -> impl Iterator<Item = Run> + use<'a> {
        self.text.split(' ').filter_map(Run::parse)
    }

    /// Every number with its client (0 for tickets), in the order of the line.
    pub fn each(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        self.runs().flatten()
    }

    /// Which of the list that request is, counted from 0.
    pub(super) fn position(&self, (client, id): (u64, u64)) -> Option<u64> {
        let mut before = 0;
        for run in self.runs() {
            if run.client == client
                && let Some(position) = run.position(id)
            {
                return Some(before + position);
            }
            before += run.count();
        }
        None
    }

    /// The number at that place of the list, counted from 0.
    pub(super) fn at(&self, mut position: u64) -> Option<u64> {
        for run in self.runs() {
            if position < run.count() {
                return Some(run.first + position * run.step);
            }
            position -= run.count();
        }
        None
    }
}

/// A number as the broker writes it: digits alone.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// The number of a client or worker.
pub(super) fn ordinal(text: &str) -> Option<u64> {
    number(text).filter(|&number| number < HIGHEST)
}

/// How many there are of something.
pub(super) fn count(text: &str) -> Option<u64> {
    number(text).filter(|&count| count < UNCOUNTABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(text: &str) -> Option<Vec<(u64, u64)>> {
        Runs::requests(text).map(|runs| runs.each().collect())
    }

    #[test]
    fn ranges_are_what_the_broker_means_by_them() {
        let all = vec![(1, 1), (1, 4), (1, 7), (2, 5), (3, 8), (3, 9)];
        let runs = Runs::requests("c1#1..7/3 c2#5 c3#8..9").unwrap();
        assert_eq!((runs.each().collect::<Vec<_>>(), runs.count()), (all.clone(), 6));
        for (position, &request) in all.iter().enumerate() {
            assert_eq!(runs.position(request), Some(position as u64));
            assert_eq!(runs.at(position as u64), Some(request.1));
        }
        assert_eq!((runs.position((1, 2)), runs.position((2, 8)), runs.at(6)), (None, None, None));
        let tickets: Vec<_> = Runs::tickets("t1..7/3 t8").unwrap().each().collect();
        assert_eq!(tickets, [(0, 1), (0, 4), (0, 7), (0, 8)]);
        assert_eq!(requests(&format!("c1#{}", u64::MAX)), Some(vec![(1, u64::MAX)]));
    }

    #[test]
    fn what_the_broker_would_not_write_is_not_read() {
        for text in
            ["", "c1", "c1#", "c#1", "c0#1", "t1", "c1#3..1", "c1#1..8/3", "c1#1..7/0", "c1#+1", "c1#1 ", "c1#1 x"]
        {
            assert_eq!(requests(text), None, "{text:?}");
        }
        for text in ["c1#1", "t", "t1.7", "t-1", "t99999999999999999999", "t1..99999999999"] {
            assert!(Runs::tickets(text).is_none(), "{text:?}");
        }
    }
}
