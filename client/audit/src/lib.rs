//! The audit: proves or refutes, from the lines of the broker's log alone, that its promises were
//! kept.
//!
//! It shares no code with the broker and needs none to be running. A log may hold several lives of
//! a broker, each beginning with `listening`; each is audited by itself. What is proved and what
//! can't be is in `docs/log.md`. [`story`] tells what became of one request.

mod dealing;
mod evidence;
mod files;
mod findings;
mod life;
mod line;
mod parting;
mod report;
mod requests;
mod ring;
mod runs;
mod story;

use std::collections::HashMap;
use std::path::PathBuf;

pub use files::Error;
pub use findings::Promise;
pub use line::{Event, Gone, Line, Start, Worker};
pub use report::{Counts, Gap, Report, Verdict, Violation};
pub use runs::{Numbers, Run, Runs};
pub use story::{Step, Story, story};

use files::Source;
use findings::{Findings, Place, Spot};
use life::Life;

/// The format of the log that is read: what `listening` says after `format=`.
pub const FORMAT: u64 = 2;

/// Different unknown verbs that are remembered.
const UNKNOWN_VERBS: usize = 20;

/// Audits the log in these files and folders. Of a folder, all files of the broker's log in it.
///
/// Files are taken in the order in which they were written, whatever the order given. An error if
/// one can't be read.
pub fn audit(logs: &[PathBuf]) -> Result<Report, Error> {
    let sources = files::sources(logs)?;
    let mut audit =
        Audit { report: Report { files: sources.len(), strict: true, ..Report::default() }, ..Audit::default() };
    for (file, source) in sources.iter().enumerate() {
        audit.begins_file(source, file.checked_sub(1).map(|earlier| &sources[earlier]));
        source.read(|line, bytes, whole| {
            audit.sees(Place { file, line }, bytes, whole);
            audit.passes(bytes, whole);
            true
        })?;
    }
    Ok(audit.ends(&sources))
}

#[derive(Default)]
struct Audit {
    report: Report,
    findings: Findings,
    /// `None` until a broker's start was seen.
    life: Option<Life>,
    /// Lines skipped because there is no life, and what is to blame; `None`: the log's beginning.
    skipped: u64,
    blame: Option<Blame>,
    /// Where each life began, by the text of its first line: no two brokers start alike, at the
    /// same microsecond.
    begun: HashMap<String, (PathBuf, u64)>,
    /// The file that is being read.
    file: PathBuf,
    /// The last whole line before the one that is looked at, if there is one in the same log and
    /// nothing in between is missing.
    last: Option<Vec<u8>>,
    /// A line that can't be read: right if nothing of its broker's life comes after it.
    torn: Option<Spot<'static>>,
}

/// Why the evidence of a life ends before the life.
enum Blame {
    Missing(PathBuf),
    Lost(u64),
    /// More requests are open than can be kept.
    TooLarge,
    /// The log is in another format.
    Format(Option<u64>),
    /// The life was looked at before: where it began then.
    Twice(PathBuf, u64),
}

impl Audit {
    fn begins_file(&mut self, source: &Source, earlier: Option<&Source>) {
        self.file.clone_from(&source.path);
        if source.missing.is_some() || !earlier.is_some_and(|earlier| source.goes_on_from(earlier)) {
            self.last = None;
        }
        if let Some(missing) = &source.missing {
            self.ends_life();
            self.blame = Some(Blame::Missing(missing.clone()));
        }
    }

    fn sees(&mut self, place: Place, bytes: &[u8], whole: bool) {
        self.report.lines += 1;
        let text = String::from_utf8_lossy(bytes);
        if let Some(line) = Line::parse(&text).filter(|_| whole) {
            if let Event::Listening(start) = line.event {
                self.ends_life();
                return self.begins_life(&text, place.line, &start);
            }
            self.reports_torn();
            self.sees_line(&line, &mut Spot::new(place, &*text));
        } else {
            self.reports_torn();
            self.torn = Some(Spot::new(place, &*text).kept());
            if whole && !line::is_torn(&text) {
                // No end of a broker leaves such a line.
                self.reports_torn();
            }
        }
    }

    fn sees_line(&mut self, line: &Line<'_>, spot: &mut Spot<'_>) {
        let Some(life) = &mut self.life else {
            self.skipped += 1;
            return;
        };
        if let Event::Unknown { verb } = line.event {
            let unknown = &mut self.report.unknown;
            if unknown.len() < UNKNOWN_VERBS || unknown.contains_key(verb) {
                *unknown.entry(verb.into()).or_default() += 1;
            }
        }
        match line.event {
            // Whatever comes after it can't be held against what came before.
            Event::LogGap { lost } => {
                self.ends_life();
                self.blame = Some(Blame::Lost(lost));
            }
            _ => life.sees(line, spot),
        }
        if self.life.as_ref().is_some_and(|life| life.is_too_large) {
            self.ends_life();
            self.blame = Some(Blame::TooLarge);
        }
    }

