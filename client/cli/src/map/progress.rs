//! The progress of a run: counts, a progress bar, and the summary at the end.

use std::fmt;
use std::io::{IsTerminal, stderr, stdout};
use std::time::{Duration, Instant};

use giostra_client::Client;
use giostra_protocol::{Reply, RequestId};
use indicatif::{HumanCount, HumanDuration, ProgressBar};

use crate::bar::{self, left};

/// The interval of the progress bar.
pub const TICK: Duration = Duration::from_millis(100);

/// The counts of a run, and its progress bar.
pub struct Progress {
    bar: ProgressBar,
    began: Instant,
    next_tick: Instant,
    /// The number of lines that ended in this run.
    pub lines: u64,
    /// The number of lines that failed in this run.
    pub failed: u64,
    /// The number of lines that the journal answered.
    pub known: u64,
    /// The number of those that had failed.
    pub known_failed: u64,
    /// The number of retries.
    pub retried: u64,
    redispatched: u64,
    duplicated: u64,
    /// The number of bytes in all lines that ended, and in those that the journal answered.
    bytes: u64,
    known_bytes: u64,
    /// The number of bytes in all lines, if known.
    length: Option<u64>,
    took: Option<Duration>,
}

impl Progress {
    /// Begins a run whose input has `length` bytes, if known.
    pub fn new(length: Option<u64>, shown: bool) -> Self {
        // A terminal that shows the results has no room for a bar.
        let shown = shown && stderr().is_terminal() && !stdout().is_terminal();
        let now = Instant::now();
        Self {
            bar: bar::new(length, shown),
            began: now,
            next_tick: now,
            lines: 0,
            failed: 0,
            known: 0,
            known_failed: 0,
            retried: 0,
            redispatched: 0,
            duplicated: 0,
            bytes: 0,
            known_bytes: 0,
            length,
            took: None,
        }
    }

    /// Counts a reply.
    pub fn replied(&mut self, reply: &Reply) {
        self.redispatched += u64::from(reply.trace.attempts > 1);
    }

    /// Counts a line of that length that ended.
    pub fn ended(&mut self, bytes: usize, failed: bool) {
        self.lines += 1;
        self.failed += u64::from(failed);
        self.bytes += bytes as u64;
    }

    /// Counts a line of that length that the journal answered.
    pub fn knew(&mut self, bytes: usize, failed: bool) {
        self.known += 1;
        self.known_failed += u64::from(failed);
        self.bytes += bytes as u64;
        self.known_bytes += bytes as u64;
    }

    /// Prints a line on stderr, above the bar.
    pub fn report(&self, what: impl fmt::Display) {
        self.bar.suspend(|| crate::failure::report_error(what));
    }

    /// Returns when the bar moves next, if there is one.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.bar.is_hidden()).then_some(self.next_tick)
    }

    /// Moves the bar, if it is time. `bytes_of` returns the length of a request's line.
    pub fn tick(&mut self, client: &Client, endpoint: &str, bytes_of: impl Fn(RequestId) -> usize) {
        let now = Instant::now();
        if self.bar.is_hidden() || now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        let parts = client.progress().filter(|(_, progress)| progress.total > 0);
        let computed = parts.map(|(id, progress)| {
            let part = progress.done as f64 / progress.total as f64;
            part.min(1.0) * bytes_of(id) as f64
        });
        let done = self.bytes as f64 + computed.sum::<f64>();
        self.bar.set_position(done as u64);
        self.bar.tick();
        self.bar.set_message(match client.without_broker_since() {
            Some(since) if since.elapsed() >= TICK => format!("waiting for a broker at {endpoint}"),
            _ => self.message(done, self.began.elapsed()),
        });
    }

    fn message(&self, done: f64, elapsed: Duration) -> String {
        let rate = self.lines as f64 / elapsed.as_secs_f64();
        let lines = format!("{} lines  {rate:.0}/s", HumanCount(self.known + self.lines));
        match self.length.and_then(|length| left(done - self.known_bytes as f64, length as f64 - done, elapsed)) {
            Some(left) => format!("{lines}  {} left", HumanDuration(left)),
            None => lines,
        }
    }

    /// Ends the run and removes the bar.
    pub fn finish(&mut self, duplicated: u64) {
        self.bar.finish_and_clear();
        self.took = Some(self.began.elapsed());
        self.duplicated = duplicated;
    }

    /// Returns whether nothing failed, in this run or an earlier one.
    pub fn all_well(&self) -> bool {
        self.failed + self.known_failed + self.duplicated == 0
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.unwrap_or_else(|| self.began.elapsed()).as_secs_f64();
        let plural = if self.lines == 1 { "" } else { "s" };
        write!(f, "{} line{plural} in {seconds:.3} s, {:.0} a second", self.lines, self.lines as f64 / seconds)?;
        let counts = [
            (self.failed, "failed"),
            (self.retried, "retried"),
            (self.redispatched, "re-dispatched"),
            (self.duplicated, "answered twice"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        if self.known > 0 {
            write!(f, "; {} before", self.known)?;
        }
        if self.known_failed > 0 {
            write!(f, ", {} of them failed", self.known_failed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_tells_what_there_is_to_tell() {
        let mut progress = Progress::new(None, false);
        progress.ended(2, false);
        progress.took = Some(Duration::from_secs(2));
        assert_eq!((progress.to_string(), progress.all_well()), ("1 line in 2.000 s, 0 a second".into(), true));
        progress.ended(2, true);
        progress.knew(2, true);
        let text = "2 lines in 2.000 s, 1 a second, 1 failed; 1 before, 1 of them failed";
        assert_eq!((progress.to_string(), progress.all_well()), (text.into(), false));
    }
}
