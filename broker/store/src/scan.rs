//! The answers to questions: what is pending, what has a result, which jobs there are.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use giostra_core::ids::JobNumber;
use giostra_core::store::{Attempts, Done, Read};
use giostra_protocol::{Bytes, Failure, JobState, MAX_JOB_REQUESTS, Outcome};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::blocks::Blocks;
use crate::chunk::{self, Entry};
use crate::error::Fault;
use crate::format::{BLOCK, number_of, row_id, rows_of, rows_of_block};
use crate::jobs;

/// What a request or a result counts beside its body, in bytes: many empty ones need memory too.
const OVERHEAD: usize = 16;

/// Answers a question.
pub(crate) fn answer(db: &Connection, blocks: &mut Blocks, question: &Read, now_ms: u64) -> Result<Done, Fault> {
    match question {
        Read::Pending { job, from, requests, bytes } => pending(db, blocks, *job, *from, (*requests, *bytes)),
        Read::Results { job, from, bytes, with_failed } => {
            let Found { results, failed } = results(db, *job, *from, *bytes, *with_failed)?;
            Ok(Done::Results { results, failed })
        }
        Read::Job(job) => Ok(Done::Jobs(jobs::record(db, *job)?.into_iter().collect())),
        Read::Jobs { owner, before, limit } => Ok(Done::Jobs(jobs::list(db, owner.as_deref(), *before, *limit)?)),
        Read::Expired { limit } => Ok(Done::Expired {
            jobs: jobs::expired(db, now_ms, *limit)?,
            next_ms: jobs::next_expiry(db, now_ms)?.map(|at_ms| at_ms - now_ms),
        }),
    }
}

fn damaged(what: chunk::Damage) -> Fault {
    Fault::Damaged(what.into())
}

fn pending(
    db: &Connection,
    blocks: &mut Blocks,
    job: JobNumber,
    from: u32,
    (most, bytes): (usize, usize),
) -> Result<Done, Fault> {
    let (mut found, mut left, mut next) = (Vec::new(), bytes, None);
    let mut attempted = BTreeSet::new();
    let wanted = jobs::progress(db, job)?.is_some_and(|progress| !progress.has_ended() && from < progress.requests);
    if wanted {
        each_row(db, job, from, |first, table, bodies| {
            blocks.trim();
            let block = *blocks.block(db, job, first / BLOCK)?;
            let entries = chunk::table(first, table, bodies.len()).map_err(damaged)?;
            let mut bodies = LazyBytes::new(bodies);
            for entry in entries {
                let number = first / BLOCK * BLOCK + u32::from(entry.number);
                if number < from || block.is_settled(entry.number) {
                    continue;
                }
                let cost = entry.len + OVERHEAD;
                if !found.is_empty() && (found.len() >= most || cost > left) {
                    next = Some(number);
                    return Ok(false);
                }
                left = left.saturating_sub(cost);
                found.push((number, entry.body(bodies.get()).map_err(damaged)?));
                if block.is_attempted() {
                    attempted.insert(first / BLOCK);
                }
            }
            Ok(true)
        })?;
    }
    let attempts = attempts(db, job, &attempted, &found)?;
    Ok(Done::Pending { requests: found, attempts, next })
}

/// Reads what is known of attempts at requests, which lie in these blocks.
fn attempts(
    db: &Connection,
    job: JobNumber,
    blocks: &BTreeSet<u32>,
    requests: &[(u32, Bytes)],
) -> Result<Vec<(u32, Attempts)>, Fault> {
    let mut known = Vec::new();
    for block in blocks {
        let ids = rows_of_block(job, *block);
        let mut query = db.prepare_cached("SELECT id, lost, failed FROM att WHERE id BETWEEN ? AND ?")?;
        let mut rows = query.query(params![ids.start(), ids.end()])?;
        while let Some(row) = rows.next()? {
            let number = number_of(row.get(0)?);
            if requests.binary_search_by_key(&number, |(number, _)| *number).is_ok() {
                known.push((number, Attempts { lost: row.get(1)?, failed: row.get(2)? }));
            }
        }
    }
    Ok(known)
}

