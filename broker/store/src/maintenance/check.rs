//! Whether what is in the tables can be: each job's counters against its rows, each row against its
//! job.

use std::collections::{BTreeMap, BTreeSet};

use giostra_core::ids::JobNumber;
use giostra_protocol::{Failure, JobState};
use rusqlite::{Connection, params};

use crate::chunk;
use crate::error::Fault;
use crate::format::{BLOCK, number_of, row_id, rows_of, rows_of_block};
use crate::jobs::{self, Progress};

/// The number of problems that are told; more are counted.
pub const MAX_PROBLEMS: usize = 100;

/// What is wrong with a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// What is wrong, for people; none if it is sound.
    pub problems: Vec<String>,
    /// The number of further problems.
    pub left_out: u64,
}

impl Check {
    /// Returns whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, problem: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    /// Adds why something could not be read.
    fn add_fault(&mut self, what: &str, fault: Fault) {
        self.add(match fault {
            Fault::Damaged(why) | Fault::Misuse(why) => format!("{what}: {why}"),
            Fault::Sqlite(error) => format!("{what}: {error}"),
            Fault::Full => format!("{what}: no space on the disk"),
        });
    }
}

/// Checks all of a store, within a transaction.
pub(super) fn all(db: &Connection) -> Check {
    let mut check = Check::default();
    if let Err(fault) = pages(db, &mut check) {
        check.add_fault("the database can't be checked", fault);
    }
    // What follows would tell the same with other words.
    if check.is_sound()
        && let Err(fault) = contents(db, &mut check)
    {
        check.add_fault("the tables can't be read", fault);
    }
    check
}

/// SQLite's own check.
fn pages(db: &Connection, check: &mut Check) -> Result<(), Fault> {
    let mut query = db.prepare(&format!("PRAGMA integrity_check({MAX_PROBLEMS})"))?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let said: String = row.get(0)?;
        if said != "ok" {
            check.add(format!("SQLite says: {said}"));
        }
    }
    Ok(())
}

fn contents(db: &Connection, check: &mut Check) -> Result<(), Fault> {
    crate::schema::home(db)?;
    let gone = gone(db)?;
    let mut known = BTreeSet::new();
    let mut highest = 0;
    let mut numbers = db.prepare("SELECT number FROM job ORDER BY number")?;
    let mut rows = numbers.query([])?;
    while let Some(row) = rows.next()? {
        let job = JobNumber(row.get::<_, i64>(0)? as u64);
        highest = job.0;
        known.insert(job);
        match jobs::checked(db, job) {
            Err(fault) => check.add_fault(&format!("job {}", job.0), fault),
            Ok(progress) => Job { db, job, progress, bodies_go: gone.get(&job).copied(), check }.check(),
        }
    }
    if jobs::last(db)? < highest {
        check.add(format!("job {highest} has a number that is still to be given"));
    }
    for table in ["sub", "res", "err", "att"] {
        for job in jobs_in(db, table)? {
            if !known.contains(&job) && gone.get(&job) != Some(&true) {
                check.add(format!("{table}: there are rows of job {}, which is not there", job.0));
            }
        }
    }
    Ok(())
}

/// Reads which jobs are to be removed: their rows, or the requests alone.
fn gone(db: &Connection) -> Result<BTreeMap<JobNumber, bool>, Fault> {
    let mut query = db.prepare("SELECT job, everything FROM gone")?;
    let gone = query.query_map([], |row| Ok((JobNumber(row.get::<_, i64>(0)? as u64), row.get(1)?)))?;
    Ok(gone.collect::<Result<_, _>>()?)
}

/// Finds the jobs that have rows in a table.
fn jobs_in(db: &Connection, table: &str) -> Result<Vec<JobNumber>, Fault> {
    let mut next = db.prepare(&format!("SELECT min(id) FROM {table} WHERE id > ?"))?;
    let (mut found, mut after) = (Vec::new(), i64::MIN);
    while let Some(id) = next.query_row([after], |row| row.get::<_, Option<i64>>(0))? {
        let job = JobNumber((id / row_id(JobNumber(1), 0)) as u64);
        found.push(job);
        after = if id < 0 { id } else { *rows_of(job).end() };
    }
    Ok(found)
}

/// A job that is being checked.
struct Job<'a> {
    db: &'a Connection,
    job: JobNumber,
    progress: Progress,
    /// Whether rows are being removed, and with the job itself.
    bodies_go: Option<bool>,
    check: &'a mut Check,
}

/// What the rows of a block say.
#[derive(Default)]
struct Found {
    requests: BTreeSet<u32>,
    succeeded: BTreeSet<u32>,
    failed: BTreeSet<u32>,
    attempted: BTreeSet<u32>,
}