    /// A line that can't be read is not the torn end of a life.
    fn reports_torn(&mut self) {
        let Some(mut spot) = self.torn.take() else { return };
        match &mut self.life {
            Some(life) => life.findings.add(&mut spot, Promise::Evidence, || "the line can't be read".into()),
            None => self.skipped += 1,
        }
    }

    fn begins_life(&mut self, text: &str, line: u64, start: &Start<'_>) {
        if start.format != Some(FORMAT) {
            self.blame = Some(Blame::Format(start.format));
            self.skipped = 1;
            return;
        }
        if let Some((file, line)) = self.begun.get(text) {
            self.blame = Some(Blame::Twice(file.clone(), *line));
            return;
        }
        self.begun.insert(text.into(), (self.file.clone(), line));
        if let (Some(after), Some(last)) = (start.after, &self.last)
            && !stands_for(after, last)
        {
            let after = after.split('/').next().unwrap_or_default().into();
            self.report.gaps.push(Gap::Cut(self.file.clone(), line, after));
        }
        self.report.strict &= start.strict;
        self.life = Some(Life::new(start));
    }

    /// A line was looked at.
    fn passes(&mut self, bytes: &[u8], whole: bool) {
        if whole && !bytes.ends_with(line::TORN.as_bytes()) {
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(bytes);
        }
    }

    fn ends_life(&mut self) {
        self.report.torn += u64::from(self.torn.take().is_some());
        let Some(mut life) = self.life.take() else {
            let skipped = std::mem::take(&mut self.skipped);
            self.report.gaps.extend(match self.blame.take() {
                Some(Blame::Missing(file)) => Some(Gap::Missing(file, skipped)),
                Some(Blame::Lost(lost)) => Some(Gap::Lost(lost, skipped)),
                Some(Blame::Format(format)) => Some(Gap::Format(format, skipped)),
                Some(Blame::TooLarge) => Some(Gap::TooLarge(skipped)),
                Some(Blame::Twice(file, line)) => Some(Gap::Twice(file, line, skipped)),
                None => Some(Gap::Beginning(skipped)).filter(|_| skipped > 0),
            });
            return;
        };
        life.ends();
        self.report.counts.add(&life.counts);
        self.report.most_lost = self.report.most_lost.max(life.dispatched_after);
        if !life.detailed && life.counts.clients_joined > 0 {
            // What seems wrong with it is what was left out.
            self.report.gaps.push(Gap::NoDetail(self.report.counts.lives));
        } else {
            self.findings.append(life.findings);
        }
    }

    fn ends(mut self, sources: &[Source]) -> Report {
        self.ends_life();
        let mut report = self.report;
        if report.counts.lives == 0 && report.gaps.is_empty() {
            report.gaps.push(Gap::Nothing);
        }
        report.violated = self.findings.counts;
        self.findings.first.sort_by_key(|found| found.place);
        let violation = |found: findings::Found| Violation {
            file: sources[found.place.file].path.clone(),
            line: found.place.line,
            text: found.text,
            promise: found.promise,
            what: found.what,
        };
        report.violations = self.findings.first.into_iter().map(violation).collect();
        report
    }
}

/// Whether a broker that says that it started after this line means that one.
fn stands_for(after: &str, line: &[u8]) -> bool {
    let checksum = after.rsplit('/').next().and_then(|digits| u32::from_str_radix(digits, 16).ok());
    checksum == Some(crc32fast::hash(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_open_requests_than_memory_is_meant_for_are_neither_proved_nor_refuted() {
        let written = |texts: &[&str]| -> String {
            texts.iter().map(|text| format!("2026-11-23T10:45:56.824140Z INFO  {text}\n")).collect()
        };
        let start = "listening format=2 frontend=a backend=b rotation=strict level=debug log=l pid=1";
        let report = |texts: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("a.log");
            std::fs::write(&file, written(texts)).unwrap();
            audit(&[file]).unwrap()
        };
        let open = [start, "client-joined c1 a clients=1", "accept c1#1..4095 pool=p"];
        // As many as are kept, one after the other.
        let kept = report(&[&open[..], &["cancel c1#1..4095", "accept c1#4096..8190 pool=p"]].concat());
        assert_eq!(kept.verdict(), Verdict::Proved, "{kept}");
        let more = report(&[&open[..], &["accept c1#4096 pool=p", "accept c1#1 pool=p", "sang"]].concat());
        assert_eq!((more.verdict(), &more.gaps[..]), (Verdict::NotProvable, &[Gap::TooLarge(2)][..]), "{more}");
    }
}
