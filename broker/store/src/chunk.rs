//! How requests or results are packed into rows: a table of numbers and lengths, then the bodies.
//!
//! The requests of a job come in blocks of [`BLOCK`] numbers, and each row lies in one block. The
//! table has six bytes an entry: the number within the block as `u16`, the length of the body as
//! `u32`, both little-endian, in the order of the numbers. The bodies follow one another in the same
//! order, in a column of their own: SQLite reads the table alone if the bodies are not wanted.

use giostra_protocol::Bytes;
use rusqlite::Row;

use crate::error::Fault;
use crate::format::{BLOCK, number_of};

/// A body of this many bytes has a row of its own.
const LARGE: usize = 64 << 10;

/// A row with this many bytes of bodies takes no more.
const ROW_BYTES: usize = 256 << 10;

/// The bytes of an entry in the table.
const ENTRY: usize = 6;

/// What is wrong with a row.
pub(crate) type Damage = &'static str;

/// Packs bodies into rows, and passes on each: its first number, its table and its bodies.
///
/// The numbers ascend. A row ends with its block, with [`ROW_BYTES`], and before and after a body of
/// [`LARGE`] bytes.
pub(crate) fn pack<'a, E>(
    bodies: impl IntoIterator<Item = (u32, &'a Bytes)>,
    mut row: impl FnMut(u32, &[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let (mut table, mut packed) = (Vec::new(), Vec::new());
    let mut first = None;
    for (number, body) in bodies {
        let ended = |first: u32| {
            first / BLOCK != number / BLOCK
                || packed.len() >= ROW_BYTES
                || (body.len() >= LARGE || packed.len() >= LARGE && table.len() == ENTRY)
        };
        if let Some(start) = first.filter(|&first| ended(first)) {
            row(start, &table, &packed)?;
            table.clear();
            packed.clear();
            first = None;
        }
        first.get_or_insert(number);
        table.extend_from_slice(&((number % BLOCK) as u16).to_le_bytes());
        table.extend_from_slice(&(body.len() as u32).to_le_bytes());
        packed.extend_from_slice(body);
    }
    first.map_or(Ok(()), |first| row(first, &table, &packed))
}

/// An entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The number within the block.
    pub number: u16,
    /// Where the body begins among the bodies.
    pub at: usize,
    /// The length of the body.
    pub len: usize,
}

impl Entry {
    /// Returns the body.
    ///
    /// # Errors
    /// If the bodies end before it does.
    pub fn body(self, bodies: &Bytes) -> Result<Bytes, Damage> {
        let end = self.at.checked_add(self.len).filter(|&end| end <= bodies.len());
        Ok(bodies.slice(self.at..end.ok_or("a body is cut off")?))
    }
}

/// Reads a table. `first` is the number of the row's first request in its job, `bodies` the length
/// of all bodies.
///
/// # Errors
/// If no such row has a table like this.
pub(crate) fn table(first: u32, table: &[u8], bodies: usize) -> Result<Vec<Entry>, Damage> {
    let (entries, rest) = table.as_chunks::<ENTRY>();
    if !rest.is_empty() || entries.is_empty() {
        return Err("a table of bodies is cut off");
    }
    let mut read = Vec::with_capacity(entries.len());
    let mut at = 0usize;
    let mut least = (first % BLOCK) as u16;
    for &[low, high, len @ ..] in entries {
        let (number, len) = (u16::from_le_bytes([low, high]), u32::from_le_bytes(len) as usize);
        let fits = if read.is_empty() { number == least } else { number >= least };
        if !fits || u32::from(number) >= BLOCK {
            return Err("a table of bodies has a wrong number");
        }
        read.push(Entry { number, at, len });
        at = at.checked_add(len).ok_or("a table of bodies has a wrong length")?;
        least = number + 1;
    }
    if at == bodies { Ok(read) } else { Err("a table of bodies is of other bodies") }
}

/// Reads the table of a row that was asked for with `id, t, length(b)`.
pub(crate) fn table_of(row: &Row<'_>) -> Result<Vec<Entry>, Fault> {
    let bodies = usize::try_from(row.get::<_, i64>(2)?).unwrap_or(usize::MAX);
    table(number_of(row.get(0)?), row.get_ref(1)?.as_blob()?, bodies).map_err(|what| Fault::Damaged(what.into()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    type Row = (u32, Vec<u8>, Vec<u8>);

    fn packed(bodies: &[(u32, Bytes)]) -> Vec<Row> {
        let mut rows = Vec::new();
        let bodies = bodies.iter().map(|(number, body)| (*number, body));
        let Ok(()) = pack(bodies, |first, table, bodies| {
            rows.push((first, table.to_vec(), bodies.to_vec()));
            Ok::<_, Infallible>(())
        });
        rows
    }

    fn unpacked(rows: Vec<Row>) -> Result<Vec<(u32, Bytes)>, Damage> {
        let mut all = Vec::new();
        for (first, entries, bodies) in rows {
            let bodies = Bytes::from(bodies);
            for entry in table(first, &entries, bodies.len())? {
                all.push((first / BLOCK * BLOCK + u32::from(entry.number), entry.body(&bodies)?));
            }
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked_the_same(
            gaps in prop::collection::vec((1..700u32, 0..9u32, prop::bool::weighted(0.1)), 0..40),
        ) {
            let mut number = 0;
            let bodies = gaps.into_iter().map(|(gap, len, large)| {
                number += gap;
                let len = len as usize + if large { LARGE - 4 } else { 0 };
                (number, Bytes::from(vec![number as u8; len]))
            }).collect::<Vec<_>>();
            let rows = packed(&bodies);
            for (first, entries, bodies) in &rows {
                let entries = table(*first, entries, bodies.len()).unwrap();
                prop_assert!(entries.len() == 1 || entries.iter().all(|entry| entry.len < LARGE));
            }
            prop_assert_eq!(unpacked(rows).unwrap(), bodies);
        }

        #[test]
        fn damaged_bytes_are_an_error_or_other_bodies_and_no_panic(
            first in any::<u32>(),
            entries in prop::collection::vec(any::<u8>(), 0..40),
            bodies in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = unpacked(vec![(first, entries, bodies)]);
        }

        #[test]
        fn one_damaged_byte_is_an_error_or_another_body_and_no_panic(at in 0..30usize, byte in any::<u8>()) {
            let bodies: Vec<_> = (0..5).map(|number| (number, Bytes::from_static(b"body"))).collect();
            let mut rows = packed(&bodies);
            rows[0].1[at] = byte;
            let _ = unpacked(rows);
        }
    }

    #[test]
    fn a_table_that_was_never_written_is_refused() {
        let entry = |number: u16, len: u32| [&number.to_le_bytes()[..], &len.to_le_bytes()[..]].concat();
        assert!(table(0, &[], 0).is_err());
        assert!(table(0, &entry(0, 1)[..5], 1).is_err());
        assert!(table(1, &entry(0, 1), 1).is_err(), "not the row's first number");
        assert!(table(5, &[entry(5, 0), entry(5, 0)].concat(), 0).is_err(), "twice the same number");
        assert!(table(5, &[entry(5, 0), entry(1024, 0)].concat(), 0).is_err(), "a number of another block");
        assert!(table(0, &entry(0, 7), 6).is_err(), "a body that is cut off");
        let entries = table(1024 + 5, &[entry(5, 2), entry(7, 3)].concat(), 5).unwrap();
        assert_eq!(entries[1], Entry { number: 7, at: 2, len: 3 });
        assert!(entries[1].body(&Bytes::from_static(b"four")).is_err());
        assert_eq!(entries[1].body(&Bytes::from_static(b"twofo")).unwrap(), b"ofo");
    }

    #[test]
    fn rows_end_with_their_block_and_when_they_are_large() {
        let small = |number| (number, Bytes::from_static(b"x"));
        let large = |number| (number, Bytes::from(vec![0; LARGE]));
        let firsts = |bodies: &[_]| packed(bodies).iter().map(|row| row.0).collect::<Vec<_>>();
        assert_eq!(firsts(&(0..3000).map(small).collect::<Vec<_>>()), [0, 1024, 2048]);
        assert_eq!(firsts(&[small(1), small(2), large(3), small(4), small(5)]), [1, 3, 4]);
        assert_eq!(firsts(&[large(3), large(4)]), [3, 4]);
        let middling = (0..20).map(|number| (number, Bytes::from(vec![0; LARGE - 1]))).collect::<Vec<_>>();
        assert_eq!(firsts(&middling), [0, 5, 10, 15]);
        assert_eq!(firsts(&[]), [0; 0]);
    }
}
