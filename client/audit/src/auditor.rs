//! The audit of a whole log: finds the lives of brokers in its lines, and checks each by itself.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::FORMAT;
use crate::files::Source;
use crate::findings::{Findings, Location, Promise, SourceLine, Violation};
use crate::gap::Gap;
use crate::ledger::Ledger;
use crate::life::Life;
use crate::line::{self, Event, Line, Start};
use crate::ranges::JobKey;
use crate::report::Report;

/// The maximum number of different unknown verbs that are counted.
const MAX_UNKNOWN_VERBS: usize = 20;

/// The state of an audit between two lines.
#[derive(Default)]
pub(crate) struct Auditor {
    report: Report,
    findings: Findings,
    /// The durable jobs, between two lives.
    ledger: Ledger,
    /// The current life; `None` while lines are skipped.
    life: Option<Life>,
    /// The number of lines skipped since the last life ended.
    skipped: u64,
    /// Why lines are skipped, by their number; `None` at the log's beginning.
    skip_reason: Option<Box<dyn FnOnce(u64) -> Gap>>,
    /// Where each life began, by the text of its first line. No two brokers start with the same
    /// line: it has the time in microseconds and the process's id.
    starts: HashMap<String, (PathBuf, u64)>,
    /// The file that is being read.
    file: PathBuf,
    /// The previous whole line.
    previous: Option<Vec<u8>>,
    /// Whether that is of another log, or a file in between is missing.
    is_another_log: bool,
    /// A line that can't be read. It is a violation if lines of the same life follow.
    torn: Option<SourceLine>,
}

impl Auditor {
    /// Begins the audit of a log in this number of files.
    pub fn new(files: usize) -> Self {
        Self { report: Report { files, strict: true, ..Report::default() }, ..Self::default() }
    }

    /// Begins a file, which follows `earlier`.
    pub fn begin_file(&mut self, source: &Source, earlier: Option<&Source>) {
        self.file.clone_from(&source.path);
        self.is_another_log |= source.missing.is_some() || !earlier.is_some_and(|earlier| source.continues(earlier));
        if let Some(missing) = &source.missing {
            self.end_life();
            self.ledger.forget();
            let missing = missing.clone();
            self.skip_reason = Some(Box::new(|skipped| Gap::Missing(missing, skipped)));
        }
    }

    /// Checks a line without its line feed; `whole` says whether it had one.
    pub fn handle_line(&mut self, location: Location, bytes: &[u8], whole: bool) {
        self.report.lines += 1;
        self.check_bytes(location, bytes, whole);
        self.note_previous(bytes, whole);
    }

    fn check_bytes(&mut self, location: Location, bytes: &[u8], whole: bool) {
        let text = line::text_of(bytes);
        match Line::parse(&text).filter(|_| whole) {
            Some(Line { event: Event::Listening(start), .. }) => {
                self.end_life();
                self.begin_life(&text, location.line, &start);
            }
            Some(Line { event: Event::LogContinues { after }, .. }) => self.check_continuation(after, location.line),
            Some(line) => {
                self.report_torn();
                self.check_line(&line, location, bytes);
            }
            None => {
                self.report_torn();
                self.torn = Some(SourceLine::new(location, bytes));
                if whole && !line::is_torn(&text) {
                    // A broker that is killed leaves no such line.
                    self.report_torn();
                }
            }
        }
    }

    fn check_line(&mut self, line: &Line<'_>, location: Location, bytes: &[u8]) {
        let Some(life) = &mut self.life else {
            self.skipped += 1;
            return;
        };
        if let Event::Unknown { verb } = line.event {
            let unknown = &mut self.report.unknown;
            if unknown.len() < MAX_UNKNOWN_VERBS || unknown.contains_key(verb) {
                *unknown.entry(verb.into()).or_default() += 1;
            }
        }
        life.findings.line.set(location, bytes);
        if let Event::LogGap { lost } = line.event {
            // Later lines may contradict earlier ones because of the lines that are missing.
            self.end_life();
            self.ledger.forget();
            self.skip_reason = Some(Box::new(move |skipped| Gap::Lost(lost, skipped)));
        } else if !life.handle_line(line) {
            self.end_life();
            self.ledger.forget();
            self.skip_reason = Some(Box::new(Gap::TooLarge));
        }
    }