impl Job<'_> {
    fn check(mut self) {
        if let Err(fault) = self.rows() {
            self.check.add_fault(&format!("job {}", self.job.0), fault);
        }
    }

    fn wrong(&mut self, what: &str) {
        self.check.add(format!("job {}: {what}", self.job.0));
    }

    fn rows(&mut self) -> Result<(), Fault> {
        let Progress { state, requests, succeeded, failed, ended_ms } = self.progress;
        if self.progress.has_ended() != (ended_ms > 0) {
            self.wrong("its state and the time of its end contradict each other");
        }
        if self.bodies_go == Some(true) || self.bodies_go.is_some() && state != JobState::Cancelled {
            self.wrong("it is there, but being removed");
        }
        let (mut results, mut errors) = (0, 0);
        for block in 0..requests.div_ceil(BLOCK) {
            let found = self.block(block)?;
            results += found.succeeded.len();
            errors += found.failed.len();
            self.requests(block, &found);
        }
        if (results, errors) != (succeeded as usize, failed as usize) {
            self.wrong(&format!(
                "it is to have {succeeded} results and {failed} errors, and has {results} and {errors}"
            ));
        }
        let is_complete = u64::from(succeeded) + u64::from(failed) == u64::from(requests);
        match state {
            JobState::Finished if !is_complete => self.wrong("it is finished, but not all requests have a result"),
            JobState::Running if is_complete => self.wrong("all requests have a result, but it is not finished"),
            _ => {}
        }
        self.beyond(requests)
    }

    /// Reads the rows of a block, and checks each.
    fn block(&mut self, block: u32) -> Result<Found, Fault> {
        let mut found = Found::default();
        for (table, into) in [("sub", &mut found.requests), ("res", &mut found.succeeded)] {
            let ids = rows_of_block(self.job, block);
            let mut query =
                self.db.prepare_cached(&format!("SELECT id, t, length(b) FROM {table} WHERE id BETWEEN ? AND ?"))?;
            let mut rows = query.query(params![ids.start(), ids.end()])?;
            while let Some(row) = rows.next()? {
                for entry in chunk::table_of(row)? {
                    let number = block * BLOCK + u32::from(entry.number);
                    if !into.insert(number) {
                        self.wrong(&format!("{table}: request {number} is there twice"));
                    }
                }
            }
        }
        found.failed = self.singles("SELECT id, b FROM err WHERE id BETWEEN ? AND ?", block, |row| {
            let packed = row.get_ref(1)?.as_blob()?;
            rmp_serde::from_slice::<Failure>(packed).map_err(|error| Fault::Damaged(format!("an error: {error}")))?;
            Ok(())
        })?;
        found.attempted = self.singles("SELECT id, lost, failed FROM att WHERE id BETWEEN ? AND ?", block, |row| {
            let (_lost, _failed): (u32, u32) = (row.get(1)?, row.get(2)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// Reads the numbers of a block that have a row each.
    fn singles(
        &self,
        sql: &str,
        block: u32,
        check: impl Fn(&rusqlite::Row<'_>) -> Result<(), Fault>,
    ) -> Result<BTreeSet<u32>, Fault> {
        let ids = rows_of_block(self.job, block);
        let mut query = self.db.prepare_cached(sql)?;
        let mut rows = query.query(params![ids.start(), ids.end()])?;
        let mut numbers = BTreeSet::new();
        while let Some(row) = rows.next()? {
            check(row)?;
            numbers.insert(number_of(row.get(0)?));
        }
        Ok(numbers)
    }

    /// Checks the requests of a block: each with a result, an error, or a body to be computed.
    fn requests(&mut self, block: u32, found: &Found) {
        let end = self.progress.requests.min((block + 1) * BLOCK);
        let all = [&found.requests, &found.succeeded, &found.failed, &found.attempted];
        if let Some(number) = all.into_iter().flatten().find(|number| **number >= end) {
            self.wrong(&format!("there is a row of request {number}, which it does not have"));
        }
        if let Some(number) = found.succeeded.intersection(&found.failed).next() {
            self.wrong(&format!("request {number} has a result and an error"));
        }
        let is_cancelled = self.progress.state == JobState::Cancelled;
        let needed = |number: &u32| !is_cancelled && !found.succeeded.contains(number);
        let missing = (block * BLOCK..end).filter(|number| needed(number) && !found.requests.contains(number));
        match missing.count() {
            0 => {}
            count => self.wrong(&format!("{count} requests without a result are missing, from {} on", block * BLOCK)),
        }
        let settled = |number: &&u32| found.succeeded.contains(number) || found.failed.contains(number);
        if let Some(number) = found.attempted.iter().find(|number| settled(number) && !is_cancelled) {
            self.wrong(&format!("request {number} is settled, but attempts at it are known"));
        }
    }

    /// Looks for rows after the last block.
    fn beyond(&mut self, requests: u32) -> Result<(), Fault> {
        let start = row_id(self.job, 0) + i64::from(requests.div_ceil(BLOCK) * BLOCK);
        let end = *rows_of(self.job).end();
        for table in ["sub", "res", "err", "att"] {
            let mut query =
                self.db.prepare_cached(&format!("SELECT 1 FROM {table} WHERE id BETWEEN ? AND ? LIMIT 1"))?;
            if start <= end && query.exists(params![start, end])? {
                self.wrong(&format!("{table}: there are rows after its last request"));
            }
        }
        Ok(())
    }
}
