//! The rows of deleted and cancelled jobs are removed later, in bounded steps.
//!
//! To delete a large job at once would hold up all others. So its row in `job` goes, it is noted in
//! `gone`, and what else belongs to it goes a step at a time: with the groups that are committed,
//! and while there is nothing else to do. After a restart it goes on.

use std::ops::RangeInclusive;

use giostra_core::ids::JobNumber;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::Fault;
use crate::format::rows_of;

/// How much a step removes at most; the last row may be larger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// How many rows.
    pub rows: usize,
    /// How many bytes.
    pub bytes: i64,
}

/// A step with a group: about as much as a group adds.
pub(crate) const WITH_A_GROUP: Step = Step { rows: 256, bytes: 1 << 20 };

/// A step while there is nothing else to do: some milliseconds.
pub(crate) const IDLE: Step = Step { rows: 1000, bytes: 4 << 20 };

/// A table of rows that belong to jobs: how to find and measure some, and how to remove them.
struct Table {
    select: &'static str,
    delete: &'static str,
}

/// The tables; the first two are those of requests.
const TABLES: [Table; 4] = [
    Table {
        select: "SELECT id, length(t) + length(b) FROM sub WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        delete: "DELETE FROM sub WHERE id BETWEEN ? AND ?",
    },
    Table {
        select: "SELECT id, 16 FROM att WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        delete: "DELETE FROM att WHERE id BETWEEN ? AND ?",
    },
    Table {
        select: "SELECT id, length(t) + length(b) FROM res WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        delete: "DELETE FROM res WHERE id BETWEEN ? AND ?",
    },
    Table {
        select: "SELECT id, length(b) FROM err WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        delete: "DELETE FROM err WHERE id BETWEEN ? AND ?",
    },
];

/// Notes that the rows of a job are to be removed: everything, or its requests alone.
pub(crate) fn note(db: &Connection, job: JobNumber, everything: bool) -> Result<(), Fault> {
    let mut note = db.prepare_cached("INSERT OR REPLACE INTO gone (job, everything) VALUES (?, ?)")?;
    note.execute(params![job.0 as i64, everything])?;
    Ok(())
}

/// Returns whether a job is gone, and its rows are not.
pub(crate) fn is_gone(db: &Connection, job: JobNumber) -> Result<bool, Fault> {
    Ok(db.prepare_cached("SELECT 1 FROM gone WHERE job = ?")?.exists([job.0 as i64])?)
}

/// Returns whether there is anything to remove.
pub(crate) fn is_due(db: &Connection) -> Result<bool, Fault> {
    Ok(db.prepare_cached("SELECT 1 FROM gone LIMIT 1")?.exists([])?)
}

/// Removes some, within a transaction. Returns whether there is more.
pub(crate) fn step(db: &Connection, mut left: Step) -> Result<bool, Fault> {
    let mut next = db.prepare_cached("SELECT job, everything FROM gone ORDER BY job LIMIT 1")?;
    while let Some((job, everything)) = next.query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?))).optional()? {
        let job = JobNumber(job as u64);
        let tables = if everything { &TABLES[..] } else { &TABLES[..2] };
        for table in tables {
            clear(db, table, rows_of(job), &mut left)?;
            if left.rows == 0 || left.bytes <= 0 {
                return Ok(true);
            }
        }
        db.prepare_cached("DELETE FROM gone WHERE job = ?")?.execute([job.0 as i64])?;
        // Jobs without rows count as well.
        left.rows -= 1;
        if left.rows == 0 {
            return is_due(db);
        }
    }
    Ok(false)
}

/// Removes rows of a table, the first ones first.
fn clear(db: &Connection, table: &Table, ids: RangeInclusive<i64>, left: &mut Step) -> Result<(), Fault> {
    let mut last = None;
    {
        let mut select = db.prepare_cached(table.select)?;
        let mut rows = select.query(params![ids.start(), ids.end(), left.rows as i64])?;
        while left.bytes > 0
            && let Some(row) = rows.next()?
        {
            last = Some(row.get::<_, i64>(0)?);
            left.rows -= 1;
            left.bytes -= row.get::<_, i64>(1)?;
        }
    }
    if let Some(last) = last {
        db.prepare_cached(table.delete)?.execute(params![ids.start(), last])?;
    }
    Ok(())
}