    /// Checks that a file which a broker began because the one before was moved away follows that one.
    fn check_continuation(&mut self, after: &str, line: u64) {
        // The rest of a torn line went nowhere, and `log-gap` says so.
        self.report.torn += u64::from(self.torn.take().is_some());
        if self.life.is_none() {
            self.skipped += 1;
        } else if !self.previous.as_ref().is_some_and(|last| is_followed_by(after, last)) {
            self.end_life();
            self.ledger.forget();
            let (file, after) = (self.file.clone(), time_in(after));
            self.skip_reason = Some(Box::new(move |skipped| Gap::Moved(file, line, after, skipped)));
        }
    }

    /// Reports the line that can't be read, since it is not the end of a life.
    fn report_torn(&mut self) {
        let Some(line) = self.torn.take() else { return };
        match &mut self.life {
            Some(life) => {
                life.findings.line = line;
                life.findings.add(Promise::Evidence, || "the line can't be read".into());
            }
            None => self.skipped += 1,
        }
    }

    fn begin_life(&mut self, text: &str, line: u64, start: &Start<'_>) {
        if start.format != Some(FORMAT) {
            let format = start.format;
            self.ledger.forget();
            self.skip_reason = Some(Box::new(move |skipped| Gap::Format(format, skipped)));
            self.skipped = 1;
            return;
        }
        if let Some((file, line)) = self.starts.get(text).cloned() {
            self.skip_reason = Some(Box::new(move |skipped| Gap::Twice(file, line, skipped)));
            return;
        }
        self.starts.insert(text.into(), (self.file.clone(), line));
        if let (Some(after), Some(last)) = (start.after, &self.previous)
            && !self.is_another_log
            && !is_followed_by(after, last)
        {
            self.ledger.forget();
            self.report.gaps.push(Gap::Cut(self.file.clone(), line, time_in(after)));
        }
        self.report.strict &= start.strict;
        self.life = Some(Life::new(start, self.report.counts, std::mem::take(&mut self.ledger)));
    }

    /// Remembers the line as the previous one.
    fn note_previous(&mut self, bytes: &[u8], whole: bool) {
        if whole && !bytes.ends_with(line::TORN.as_bytes()) {
            let last = self.previous.get_or_insert_default();
            last.clear();
            last.extend_from_slice(bytes);
            self.is_another_log = false;
        }
    }

    fn end_life(&mut self) {
        self.report.torn += u64::from(self.torn.take().is_some());
        let Some(mut life) = self.life.take() else {
            let skipped = std::mem::take(&mut self.skipped);
            self.report.gaps.extend(match self.skip_reason.take() {
                Some(gap) => Some(gap(skipped)),
                None => Some(Gap::Beginning(skipped)).filter(|_| skipped > 0),
            });
            return;
        };
        life.finish();
        self.report.counts = life.counts;
        self.ledger = life.ledger;
        self.report.max_lost = self.report.max_lost.max(life.dispatched_after);
        if !life.detailed && (life.last_client > 0 || life.has_had_jobs) {
            // Its violations come from the lines that were left out, and so may those of later lives.
            self.ledger.forget();
            self.report.gaps.push(Gap::NoDetail(self.report.counts.lives));
        } else {
            self.findings.append(life.findings);
        }
    }

    /// Returns the first line of each life.
    pub fn starts(&self) -> Vec<String> {
        self.starts.keys().cloned().collect()
    }

    /// Ends the audit. Returns its report, and what is wrong with this job: how often, and the first of
    /// it.
    pub fn finish_about(mut self, job: JobKey, sources: &[Source]) -> (Report, Option<(u64, String)>) {
        self.end_life();
        let wrong = self.findings.jobs.remove(&job);
        (self.finish(sources), wrong)
    }

    /// Ends the audit and returns its report.
    pub fn finish(mut self, sources: &[Source]) -> Report {
        self.end_life();
        let mut report = self.report;
        if report.counts.lives == 0 && report.gaps.is_empty() {
            report.gaps.push(Gap::Nothing);
        }
        report.violated = self.findings.counts;
        let mut violations = self.findings.first;
        violations.sort_by_key(|(file, violation)| (*file, violation.line));
        let located =
            |(file, violation): (usize, Violation)| Violation { file: sources[file].path.clone(), ..violation };
        report.violations = violations.into_iter().map(located).collect();
        report
    }
}

/// Returns the time in `after`.
fn time_in(after: &str) -> String {
    after.split('/').next().unwrap_or_default().into()
}

/// Returns whether `after`, by which a broker names the line before its first, means this line.
fn is_followed_by(after: &str, line: &[u8]) -> bool {
    let checksum = after.rsplit('/').next().and_then(|digits| u32::from_str_radix(digits, 16).ok());
    checksum == Some(crc32fast::hash(line))
}
