//! What was done to a system and when, to hold against what its clients went through and what its
//! log says.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;

use super::load::Silence;

/// How the names of brokers begin.
pub const BROKER: &str = "broker-";

/// A time in which somebody was frozen or down.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Instant,
    to: Instant,
}

/// The faults of a run, written down as they happen.
pub struct Journal {
    file: File,
    began: (Instant, SystemTime),
    /// Who is frozen or down, and since when.
    open: HashMap<String, Instant>,
    closed: Vec<(String, Span)>,
}

impl Journal {
    /// In a file `chaos.txt` of that folder.
    pub fn create(folder: &Path) -> Result<Self> {
        let file = File::create(folder.join("chaos.txt"))?;
        Ok(Self { file, began: (Instant::now(), SystemTime::now()), open: HashMap::new(), closed: Vec::new() })
    }

    /// Writes a line, with the time as in the broker's log.
    pub fn note(&mut self, at: Instant, what: &str) -> Result<()> {
        writeln!(self.file, "{} {what}", humantime::format_rfc3339_micros(self.wall(at)))?;
        Ok(())
    }

    /// From now on `who` does not do its part, unless that was so already.
    pub fn stalls(&mut self, who: &str) {
        self.open.entry(who.into()).or_insert_with(Instant::now);
    }

    /// It does again, `aftermath` from now at the latest.
    pub fn resumes(&mut self, who: &str, aftermath: Duration) {
        if let Some(from) = self.open.remove(who) {
            self.closed.push((who.into(), Span { from, to: Instant::now() + aftermath }));
        }
    }

    /// Whether `who` stalled at any time in the `before` until `at`.
    pub fn stalled_lately(&self, who: &str, at: SystemTime, before: Duration) -> bool {
        self.closed
            .iter()
            .any(|(name, span)| name == who && self.wall(span.from) <= at && at <= self.wall(span.to) + before)
    }

    /// How much of a silence falls into no stall at all. A worker's stall counts for
    /// `noticed_after` at most, in which the broker itself does not stall.
    pub fn unexplained(&self, silence: &Silence, noticed_after: Duration) -> Duration {
        let (mut broker, workers): (Vec<_>, Vec<_>) = self.closed.iter().partition(|(who, _)| who.starts_with(BROKER));
        broker.sort_unstable_by_key(|(_, span)| span.from);
        let noticed = workers.into_iter().map(|(_, span)| {
            let mut until = span.from + noticed_after;
            for (_, stall) in broker.iter().filter(|(_, stall)| stall.to > span.from) {
                if stall.from < until {
                    until = stall.to + noticed_after;
                }
            }
            Span { from: span.from, to: span.to.min(until) }
        });
        let mut spans: Vec<_> = noticed.chain(broker.iter().map(|(_, span)| *span)).collect();
        spans.sort_unstable_by_key(|span| span.from);
        let (mut reached, mut unexplained) = (silence.from, Duration::ZERO);
        for Span { from, to } in spans {
            unexplained += from.min(silence.to).saturating_duration_since(reached);
            reached = reached.max(to);
        }
        unexplained + silence.to.saturating_duration_since(reached)
    }

    fn wall(&self, at: Instant) -> SystemTime {
        self.began.1 + at.saturating_duration_since(self.began.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_explained_by_the_stalls_it_falls_into() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut journal = Journal::create(folder.path())?;
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let stalls = [("worker-1", 100, 2000), ("broker-0", 1500, 1600), ("broker-0", 1550, 1700)];
        // Frozen while the broker is: noticed some time after the broker's thaw.
        for (who, from, to) in stalls.into_iter().chain([("broker-1", 7000, 8000), ("worker-1", 7500, 9900)]) {
            journal.closed.push((who.into(), Span { from: at(from), to: at(to) }));
        }
        let unexplained = |from, to| {
            let silence = Silence { client: "x", from: at(from), to: at(to) };
            journal.unexplained(&silence, Duration::from_millis(800)).as_millis()
        };
        assert_eq!(unexplained(0, 50), 50);
        assert_eq!(unexplained(200, 600), 0);
        assert_eq!(unexplained(50, 950), 100);
        assert_eq!(unexplained(0, 1800), 100 + 600 + 100);
        assert_eq!(unexplained(7000, 9000), 200);
        assert_eq!(unexplained(5000, 5010), 10);
        Ok(())
    }
}
