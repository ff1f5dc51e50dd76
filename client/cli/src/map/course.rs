//! How a run goes: counted, shown while it runs, and told at its end.

use std::fmt;
use std::io::{IsTerminal, stderr, stdout};
use std::time::{Duration, Instant};

use giostra_client::Client;
use giostra_protocol::{Reply, RequestId};
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};

/// How often the bar moves.
pub const TICK: Duration = Duration::from_millis(100);

/// Counts, and the bar if somebody is looking.
pub struct Course {
    bar: ProgressBar,
    began: Instant,
    next_tick: Instant,
    /// Lines that ended now.
    pub lines: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Lines whose answers the journal knew.
    pub known: u64,
    /// Those of them that had failed.
    pub known_failed: u64,
    /// Requests that were asked again.
    pub retried: u64,
    redispatched: u64,
    duplicated: u64,
    /// Bytes of the lines that ended, now or before; and before alone.
    bytes: u64,
    known_bytes: u64,
    /// Bytes of all lines, if that is known.
    length: Option<u64>,
    took: Option<Duration>,
}

impl Course {
    /// One that begins now. `length`: of the input, in bytes, if that is known.
    pub fn new(length: Option<u64>, shown: bool) -> Self {
        // A terminal that shows the results has no place for it.
        let shown = shown && stderr().is_terminal() && !stdout().is_terminal();
        let bar = if shown { ProgressBar::new(length.unwrap_or(0)) } else { ProgressBar::hidden() };
        let template = if length.is_some() { "{bar:30} {percent:>3}%  {msg}" } else { "{spinner} {msg}" };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let now = Instant::now();
        Self {
            bar: bar.with_style(style),
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

    /// A reply came.
    pub fn replied(&mut self, reply: &Reply) {
        self.redispatched += u64::from(reply.trace.attempts > 1);
    }

    /// A line of so many bytes has ended.
    pub fn ended(&mut self, bytes: usize, failed: bool) {
        self.lines += 1;
        self.failed += u64::from(failed);
        self.bytes += bytes as u64;
    }

    /// The journal knew how a line of so many bytes ended.
    pub fn knew(&mut self, bytes: usize, failed: bool) {
        self.known += 1;
        self.known_failed += u64::from(failed);
        self.bytes += bytes as u64;
        self.known_bytes += bytes as u64;
    }

    /// A line on stderr, above the bar.
    pub fn say(&self, what: impl fmt::Display) {
        self.bar.suspend(|| crate::failure::report_error(what));
    }

    /// When the bar is to move next, if there is one.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.bar.is_hidden()).then_some(self.next_tick)
    }

    /// Moves the bar, if it is time. `bytes_of` a request's line.
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

    /// The run is over. Takes the bar away.
    pub fn finish(&mut self, duplicated: u64) {
        self.bar.finish_and_clear();
        self.took = Some(self.began.elapsed());
        self.duplicated = duplicated;
    }

    /// Whether nothing failed, now or before.
    pub fn all_well(&self) -> bool {
        self.failed + self.known_failed + self.duplicated == 0
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.unwrap_or_else(|| self.began.elapsed()).as_secs_f64();
        let plural = if self.lines == 1 { "" } else { "s" };
        write!(f, "{} line{plural} in {seconds:.3} s, {:.0} a second", self.lines, self.lines as f64 / seconds)?;
        let counts = [
            (self.failed, "failed"),
            (self.retried, "asked again"),
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

/// The time that the rest takes, if it goes on as it went.
fn left(done: f64, rest: f64, elapsed: Duration) -> Option<Duration> {
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * rest.max(0.0) / done).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_is_done_took() {
        let seconds = Duration::from_secs;
        assert_eq!(left(25.0, 75.0, seconds(2)), Some(seconds(6)));
        assert_eq!(left(25.0, -1.0, seconds(2)), Some(seconds(0)));
        assert_eq!(left(0.0, 75.0, seconds(2)), None);
    }

    #[test]
    fn the_summary_tells_what_there_is_to_tell() {
        let mut course = Course::new(None, false);
        course.ended(2, false);
        course.took = Some(Duration::from_secs(2));
        assert_eq!((course.to_string(), course.all_well()), ("1 line in 2.000 s, 0 a second".into(), true));
        course.ended(2, true);
        course.knew(2, true);
        let told = "2 lines in 2.000 s, 1 a second, 1 failed; 1 before, 1 of them failed";
        assert_eq!((course.to_string(), course.all_well()), (told.into(), false));
    }
}
