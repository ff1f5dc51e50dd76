//! Audits the log of a Giostra broker: proves or refutes, from its lines alone, that the broker kept
//! its promises.
//!
//! The audit shares no code with the broker, and needs none to be running. A log may hold several
//! lives of a broker, each of which begins with `listening` and is audited by itself. `docs/log.md`
//! describes the lines, what is proved, and what can't be.
//!
//! - [`audit`] checks a whole log and returns a [`Report`].
//! - [`account`] does so for each of several brokers, and holds their logs against the journals of
//!   their clients.
//! - [`story`] tells what became of one request, [`job_story`] what became of a durable job.
//! - [`Line::parse`] reads a single line.

mod account;
mod auditor;
mod connections;
mod files;
mod findings;
mod gap;
mod id_set;
mod job_story;
mod journal;
mod ledger;
mod life;
mod line;
mod ranges;
mod report;
mod story;

use std::path::PathBuf;

pub use account::{Account, BrokerAudit, ClientAccount, Crossing, JournalAudit, Served, account};
pub use files::Error;
pub use findings::{Promise, Violation};
pub use gap::Gap;
pub use job_story::{JobEnd, JobId, JobLife, JobStory, job_story};
pub use journal::Finding;
pub use line::{DepartureCounts, Event, Evidence, Line, Priority, Start, Worker, text_of};
pub use ranges::{Id, IdRange, IdRanges, Ids};
pub use report::{Counts, Report, Verdict};
pub use story::{Step, Story, story};

use auditor::Auditor;
use files::Source;
use findings::Location;

/// The format of the log that is read, as `listening` says it after `format=`.
pub const FORMAT: u64 = 2;

/// Audits the log in these files and folders; of a folder, all files of the broker's log.
///
/// Files are read in the order in which they were written, whatever their order in `logs`. A broker
/// may be writing them: the log is audited as it was at one moment.
///
/// # Errors
///
/// An error if a file can't be read, a folder has no log, or files change too fast.
///
/// # Examples
///
/// ```
/// use giostra_audit::{Verdict, audit};
///
/// let log = "\
/// 2026-11-23T10:45:56.824140Z INFO  listening format=2 rotation=strict level=debug
/// 2026-11-23T10:45:57.000000Z INFO  client-joined c1 ada clients=1
/// 2026-11-23T10:45:57.000100Z DEBUG accept c1#1 pool=compute
/// 2026-11-23T10:45:57.500000Z INFO  cancel c1#1
/// ";
/// let file = std::env::temp_dir().join(format!("giostra-audit-{}.log", std::process::id()));
/// std::fs::write(&file, log)?;
/// let report = audit(&[file.clone()])?;
/// assert_eq!(report.verdict(), Verdict::Proved, "{report}");
/// assert_eq!((report.counts.accepted, report.counts.cancelled), (1, 1));
/// # std::fs::remove_file(file)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn audit(logs: &[PathBuf]) -> Result<Report, Error> {
    let (auditor, sources) = read(files::sources(logs)?, |_, _| ())?;
    Ok(auditor.finish(&sources))
}

/// Audits a log up to its end, and shows each line to `reader`, too: its bytes without the line feed,
/// and whether it had one.
fn read(sources: Vec<Source>, mut reader: impl FnMut(&[u8], bool)) -> Result<(Auditor, Vec<Source>), Error> {
    let mut auditor = Auditor::new(sources.len());
    for (file, source) in sources.iter().enumerate() {
        auditor.begin_file(source, file.checked_sub(1).map(|earlier| &sources[earlier]));
        source.read(|line, bytes, whole| {
            auditor.handle_line(Location { file, line }, bytes, whole);
            reader(bytes, whole);
            true
        })?;
    }
    Ok((auditor, sources))
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