/// The bodies of a row, copied when the first one is wanted.
struct LazyBytes<'a> {
    borrowed: &'a [u8],
    copied: Option<Bytes>,
}

impl<'a> LazyBytes<'a> {
    fn new(borrowed: &'a [u8]) -> Self {
        Self { borrowed, copied: None }
    }

    fn get(&mut self) -> &Bytes {
        self.copied.get_or_insert_with(|| Bytes::copy_from_slice(self.borrowed))
    }
}

/// Passes on the rows of requests, beginning with the one that has `from`, until `row` returns
/// `false`.
fn each_row(
    db: &Connection,
    job: JobNumber,
    from: u32,
    mut row: impl FnMut(u32, &[u8], &[u8]) -> Result<bool, Fault>,
) -> Result<(), Fault> {
    let from_id = row_id(job, from);
    let block = rows_of_block(job, from / BLOCK);
    let mut start = db.prepare_cached("SELECT max(id) FROM sub WHERE id BETWEEN ? AND ?")?;
    let start: Option<i64> = start.query_row(params![block.start(), from_id], |row| row.get(0))?;
    let mut query = db.prepare_cached("SELECT id, t, b FROM sub WHERE id BETWEEN ? AND ? ORDER BY id")?;
    let mut rows = query.query(params![start.unwrap_or(from_id), rows_of(job).end()])?;
    while let Some(found) = rows.next()? {
        let (table, bodies) = (found.get_ref(1)?.as_blob()?, found.get_ref(2)?.as_blob()?);
        if !row(number_of(found.get(0)?), table, bodies)? {
            break;
        }
    }
    Ok(())
}

/// Results, and the requests among them that failed.
#[derive(Default)]
struct Found {
    results: Vec<(u32, Outcome)>,
    failed: Vec<(u32, Bytes)>,
}

fn results(db: &Connection, job: JobNumber, from: u32, bytes: usize, with_failed: bool) -> Result<Found, Fault> {
    let (mut found, mut left) = (Found::default(), bytes);
    let progress = jobs::progress(db, job)?.filter(|_| from < MAX_JOB_REQUESTS);
    // A cancelled job's requests are removed.
    let with_failed = with_failed && progress.is_some_and(|progress| progress.state != JobState::Cancelled);
    let mut next = progress.map(|_| from / BLOCK);
    while let Some(block) = next {
        let (mut bodies, mut requests) = (Bodies::of_results(), Bodies::of_requests());
        for (number, at) in settled(db, job, block)?.into_iter().filter(|(number, _)| *number >= from) {
            let (outcome, request) = match at {
                At::Result(_, entry) if !found.results.is_empty() && entry.len + OVERHEAD > left => return Ok(found),
                At::Result(row, entry) => (Outcome::Ok(bodies.read(db, row, entry)?), None),
                At::Failure => {
                    let failure = failure(db, row_id(job, number))?;
                    let request = if with_failed { Some(request_at(db, job, number)?) } else { None };
                    (Outcome::Error(failure), request)
                }
            };
            let cost = OVERHEAD + size(&outcome) + request.map_or(0, |(_, entry)| OVERHEAD + entry.len);
            if !found.results.is_empty() && cost > left {
                return Ok(found);
            }
            left = left.saturating_sub(cost);
            found.results.push((number, outcome));
            if let Some((row, entry)) = request {
                found.failed.push((number, requests.read(db, row, entry)?));
            }
            if left == 0 {
                return Ok(found);
            }
        }
        next = next_block(db, job, block)?;
    }
    Ok(found)
}

