//! A group of writes, within one transaction.
//!
//! The writes are applied in their order to what is known of the jobs in memory. Requests, results
//! and counters go to the tables when the group is complete, so that the many small messages of a
//! group make few rows.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use giostra_core::ids::JobNumber;
use giostra_core::store::{Attempts, Done, Write};
use giostra_protocol::{Bytes, Failure, JobSpec, JobState, MAX_JOB_REQUESTS, Outcome};
use rusqlite::{Connection, params};

use crate::blocks::Blocks;
use crate::chunk;
use crate::error::Fault;
use crate::format::{BLOCK, JOB_NUMBERS, row_id, rows_of, rows_of_block};
use crate::jobs::{self, Progress};
use crate::room::Room;
use crate::sweep;

/// A group that is being written.
pub(crate) struct Group<'a> {
    db: &'a Connection,
    blocks: &'a mut Blocks,
    room: &'a mut Room,
    now_ms: u64,
    jobs: BTreeMap<JobNumber, Option<Touched<'a>>>,
}

/// A job that the group is about.
#[derive(Default)]
struct Touched<'a> {
    /// What its row says.
    written: Progress,
    /// What its row is to say.
    now: Progress,
    /// Requests to be added, which follow one another.
    bodies: Vec<(u32, &'a Bytes)>,
    results: Vec<(u32, &'a Bytes)>,
    failures: Vec<(u32, &'a Failure)>,
    /// What is known of attempts at requests without a result.
    attempts: BTreeMap<u32, Attempts>,
    /// Requests of whose attempts nothing is to be known any more.
    forgotten: Vec<u32>,
}

impl<'a> Group<'a> {
    /// Begins a group, within a transaction.
    pub fn new(db: &'a Connection, blocks: &'a mut Blocks, room: &'a mut Room, now_ms: u64) -> Self {
        Self { db, blocks, room, now_ms, jobs: BTreeMap::new() }
    }

    /// Applies a write after those before it.
    pub fn apply(&mut self, write: &'a Write) -> Result<Done, Fault> {
        match write {
            Write::Create { job, owner, spec } => return self.create(write, *job, owner, spec),
            Write::Append { job, first, bodies, closes } => {
                if !self.append(*job, *first, bodies, *closes)? {
                    return Ok(self.room.refuse(write));
                }
            }
            Write::Results { job, outcomes, .. } => self.results(*job, outcomes)?,
            Write::Attempts { job, attempts } => self.attempts(*job, attempts)?,
            Write::Cancel(job) => self.cancel(*job)?,
            Write::Retry(job) => return self.retry(*job),
            Write::Delete(job) => self.delete(*job)?,
        }
        Ok(Done::Written)
    }

    /// Writes what was applied.
    pub fn finish(self) -> Result<(), Fault> {
        for (job, touched) in self.jobs {
            if let Some(touched) = touched {
                touched.write(self.db, self.blocks, job)?;
            }
        }
        Ok(())
    }

    fn create(&mut self, write: &Write, job: JobNumber, owner: &str, spec: &JobSpec) -> Result<Done, Fault> {
        if job.0 == 0 || job.0 >= JOB_NUMBERS || sweep::is_gone(self.db, job)? {
            return Err(Fault::Misuse(format!("no new job can have the number {}", job.0)));
        }
        if self.room.is_full() && jobs::find(self.db, owner, spec)?.is_none() {
            return Ok(self.room.refuse(write));
        }
        if jobs::insert(self.db, job, owner, spec, self.now_ms)? {
            self.room.forget(job);
            self.jobs.insert(job, Some(Touched::default()));
            return Ok(Done::Created(self.now_ms));
        }
        let there = jobs::find(self.db, owner, spec)?.map(|job| jobs::record(self.db, job)).transpose()?.flatten();
        let mut there = there.ok_or_else(|| Fault::Damaged("an index names a job that is missing".into()))?;
        // Its row does not say yet what this group does.
        if let Some(touched) = self.touched(there.job)? {
            let Progress { state, requests, succeeded, failed, ended_ms } = touched.now;
            (there.state, there.requests, there.succeeded) = (state, requests, succeeded);
            (there.failed, there.ended_ms) = (failed, ended_ms);
        }
        Ok(Done::Exists(there.into()))
    }

    /// Adds requests. Returns `false` if there is no room for them, or was none for those before them.
    fn append(&mut self, job: JobNumber, first: u32, bodies: &'a [Bytes], closes: bool) -> Result<bool, Fault> {
        let now_ms = self.now_ms;
        touch(self.db, &mut self.jobs, job)?;
        let Some(Some(touched)) = self.jobs.get_mut(&job) else { return Ok(!self.room.is_unmade(job)) };
        let now = &mut touched.now;
        if now.state != JobState::Open {
            return Ok(true);
        }
        if self.room.is_full() && !bodies.is_empty() || self.room.is_behind(job) && first > now.requests {
            return Ok(false);
        }
        let end = u32::try_from(bodies.len()).ok().and_then(|count| first.checked_add(count));
        let Some(end) = end.filter(|&end| first == now.requests && end <= MAX_JOB_REQUESTS) else {
            let (count, has) = (bodies.len(), now.requests);
            return Err(Fault::Misuse(format!("{count} requests from {first} on for {job}, which has {has}")));
        };
        touched.bodies.extend((first..end).zip(bodies));
        now.requests = end;
        if closes {
            let settled = now.succeeded + now.failed == now.requests;
            now.state = if settled { JobState::Finished } else { JobState::Running };
            now.ended_ms = if settled { now_ms } else { 0 };
        }
        Ok(true)
    }

    fn results(&mut self, job: JobNumber, outcomes: &'a [(u32, Outcome)]) -> Result<(), Fault> {
        let (db, now_ms) = (self.db, self.now_ms);
        touch(db, &mut self.jobs, job)?;
        let Some(Some(touched)) = self.jobs.get_mut(&job) else { return Ok(()) };
        if touched.now.has_ended() {
            return Ok(());
        }
        for (number, outcome) in outcomes {
            if *number >= touched.now.requests {
                return Err(Fault::Misuse(format!("a result of request {number} of {job}, which has none such")));
            }
            let (block, within) = (self.blocks.block(db, job, number / BLOCK)?, (number % BLOCK) as u16);
            if !block.settle(within, matches!(outcome, Outcome::Ok(_))) {
                continue;
            }
            if block.attempt(within, false) {
                touched.attempts.remove(number);
                touched.forgotten.push(*number);
            }
            match outcome {
                Outcome::Ok(body) => {
                    touched.now.succeeded += 1;
                    touched.results.push((*number, body));
                }
                Outcome::Error(failure) => {
                    touched.now.failed += 1;
                    touched.failures.push((*number, failure));
                }
            }
        }
        let now = &mut touched.now;
        if now.state == JobState::Running && now.succeeded + now.failed == now.requests {
            now.state = JobState::Finished;
            now.ended_ms = now_ms;
            self.room.forget(job);
        }
        Ok(())
    }

    fn attempts(&mut self, job: JobNumber, attempts: &[(u32, Attempts)]) -> Result<(), Fault> {
        let db = self.db;
        touch(db, &mut self.jobs, job)?;
        let Some(Some(touched)) = self.jobs.get_mut(&job) else { return Ok(()) };
        if touched.now.has_ended() {
            return Ok(());
        }
        for (number, attempts) in attempts {
            if *number >= touched.now.requests {
                return Err(Fault::Misuse(format!("attempts at request {number} of {job}, which has none such")));
            }
            let (block, within) = (self.blocks.block(db, job, number / BLOCK)?, (number % BLOCK) as u16);
            if block.is_settled(within) {
                continue;
            }
            let known = *attempts != Attempts::default();
            let was_known = block.attempt(within, known);
            if known {
                touched.attempts.insert(*number, *attempts);
            } else if was_known {
                touched.attempts.remove(number);
                touched.forgotten.push(*number);
            }
        }
        Ok(())
    }

    /// Makes the requests of a finished job pending that failed: their bodies are still there.
    ///
    /// All in this transaction, so that a job is never half of either kind.
    fn retry(&mut self, job: JobNumber) -> Result<Done, Fault> {
        let finished = self.touched(job)?.is_some_and(|touched| touched.now.state == JobState::Finished);
        if !finished {
            return Ok(Done::Jobs(Vec::new()));
        }
        if let Some(Some(touched)) = self.jobs.remove(&job) {
            let written = touched.now;
            touched.write(self.db, self.blocks, job)?;
            if written.failed > 0 {
                self.blocks.forget(job);
                let ids = rows_of(job);
                for sql in ["DELETE FROM err WHERE id BETWEEN ? AND ?", "DELETE FROM att WHERE id BETWEEN ? AND ?"] {
                    self.db.prepare_cached(sql)?.execute(params![ids.start(), ids.end()])?;
                }
                let now = Progress { state: JobState::Running, failed: 0, ended_ms: 0, ..written };
                jobs::update(self.db, job, &written, &now)?;
            }
        }
        Ok(Done::Jobs(jobs::record(self.db, job)?.into_iter().collect()))
    }

    fn cancel(&mut self, job: JobNumber) -> Result<(), Fault> {
        let (db, now_ms) = (self.db, self.now_ms);
        let Some(touched) = self.touched(job)? else { return Ok(()) };
        if touched.now.has_ended() {
            return Ok(());
        }
        touched.now.state = JobState::Cancelled;
        touched.now.ended_ms = now_ms;
        touched.bodies.clear();
        touched.attempts.clear();
        self.room.forget(job);
        sweep::note(db, job, false)
    }

    fn delete(&mut self, job: JobNumber) -> Result<(), Fault> {
        if job.0 >= JOB_NUMBERS || !jobs::remove(self.db, job)? {
            return Ok(());
        }
        self.jobs.insert(job, None);
        self.room.forget(job);
        sweep::note(self.db, job, true)
    }

    fn touched(&mut self, job: JobNumber) -> Result<Option<&mut Touched<'a>>, Fault> {
        touch(self.db, &mut self.jobs, job)?;
        Ok(self.jobs.get_mut(&job).and_then(Option::as_mut))
    }
}

/// Reads how far a job is, if the group has not done so.
fn touch(db: &Connection, jobs: &mut BTreeMap<JobNumber, Option<Touched<'_>>>, job: JobNumber) -> Result<(), Fault> {
    if let std::collections::btree_map::Entry::Vacant(vacant) = jobs.entry(job) {
        let written = jobs::progress(db, job)?;
        vacant.insert(written.map(|written| Touched { written, now: written, ..Touched::default() }));
    }
    Ok(())
}

impl Touched<'_> {
    fn write(mut self, db: &Connection, blocks: &mut Blocks, job: JobNumber) -> Result<(), Fault> {
        insert(db, "INSERT INTO sub (id, t, b) VALUES (?, ?, ?)", job, &self.bodies)?;
        self.results.sort_unstable_by_key(|(number, _)| *number);
        insert(db, "INSERT INTO res (id, t, b) VALUES (?, ?, ?)", job, &self.results)?;
        for (number, failure) in &self.failures {
            let packed = rmp_serde::to_vec_named(failure).map_err(|error| Fault::Misuse(error.to_string()))?;
            db.prepare_cached("INSERT INTO err (id, b) VALUES (?, ?)")?
                .execute(params![row_id(job, *number), packed])?;
        }
        self.write_attempts(db, job)?;
        self.drop_bodies(db, blocks, job)?;
        jobs::update(db, job, &self.written, &self.now)
    }

    fn write_attempts(&self, db: &Connection, job: JobNumber) -> Result<(), Fault> {
        for number in &self.forgotten {
            db.prepare_cached("DELETE FROM att WHERE id = ?")?.execute([row_id(job, *number)])?;
        }
        for (number, Attempts { lost, failed }) in &self.attempts {
            db.prepare_cached("INSERT OR REPLACE INTO att (id, lost, failed) VALUES (?, ?, ?)")?.execute(params![
                row_id(job, *number),
                lost,
                failed
            ])?;
        }
        Ok(())
    }

    /// Removes the requests of each block that has a result for all of them. Those of a block with
    /// an error stay, so that they can be computed again.
    fn drop_bodies(&self, db: &Connection, blocks: &mut Blocks, job: JobNumber) -> Result<(), Fault> {
        let mut last = None;
        for (number, _) in &self.results {
            let block = number / BLOCK;
            if last.replace(block) == Some(block) {
                continue;
            }
            let requests = (self.now.requests - block * BLOCK).min(BLOCK);
            if blocks.block(db, job, block)?.succeeded() == requests {
                let ids: RangeInclusive<i64> = rows_of_block(job, block);
                db.prepare_cached("DELETE FROM sub WHERE id BETWEEN ? AND ?")?
                    .execute(params![ids.start(), ids.end()])?;
            }
        }
        Ok(())
    }
}

fn insert(db: &Connection, sql: &str, job: JobNumber, bodies: &[(u32, &Bytes)]) -> Result<(), Fault> {
    if bodies.is_empty() {
        return Ok(());
    }
    let mut insert = db.prepare_cached(sql)?;
    chunk::pack(bodies.iter().copied(), |first, table, bodies| {
        insert.execute(params![row_id(job, first), table, bodies])?;
        Ok(())
    })
}
