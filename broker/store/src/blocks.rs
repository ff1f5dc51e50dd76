//! Which requests of a block have a result, an error or earlier attempts: bitmaps, read from the
//! tables when a block is first touched, and kept for those that were touched lately.

use std::collections::HashMap;

use giostra_core::ids::JobNumber;
use rusqlite::{Connection, params};

use crate::chunk;
use crate::error::Fault;
use crate::format::{BLOCK, number_of, rows_of_block};

/// Half the number of blocks that are kept, mostly: of 384 bytes each. Results arrive in about the
/// order of the requests, so few blocks are touched at a time.
const HALF: usize = 1024;

/// A set of the numbers in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bits([u64; BLOCK as usize / 64]);

impl Bits {
    fn has(&self, number: u16) -> bool {
        self.0.get(usize::from(number / 64)).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn insert(&mut self, number: u16) {
        if let Some(word) = self.0.get_mut(usize::from(number / 64)) {
            *word |= 1 << (number % 64);
        }
    }

    fn remove(&mut self, number: u16) {
        if let Some(word) = self.0.get_mut(usize::from(number / 64)) {
            *word &= !(1 << (number % 64));
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// Which requests of a block are settled, and how; at which ones there were attempts that count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    succeeded: Bits,
    failed: Bits,
    attempted: Bits,
}

impl Block {
    /// Returns whether a request has a result or an error: by its number within the block.
    pub fn is_settled(&self, number: u16) -> bool {
        self.succeeded.has(number) || self.failed.has(number)
    }

    /// Takes down that a request is settled. Returns `false` if it was.
    pub fn settle(&mut self, number: u16, succeeded: bool) -> bool {
        let settled = self.is_settled(number);
        if !settled {
            if succeeded { self.succeeded.insert(number) } else { self.failed.insert(number) }
        }
        !settled
    }

    /// Takes down whether there were attempts at a request. Returns what was known.
    pub fn attempt(&mut self, number: u16, attempted: bool) -> bool {
        let was = self.attempted.has(number);
        if attempted {
            self.attempted.insert(number);
        } else {
            self.attempted.remove(number);
        }
        was
    }

    /// Returns whether there were attempts at any request.
    pub fn is_attempted(&self) -> bool {
        !self.attempted.is_empty()
    }

    /// Returns how many have a result.
    pub fn succeeded(&self) -> u32 {
        self.succeeded.len()
    }

    fn read(db: &Connection, job: JobNumber, block: u32) -> Result<Self, Fault> {
        let mut read = Self::default();
        let ids = rows_of_block(job, block);
        let mut query = db.prepare_cached("SELECT id, t, length(b) FROM res WHERE id BETWEEN ? AND ?")?;
        let mut rows = query.query(params![ids.start(), ids.end()])?;
        while let Some(row) = rows.next()? {
            for entry in chunk::table_of(row)? {
                read.succeeded.insert(entry.number);
            }
        }
        let singles = [
            ("SELECT id FROM err WHERE id BETWEEN ? AND ?", &mut read.failed),
            ("SELECT id FROM att WHERE id BETWEEN ? AND ?", &mut read.attempted),
        ];
        for (sql, bits) in singles {
            let mut query = db.prepare_cached(sql)?;
            let mut rows = query.query(params![ids.start(), ids.end()])?;
            while let Some(row) = rows.next()? {
                bits.insert((number_of(row.get(0)?) % BLOCK) as u16);
            }
        }
        Ok(read)
    }
}

/// The blocks that were touched lately.
///
/// Those touched since the last turn are in one table. When it is full, it becomes the other one,
/// whose blocks are forgotten. Not within a group, though: what a group settles is not in the tables
/// before its end.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    recent: HashMap<(JobNumber, u32), Block>,
    older: HashMap<(JobNumber, u32), Block>,
}

impl Blocks {
    /// Returns a block: by its number, counted from 0 in its job.
    pub fn block(&mut self, db: &Connection, job: JobNumber, block: u32) -> Result<&mut Block, Fault> {
        let key = (job, block);
        if !self.recent.contains_key(&key) {
            let known = match self.older.remove(&key) {
                Some(known) => known,
                None => Block::read(db, job, block)?,
            };
            self.recent.insert(key, known);
        }
        Ok(self.recent.entry(key).or_default())
    }

    /// Forgets those that were not touched lately: at most four times [`HALF`] are left.
    pub fn trim(&mut self) {
        if self.recent.len() >= HALF {
            self.older = std::mem::take(&mut self.recent);
            if self.older.len() > 3 * HALF {
                self.older.clear();
            }
        }
    }

    /// Forgets those of a job: the tables say otherwise by now.
    pub fn forget(&mut self, job: JobNumber) {
        self.recent.retain(|(other, _), _| *other != job);
        self.older.retain(|(other, _), _| *other != job);
    }

    /// Forgets all: what they say was not committed.
    pub fn clear(&mut self) {
        self.recent.clear();
        self.older.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_settled_once_as_a_result_or_an_error() {
        let mut block = Block::default();
        assert!(block.settle(0, true) && block.settle(1023, true) && block.settle(64, false));
        assert!(!block.settle(0, false) && !block.settle(64, true));
        assert!(block.is_settled(0) && block.is_settled(64) && block.is_settled(1023) && !block.is_settled(63));
        assert_eq!(block.succeeded(), 2);
    }

    #[test]
    fn few_blocks_are_kept_and_those_in_use_stay() {
        let mut db = Connection::open_in_memory().unwrap();
        crate::schema::make(&mut db, 1).unwrap();
        let mut blocks = Blocks::default();
        for number in 0..10_000 {
            blocks.block(&db, JobNumber(1), number).unwrap().settle(5, true);
            blocks.trim();
            // The tables do not say so: it is in memory.
            assert!(blocks.block(&db, JobNumber(1), 0).unwrap().is_settled(5), "{number}");
        }
        assert!(blocks.recent.len() <= HALF && blocks.older.len() <= HALF);
        for number in 0..10_000 {
            blocks.block(&db, JobNumber(2), number).unwrap().settle(5, true);
        }
        assert!(blocks.block(&db, JobNumber(2), 0).unwrap().is_settled(5), "before the end of a group");
        blocks.trim();
        assert!(blocks.recent.len() + blocks.older.len() <= 4 * HALF);
    }
}
