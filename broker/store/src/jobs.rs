//! The rows of jobs: what a client said of each, and how far it is.

use giostra_core::ids::JobNumber;
use giostra_core::store::JobRecord;
use giostra_protocol::name::Label;
use giostra_protocol::{JobSpec, JobState, MAX_JOB_REQUESTS};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::error::Fault;

/// What changes about a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How far it is.
    pub state: JobState,
    /// The number of its requests.
    pub requests: u32,
    /// The number of its results.
    pub succeeded: u32,
    /// The number of its errors.
    pub failed: u32,
    /// When it ended, in milliseconds since 1970; 0 if it did not.
    pub ended_ms: u64,
}

/// The most that a time can be in the file.
const NEVER: u64 = i64::MAX as u64;

impl Progress {
    /// Returns whether nothing is added to it, and nothing computed for it any more.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, JobState::Finished | JobState::Cancelled)
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT state, requests, succeeded, failed, ended_ms, number, owner, spec, submitted_ms FROM job ",
            $rest
        )
    };
}

/// Adds a new job. Returns `false` if there is one with its owner, pool and key.
pub(crate) fn insert(db: &Connection, job: JobNumber, owner: &str, spec: &JobSpec, now_ms: u64) -> Result<bool, Fault> {
    let packed = rmp_serde::to_vec_named(spec).map_err(|error| Fault::Misuse(error.to_string()))?;
    let mut insert = db.prepare_cached(
        "INSERT INTO job (number, owner, pool, key, spec, state, requests, succeeded, failed, submitted_ms, ended_ms,
         expires_ms) VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0, ?, 0, 0) ON CONFLICT (owner, pool, key) DO NOTHING",
    )?;
    let count = insert.execute(params![job.0 as i64, owner, spec.pool, spec.key, packed, now_ms as i64])?;
    Ok(count == 1)
}

/// Removes a job's row. Returns `false` if there is none.
pub(crate) fn remove(db: &Connection, job: JobNumber) -> Result<bool, Fault> {
    Ok(db.prepare_cached("DELETE FROM job WHERE number = ?")?.execute([job.0 as i64])? == 1)
}

/// Writes how far a job is. A state that is the same is not written: it has an index.
pub(crate) fn update(db: &Connection, job: JobNumber, before: &Progress, now: &Progress) -> Result<(), Fault> {
    let Progress { state, requests, succeeded, failed, ended_ms } = *now;
    if state != before.state {
        let expires_ms = if now.has_ended() { expiry(ended_ms, keep_ms(db, job)?) } else { 0 };
        let mut update =
            db.prepare_cached("UPDATE job SET state = ?, ended_ms = ?, expires_ms = ? WHERE number = ?")?;
        update.execute(params![state_number(state), ended_ms as i64, expires_ms as i64, job.0 as i64])?;
    }
    if (requests, succeeded, failed) != (before.requests, before.succeeded, before.failed) {
        let mut update =
            db.prepare_cached("UPDATE job SET requests = ?, succeeded = ?, failed = ? WHERE number = ?")?;
        update.execute(params![requests, succeeded, failed, job.0 as i64])?;
    }
    Ok(())
}

/// Returns when a job that ended expires; 0 if it never does.
fn expiry(ended_ms: u64, keep_ms: u64) -> u64 {
    if keep_ms == 0 { 0 } else { ended_ms.saturating_add(keep_ms).min(NEVER) }
}

/// Returns for how long a job is kept after its end; 0: until it is deleted.
fn keep_ms(db: &Connection, job: JobNumber) -> Result<u64, Fault> {
    let mut query = db.prepare_cached("SELECT spec FROM job WHERE number = ?")?;
    let mut rows = query.query([job.0 as i64])?;
    let row = rows.next()?.ok_or_else(|| Fault::Misuse(format!("{job} ends, but is not there")))?;
    Ok(read_spec(row.get_ref(0)?.as_blob()?)?.keep_ms)
}