/// Finds a request: the id of its row, and the place in it.
fn request_at(db: &Connection, job: JobNumber, number: u32) -> Result<(i64, Entry), Fault> {
    let ids = rows_of_block(job, number / BLOCK);
    let mut query =
        db.prepare_cached("SELECT id, t, length(b) FROM sub WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1")?;
    let mut rows = query.query(params![ids.start(), row_id(job, number)])?;
    let missing = || damaged("a request that failed is missing");
    let row = rows.next()?.ok_or_else(missing)?;
    let entries = chunk::table_of(row)?;
    let entry = entries.into_iter().find(|entry| u32::from(entry.number) == number % BLOCK).ok_or_else(missing)?;
    Ok((row.get(0)?, entry))
}

/// Where what became of a request is.
enum At {
    /// When it is a result: the id of its row, and the place in it.
    Result(i64, Entry),
    /// When it is an error.
    Failure,
}

/// Finds what is settled in a block, in the order of the numbers, without reading the bodies.
fn settled(db: &Connection, job: JobNumber, block: u32) -> Result<Vec<(u32, At)>, Fault> {
    let ids = rows_of_block(job, block);
    let mut settled = Vec::new();
    let mut query = db.prepare_cached("SELECT id, t, length(b) FROM res WHERE id BETWEEN ? AND ?")?;
    let mut rows = query.query(params![ids.start(), ids.end()])?;
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        for entry in chunk::table_of(row)? {
            settled.push((block * BLOCK + u32::from(entry.number), At::Result(id, entry)));
        }
    }
    let mut query = db.prepare_cached("SELECT id FROM err WHERE id BETWEEN ? AND ?")?;
    let mut rows = query.query(params![ids.start(), ids.end()])?;
    while let Some(row) = rows.next()? {
        settled.push((number_of(row.get(0)?), At::Failure));
    }
    settled.sort_unstable_by_key(|(number, _)| *number);
    Ok(settled)
}

/// Finds the next block that has a result or an error.
fn next_block(db: &Connection, job: JobNumber, block: u32) -> Result<Option<u32>, Fault> {
    let Some(start) = rows_of_block(job, block).end().checked_add(1) else { return Ok(None) };
    let mut next = db.prepare_cached(
        "SELECT min(id) FROM (SELECT min(id) AS id FROM res WHERE id BETWEEN ?1 AND ?2
         UNION ALL SELECT min(id) FROM err WHERE id BETWEEN ?1 AND ?2)",
    )?;
    let id: Option<i64> = next.query_row(params![start, rows_of(job).end()], |row| row.get(0))?;
    Ok(id.map(|id| number_of(id) / BLOCK))
}

/// The bodies of a block's rows in a table, each row read once, when its first body is wanted.
struct Bodies {
    select: &'static str,
    read: BTreeMap<i64, Bytes>,
}

impl Bodies {
    fn of_results() -> Self {
        Self { select: "SELECT b FROM res WHERE id = ?", read: BTreeMap::new() }
    }

    fn of_requests() -> Self {
        Self { select: "SELECT b FROM sub WHERE id = ?", read: BTreeMap::new() }
    }

    fn read(&mut self, db: &Connection, row: i64, entry: Entry) -> Result<Bytes, Fault> {
        let bodies = match self.read.entry(row) {
            btree_map::Entry::Occupied(read) => read.into_mut(),
            btree_map::Entry::Vacant(vacant) => {
                let mut query = db.prepare_cached(self.select)?;
                let bodies: Option<Vec<u8>> = query.query_row([row], |row| row.get(0)).optional()?;
                vacant.insert(bodies.ok_or_else(|| damaged("a row of bodies is missing"))?.into())
            }
        };
        entry.body(bodies).map_err(damaged)
    }
}

fn failure(db: &Connection, id: i64) -> Result<Failure, Fault> {
    let mut query = db.prepare_cached("SELECT b FROM err WHERE id = ?")?;
    let mut rows = query.query([id])?;
    let row = rows.next()?.ok_or_else(|| damaged("a row of errors is missing"))?;
    rmp_serde::from_slice(row.get_ref(0)?.as_blob()?)
        .map_err(|error| Fault::Damaged(format!("an error of a request can't be read: {error}")))
}

fn size(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Ok(body) => body.len(),
        Outcome::Error(failure) => failure.code.len() + failure.message.len(),
    }
}
