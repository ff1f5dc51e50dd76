//! The answers to questions: what is pending, what has a result, which jobs there are.

use std::collections::{BTreeMap, btree_map};

use giostra_core::ids::JobNumber;
use giostra_core::store::{Done, Read};
use giostra_protocol::{Bytes, Failure, MAX_JOB_REQUESTS, Outcome};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::blocks::Blocks;
use crate::chunk::{self, Entry};
use crate::error::Fault;
use crate::format::{BLOCK, number_of, row_id, rows_of, rows_of_block};
use crate::jobs;

/// What a request or a result counts beside its body, in bytes: many empty ones need memory too.
const OVERHEAD: usize = 16;

/// Answers a question.
pub(crate) fn answer(db: &Connection, blocks: &mut Blocks, question: &Read) -> Result<Done, Fault> {
    match question {
        Read::Pending { job, from, requests, bytes } => pending(db, blocks, *job, *from, (*requests, *bytes)),
        Read::Results { job, from, bytes } => results(db, *job, *from, *bytes),
        Read::Job(job) => Ok(Done::Jobs(jobs::record(db, *job)?.into_iter().collect())),
        Read::Jobs { owner, before, limit } => Ok(Done::Jobs(jobs::list(db, owner.as_deref(), *before, *limit)?)),
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
            }
            Ok(true)
        })?;
    }
    Ok(Done::Pending { requests: found, next })
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

fn results(db: &Connection, job: JobNumber, from: u32, bytes: usize) -> Result<Done, Fault> {
    let (mut found, mut left) = (Vec::new(), bytes);
    let exists = from < MAX_JOB_REQUESTS && jobs::progress(db, job)?.is_some();
    let mut next = exists.then_some(from / BLOCK);
    while let Some(block) = next {
        let mut bodies = Bodies::default();
        for (number, at) in settled(db, job, block)? {
            if number < from {
                continue;
            }
            let outcome = match at {
                At::Result(row, entry) if found.is_empty() || entry.len + OVERHEAD <= left => {
                    Outcome::Ok(bodies.read(db, row, entry)?)
                }
                At::Result(..) => return Ok(Done::Results(found)),
                At::Failure => Outcome::Error(failure(db, row_id(job, number))?),
            };
            left = left.saturating_sub(OVERHEAD + size(&outcome));
            found.push((number, outcome));
            if left == 0 {
                return Ok(Done::Results(found));
            }
        }
        next = next_block(db, job, block)?;
    }
    Ok(Done::Results(found))
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

/// The bodies of the rows of a block, each row read once, when its first body is wanted.
#[derive(Default)]
struct Bodies(BTreeMap<i64, Bytes>);

impl Bodies {
    fn read(&mut self, db: &Connection, row: i64, entry: Entry) -> Result<Bytes, Fault> {
        let bodies = match self.0.entry(row) {
            btree_map::Entry::Occupied(read) => read.into_mut(),
            btree_map::Entry::Vacant(vacant) => {
                let mut query = db.prepare_cached("SELECT b FROM res WHERE id = ?")?;
                let bodies: Option<Vec<u8>> = query.query_row([row], |row| row.get(0)).optional()?;
                vacant.insert(bodies.ok_or_else(|| damaged("a row of results is missing"))?.into())
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