/// Returns how far a job is; `None` if there is no such job.
pub(crate) fn progress(db: &Connection, job: JobNumber) -> Result<Option<Progress>, Fault> {
    let Ok(number) = i64::try_from(job.0) else { return Ok(None) };
    let mut query =
        db.prepare_cached("SELECT state, requests, succeeded, failed, ended_ms FROM job WHERE number = ?")?;
    let mut rows = query.query([number])?;
    rows.next()?.map(read_progress).transpose()
}

/// Returns all about a job; `None` if there is no such job.
pub(crate) fn record(db: &Connection, job: JobNumber) -> Result<Option<JobRecord>, Fault> {
    let Ok(number) = i64::try_from(job.0) else { return Ok(None) };
    let mut query = db.prepare_cached(select!("WHERE number = ?"))?;
    let mut rows = query.query([number])?;
    rows.next()?.map(read_record).transpose()
}

/// Finds the job with an owner, pool and key.
pub(crate) fn find(db: &Connection, owner: &str, spec: &JobSpec) -> Result<Option<JobNumber>, Fault> {
    let mut query = db.prepare_cached("SELECT number FROM job WHERE owner = ? AND pool = ? AND key = ?")?;
    let number = query.query_row(params![owner, spec.pool, spec.key], |row| row.get(0)).optional()?;
    Ok(number.map(|number: i64| JobNumber(number as u64)))
}

/// Returns jobs with numbers below one, the newest first.
pub(crate) fn list(
    db: &Connection,
    owner: Option<&str>,
    before: JobNumber,
    limit: usize,
) -> Result<Vec<JobRecord>, Fault> {
    let before = i64::try_from(before.0).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = match owner {
        Some(_) => select!("WHERE number < ?1 AND owner = ?3 ORDER BY number DESC LIMIT ?2"),
        None => select!("WHERE number < ?1 AND ?3 IS NULL ORDER BY number DESC LIMIT ?2"),
    };
    let mut query = db.prepare_cached(sql)?;
    read_all(query.query(params![before, limit, owner])?)
}

/// Returns jobs that have expired, those that ended first before others.
///
/// The system's clock says when. If it is set back, a job stays for longer; if it is set forth, for
/// less long.
pub(crate) fn expired(db: &Connection, now_ms: u64, limit: usize) -> Result<Vec<JobRecord>, Fault> {
    let mut query = db.prepare_cached(select!(
        "WHERE number IN (SELECT number FROM job WHERE expires_ms > 0 AND expires_ms <= ?1
         ORDER BY ended_ms, number LIMIT ?2) ORDER BY ended_ms, number"
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    read_all(query.query(params![now_ms as i64, limit])?)
}

/// Returns when the next job expires; `None` if none does.
pub(crate) fn next_expiry(db: &Connection, now_ms: u64) -> Result<Option<u64>, Fault> {
    let sql = "SELECT MIN(expires_ms) FROM job WHERE expires_ms > 0 AND expires_ms > ?";
    let next: Option<i64> = db.prepare_cached(sql)?.query_row([now_ms as i64], |row| row.get(0))?;
    Ok(next.map(|next| next as u64))
}

/// Returns the jobs that have not ended, in the order of their numbers.
pub(crate) fn live(db: &Connection) -> Result<Vec<JobRecord>, Fault> {
    let mut query = db.prepare(select!("WHERE state < 2 ORDER BY number"))?;
    read_all(query.query([])?)
}

/// Counts of all jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// The number of jobs that are open, running, finished and cancelled.
    pub jobs: [u64; 4],
    /// The number of their requests.
    pub requests: u64,
    /// The number of their results.
    pub succeeded: u64,
    /// The number of their errors.
    pub failed: u64,
}

