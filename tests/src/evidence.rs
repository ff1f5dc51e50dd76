//! Reading the broker's log.

use std::time::SystemTime;

use anyhow::{Context, Result};

/// A line of the log.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// When.
    pub time: SystemTime,
    /// What happened: the first word.
    pub verb: &'a str,
    rest: &'a str,
}

impl<'a> Line<'a> {
    /// Takes a line apart.
    pub fn parse(line: &'a str) -> Result<Self> {
        let mut words = line.splitn(3, ' ');
        let time = words.next().unwrap_or_default();
        let time = humantime::parse_rfc3339(time).with_context(|| format!("no time: {line}"))?;
        let after_level = words.nth(1).unwrap_or_default().trim_start();
        let (verb, rest) = after_level.split_once(' ').unwrap_or((after_level, ""));
        Ok(Self { time, verb, rest })
    }

    /// Whether this happened to that worker.
    pub fn is(&self, verb: &str, worker: &str) -> bool {
        self.verb == verb && self.rest.split(' ').next() == Some(worker)
    }

    /// The requests it names, as `(client, id)`.
    pub fn requests(&self) -> Vec<(u64, u64)> {
        self.rest.split(' ').filter_map(run).flatten().collect()
    }
}

/// `c1#1..190/3`: every third request of client 1 from 1 to 190.
fn run(word: &str) -> Option<impl Iterator<Item = (u64, u64)>> {
    let (client, ids) = word.strip_prefix('c')?.split_once('#')?;
    let (ids, step) = ids.split_once('/').unwrap_or((ids, "1"));
    let (first, last) = ids.split_once("..").unwrap_or((ids, ids));
    let client: u64 = client.parse().ok()?;
    let (first, last, step): (u64, u64, usize) = (first.parse().ok()?, last.parse().ok()?, step.parse().ok()?);
    Some((first..=last).step_by(step.max(1)).map(move |id| (client, id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_what_and_which() {
        let line = Line::parse("2026-01-01T00:00:00.000001Z DEBUG reply worker-1 w1 c1#1..7/3 c2#5 c3#8..9").unwrap();
        assert!(line.is("reply", "worker-1"));
        assert_eq!(line.requests(), [(1, 1), (1, 4), (1, 7), (2, 5), (3, 8), (3, 9)]);
        let line = Line::parse("2026-01-01T00:00:00.000001Z INFO  joined worker-1 w1 pool=p").unwrap();
        assert!(line.is("joined", "worker-1") && line.requests().is_empty());
        assert!(Line::parse("garbage").is_err());
    }
}
