//! Lines that failed: the first are reported on stderr, all are kept in a file.

use std::fs::File;
use std::io::{BufWriter, Write, stdin, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::output::same;

/// The number of failures that are reported one by one.
const REPORTED: u64 = 10;

/// The failures of a run.
pub struct Failures {
    count: u64,
    file: Option<(BufWriter<File>, PathBuf)>,
}

impl Failures {
    /// Begins without failures, and empties the file. An error if it can't be written, or is stdin,
    /// stdout or the journal.
    pub fn new(path: Option<&Path>, journal: Option<&Path>) -> anyhow::Result<Self> {
        let file = path.map(|path| Ok::<_, anyhow::Error>((create(path, journal)?, path.into()))).transpose()?;
        Ok(Self { count: 0, file })
    }

    /// Counts a line that failed. Returns what to report, if anything.
    pub fn add(&mut self, number: u64, why: impl std::fmt::Display) -> Option<String> {
        self.count += 1;
        match self.count {
            ..=REPORTED => Some(format!("line {number}: {why}")),
            count if count == REPORTED + 1 => Some("more lines failed; the end says how many".into()),
            _ => None,
        }
    }

    /// Returns what to report at the end, if not all were reported one by one.
    pub fn rest(&self) -> Option<String> {
        (self.count > REPORTED).then(|| format!("{} lines failed in all", self.count))
    }

    /// Keeps a line that failed.
    pub fn keep(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.with_file(|file| {
            file.write_all(line)?;
            file.write_all(b"\n")
        })
    }

    /// Returns whether lines are kept.
    pub fn are_kept(&self) -> bool {
        self.file.is_some()
    }

    /// Writes the lines that are kept and not written yet.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.with_file(BufWriter::flush)
    }

    fn with_file(&mut self, act: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> anyhow::Result<()> {
        match &mut self.file {
            Some((file, path)) => act(file).with_context(|| format!("can't write {}", path.display())),
            None => Ok(()),
        }
    }
}

fn create(path: &Path, journal: Option<&Path>) -> anyhow::Result<BufWriter<File>> {
    let at = || format!("can't write {}", path.display());
    let file = File::options().write(true).create(true).truncate(false).open(path).with_context(at)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        let name = path.display();
        ensure!(!same(stdin(), &metadata)?, "{name} is what stdin reads; the lines that fail again need another file");
        ensure!(!same(stdout(), &metadata)?, "{name} is what stdout writes; the lines that fail need another file");
        if let Some(journal) = journal {
            let same = same(File::open(journal)?, &metadata)?;
            ensure!(!same, "{name} is the journal; the lines that fail need another file");
        }
        file.set_len(0).with_context(at)?;
    }
    Ok(BufWriter::new(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_are_reported_and_that_there_are_more() {
        let mut failures = Failures::new(None, None).unwrap();
        let reported: Vec<_> = (1..=1000).filter_map(|number| failures.add(number, "failed: why")).collect();
        assert_eq!((reported.len(), &*reported[9]), (11, "line 10: failed: why"));
        assert!(reported[10].contains("more lines failed"));
        assert_eq!(failures.rest(), Some("1000 lines failed in all".into()));
    }

    #[test]
    fn lines_that_failed_are_kept_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("failed");
        std::fs::write(&path, "of an earlier run\n").unwrap();
        let mut failures = Failures::new(Some(&path), None).unwrap();
        failures.keep(b" 1  0\r").unwrap();
        failures.keep(b"\xff").unwrap();
        failures.flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b" 1  0\r\n\xff\n");
    }
}