/// Counts all jobs.
pub(crate) fn totals(db: &Connection) -> Result<Totals, Fault> {
    let mut totals = Totals::default();
    let mut query =
        db.prepare("SELECT state, count(*), sum(requests), sum(succeeded), sum(failed) FROM job GROUP BY state")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let count = |column| row.get::<_, i64>(column).map(|count| count as u64);
        if let Some(jobs) = totals.jobs.get_mut(state_number(state(row.get(0)?)?) as usize) {
            *jobs = count(1)?;
        }
        totals.requests += count(2)?;
        totals.succeeded += count(3)?;
        totals.failed += count(4)?;
    }
    Ok(totals)
}

/// Returns how far a job is that is there, or what is wrong with its row.
pub(crate) fn checked(db: &Connection, job: JobNumber) -> Result<Progress, Fault> {
    let record = record(db, job)?.ok_or_else(|| Fault::Damaged("it can't be found".into()))?;
    let mut query = db.prepare_cached("SELECT pool, key, expires_ms FROM job WHERE number = ?")?;
    let (pool, key, expires_ms): (String, String, i64) =
        query.query_row([job.0 as i64], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    if (&pool, &key) != (&record.spec.pool, &record.spec.key) {
        return Err(Fault::Damaged("what the client said of it is said of another one".into()));
    }
    let JobRecord { spec, state, requests, succeeded, failed, ended_ms, .. } = record;
    let expires = if ended_ms == 0 { 0 } else { expiry(ended_ms, spec.keep_ms) };
    if expires_ms as u64 != expires {
        return Err(Fault::Damaged("it expires at another time than it is to".into()));
    }
    if requests > MAX_JOB_REQUESTS {
        return Err(Fault::Damaged(format!("it has {requests} requests, which no job can have")));
    }
    Ok(Progress { state, requests, succeeded, failed, ended_ms })
}

/// Returns the highest number that a job ever had; 0 without one.
pub(crate) fn last(db: &Connection) -> Result<u64, Fault> {
    let last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'job'";
    Ok(db.query_row(last, [], |row| row.get::<_, i64>(0))? as u64)
}

fn read_all(mut rows: rusqlite::Rows<'_>) -> Result<Vec<JobRecord>, Fault> {
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read_record(row)?);
    }
    Ok(all)
}

fn read_progress(row: &Row<'_>) -> Result<Progress, Fault> {
    Ok(Progress {
        state: state(row.get(0)?)?,
        requests: row.get(1)?,
        succeeded: row.get(2)?,
        failed: row.get(3)?,
        ended_ms: row.get::<_, i64>(4)? as u64,
    })
}

fn read_record(row: &Row<'_>) -> Result<JobRecord, Fault> {
    let Progress { state, requests, succeeded, failed, ended_ms } = read_progress(row)?;
    let spec = read_spec(row.get_ref(7)?.as_blob()?)?;
    Ok(JobRecord {
        job: JobNumber(row.get::<_, i64>(5)? as u64),
        owner: Label::from(row.get_ref(6)?.as_str()?),
        spec: spec.into(),
        state,
        requests,
        succeeded,
        failed,
        submitted_ms: row.get::<_, i64>(8)? as u64,
        ended_ms,
    })
}

fn read_spec(packed: &[u8]) -> Result<JobSpec, Fault> {
    rmp_serde::from_slice(packed)
        .map_err(|error| Fault::Damaged(format!("what a client said of a job can't be read: {error}")))
}

fn state_number(state: JobState) -> i64 {
    match state {
        JobState::Open => 0,
        JobState::Running => 1,
        JobState::Finished => 2,
        JobState::Cancelled => 3,
    }
}

fn state(number: i64) -> Result<JobState, Fault> {
    match number {
        0 => Ok(JobState::Open),
        1 => Ok(JobState::Running),
        2 => Ok(JobState::Finished),
        3 => Ok(JobState::Cancelled),
        _ => Err(Fault::Damaged(format!("a job has the unknown state {number}"))),
    }
}
