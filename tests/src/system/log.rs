//! The log of a system's broker.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use giostra_audit::{Report, Verdict, audit, text_of};

use super::System;
use crate::process::wait_for;

impl System {
    /// Returns the log's files, the oldest first.
    pub fn log_files(&self) -> Vec<PathBuf> {
        log_files(&self.folder.path().join("log"))
    }

    /// Returns the whole log, as text also if its lines are JSON objects.
    pub fn log(&self) -> String {
        self.log_files().iter().map(|path| as_text(&fs::read_to_string(path).unwrap_or_default())).collect()
    }

    /// Audits the log so far.
    ///
    /// # Errors
    /// If a promise is refuted or can't be proved.
    pub fn audit(&self) -> Result<Report> {
        proved(&self.folder.path().join("log"))
    }

    /// Returns the lines with this part. A last line that is not yet written to its end is left out.
    pub fn lines(&self, part: &str) -> Vec<String> {
        let log = self.log();
        whole_lines(&log).filter(|line| line.contains(part)).map(String::from).collect()
    }

    /// Returns the number of lines with this part.
    pub fn count(&self, part: &str) -> usize {
        whole_lines(&self.log()).filter(|line| line.contains(part)).count()
    }

    /// Returns the first line with all of these parts.
    pub fn line(&self, parts: &[&str]) -> Option<String> {
        whole_lines(&self.log()).find(|line| parts.iter().all(|part| line.contains(part))).map(String::from)
    }

    /// Waits for a line with all of these parts.
    pub fn wait_for_line(&self, parts: &[&str]) -> Result<String> {
        wait_for(&format!("a line of the log with {parts:?}"), || self.line(parts))
    }

    /// Waits until `count` lines have this part.
    pub fn wait_for_lines(&self, part: &str, count: usize) -> Result<()> {
        wait_for(&format!("{count} lines of the log with {part}"), || (self.count(part) >= count).then_some(()))
    }

    /// Returns how often worker `number` has registered.
    pub fn registrations(&self, number: usize) -> usize {
        self.count(&format!(" joined worker-{number} "))
    }

    /// Waits until worker `number` has registered `times` times.
    pub fn wait_for_registration(&self, number: usize, times: usize) -> Result<()> {
        self.wait_for_lines(&format!(" joined worker-{number} "), times)
    }
}

/// Returns the files of the log in a folder, the oldest first.
pub fn log_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| !path.is_symlink() && path.extension() == Some(OsStr::new("log")))
        .collect();
    // By its name `_rCURRENT` would be before `_r00000`, but it is the newest.
    files.sort_by_key(|path| (path.to_string_lossy().ends_with("_rCURRENT.log"), path.clone()));
    files
}

/// Audits the log in a folder.
///
/// # Errors
/// If a promise is refuted or can't be proved.
pub fn proved(folder: &Path) -> Result<Report> {
    let report = audit(&[folder.into()])?;
    ensure!(report.verdict() == Verdict::Proved, "the log does not prove the promises:\n{report}");
    Ok(report)
}

fn whole_lines(log: &str) -> impl Iterator<Item = &str> {
    log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'))
}

/// Returns log lines as text, of which those may be JSON objects that are whole.
pub(super) fn as_text(log: &str) -> String {
    let line = |line: &str| match line.strip_suffix('\n') {
        Some(whole) => text_of(whole.as_bytes()).into_owned() + "\n",
        None => line.into(),
    };
    log.split_inclusive('\n').map(line).collect()
}
