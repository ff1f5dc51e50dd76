//! The tables of a store, and the numbers of their rows.
//!
//! A row of `sub` (requests) and `res` (results) holds a chunk, packed as `chunk.rs` says: its id is
//! the job's number times 2^24, plus the number of its first request. So the rows of a job follow
//! one another, and those of a block do. A row of `err` holds one failure, by the same kind of id.
//! `gone` names the jobs whose rows are still to be removed: of `sub` alone, or all.

use std::ops::RangeInclusive;

use giostra_core::ids::JobNumber;
use giostra_protocol::MAX_JOB_REQUESTS;
use rusqlite::Connection;

use crate::chunk::BLOCK;
use crate::error::Fault;

/// The format that is written and read.
pub(crate) const VERSION: i64 = 1;

/// What SQLite's header says whose file it is: "Gios".
const APPLICATION: i64 = i64::from_be_bytes(*b"\0\0\0\0Gios");

/// Job numbers are below this, so that a row's id is not negative.
pub(crate) const JOB_NUMBERS: u64 = 1 << 39;

const TABLES: &str = "
    CREATE TABLE meta (home INTEGER NOT NULL);
    CREATE TABLE job (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        owner TEXT NOT NULL,
        pool TEXT NOT NULL,
        key TEXT NOT NULL,
        spec BLOB NOT NULL,
        state INTEGER NOT NULL,
        requests INTEGER NOT NULL,
        succeeded INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        submitted_ms INTEGER NOT NULL,
        ended_ms INTEGER NOT NULL,
        UNIQUE (owner, pool, key)
    );
    CREATE INDEX job_owner ON job (owner);
    CREATE INDEX job_live ON job (state) WHERE state < 2;
    CREATE TABLE sub (id INTEGER PRIMARY KEY, t BLOB NOT NULL, b BLOB NOT NULL);
    CREATE TABLE res (id INTEGER PRIMARY KEY, t BLOB NOT NULL, b BLOB NOT NULL);
    CREATE TABLE err (id INTEGER PRIMARY KEY, b BLOB NOT NULL);
    CREATE TABLE gone (job INTEGER PRIMARY KEY, everything INTEGER NOT NULL);
";

/// Whose a file is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// When this version wrote it.
    Ours,
    /// When a newer version wrote it: which.
    Newer(i64),
    /// When something else wrote it.
    Foreign,
}

/// Makes the tables of an empty store, in one transaction.
pub(crate) fn make(db: &mut Connection, home: u32) -> Result<(), Fault> {
    let make = db.transaction()?;
    make.execute_batch(TABLES)?;
    make.execute("INSERT INTO meta (home) VALUES (?)", [home])?;
    make.pragma_update(None, "application_id", APPLICATION)?;
    make.pragma_update(None, "user_version", VERSION)?;
    Ok(make.commit()?)
}

/// Finds out whose the file is.
pub(crate) fn whose(db: &Connection) -> Result<Whose, Fault> {
    let number = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    if number("application_id")? != APPLICATION {
        return Ok(Whose::Foreign);
    }
    match number("user_version")? {
        VERSION => Ok(Whose::Ours),
        newer if newer > VERSION => Ok(Whose::Newer(newer)),
        _ => Err(Fault::Damaged("its format has no number".into())),
    }
}

/// Reads the store's random number.
pub(crate) fn home(db: &Connection) -> Result<u32, Fault> {
    match db.query_row("SELECT home FROM meta", [], |row| row.get(0))? {
        0 => Err(Fault::Damaged("its number is 0".into())),
        home => Ok(home),
    }
}

/// Returns the id of a row: `number` is that of its first request, below [`MAX_JOB_REQUESTS`].
pub(crate) fn row_id(job: JobNumber, number: u32) -> i64 {
    debug_assert!(job.0 < JOB_NUMBERS && number < MAX_JOB_REQUESTS);
    (job.0 * u64::from(MAX_JOB_REQUESTS) + u64::from(number)) as i64
}

/// Returns the number of a row's first request.
pub(crate) fn number_of(id: i64) -> u32 {
    (id % i64::from(MAX_JOB_REQUESTS)) as u32
}

/// Returns the ids of a job's rows.
pub(crate) fn rows_of(job: JobNumber) -> RangeInclusive<i64> {
    row_id(job, 0)..=row_id(job, MAX_JOB_REQUESTS - 1)
}

/// Returns the ids of a block's rows: of the block with this number, counted from 0 in its job.
pub(crate) fn rows_of_block(job: JobNumber, block: u32) -> RangeInclusive<i64> {
    let first = row_id(job, block * BLOCK);
    first..=first + i64::from(BLOCK - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_the_last_block_of_the_last_job_have_ids_of_their_own() {
        let (job, block) = (JobNumber(JOB_NUMBERS - 1), MAX_JOB_REQUESTS / BLOCK - 1);
        let rows = rows_of_block(job, block);
        assert_eq!((*rows.end(), *rows_of(job).end()), (i64::MAX, i64::MAX));
        assert!(rows_of(JobNumber(JOB_NUMBERS - 2)).end() < rows_of(job).start());
        assert_eq!(row_id(job, MAX_JOB_REQUESTS - 1), i64::MAX);
        assert_eq!(number_of(i64::MAX), MAX_JOB_REQUESTS - 1);
    }

    #[test]
    fn a_store_is_known_by_its_header() {
        let mut db = Connection::open_in_memory().unwrap();
        assert_eq!(whose(&db).unwrap(), Whose::Foreign);
        make(&mut db, 7).unwrap();
        assert_eq!(whose(&db).unwrap(), Whose::Ours);
        assert_eq!(home(&db).unwrap(), 7);
        db.pragma_update(None, "user_version", VERSION + 1).unwrap();
        assert_eq!(whose(&db).unwrap(), Whose::Newer(VERSION + 1));
    }
}
