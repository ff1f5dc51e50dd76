//! What the files of a run must show, once it is over.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use giostra_audit::{Event, Line};

use super::journal::Journal;
use crate::system::System;

/// How long after a thaw a worker may still be dropped for what it missed.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Whether the log proves the promises. An error that says what is not as it should be.
pub fn audit(system: &System) -> Result<()> {
    for entry in fs::read_dir(system.folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "err") {
            let said = fs::read_to_string(&path)?;
            ensure!(!said.contains("panicked"), "{}: {said}", path.display());
        }
    }
    system.audit().map(drop)
}

/// Lines of the log that say that a worker was dropped for its silence, though it had not been
/// frozen.
///
/// Not a fault for certain: a machine that is too busy freezes processes, too.
pub fn dropped_unfrozen(system: &System, journal: &Journal) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for_each_line(system, |line| {
        if let Some(parsed) = Line::parse(line)
            && let Event::Dropped { worker, reason, .. } = parsed.event
            && reason.ends_with("pings unanswered")
            && !journal.stalled_lately(worker.name, parsed.time(), AFTERMATH)
        {
            found.push(line.into());
        }
        Ok(())
    })?;
    Ok(found)
}

fn for_each_line(system: &System, mut look: impl FnMut(&str) -> Result<()>) -> Result<()> {
    for path in system.log_files() {
        for line in BufReader::new(File::open(&path)?).lines() {
            look(&line?).with_context(|| format!("in {}", path.display()))?;
        }
    }
    Ok(())
}
