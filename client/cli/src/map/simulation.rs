//! Seeded lives of a run: answers in any order, an end at any time, a journal whose last line is
//! cut short. What was printed is always the beginning of what the journal says, and nothing is
//! asked for that it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::path::Path;

use giostra_protocol::Failure;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::journal::{FORMAT, FORMAT_KEY, Journal, Record, Run};
use super::sequence::Sequence;
use crate::line::{Ended, Format};

const LINES: u64 = 60;

/// What a line's answer is, always.
fn answer(number: u64) -> Ended {
    if number.is_multiple_of(7) {
        Ended::Failed(Failure::from("why"))
    } else {
        Ended::Result(format!("result {number}"))
    }
}

/// What is known after some lives.
struct World {
    random: StdRng,
    format: Format,
    window: u32,
    /// What stdout, a file, holds.
    printed: Vec<u8>,
    asked: BTreeMap<u64, u32>,
}

/// What is under way in one life.
struct Life<'a> {
    sequence: Sequence<(u64, Ended)>,
    format: Format,
    /// What follows from the journal.
    out: Vec<u8>,
    journal: &'a mut Journal,
    open: BTreeSet<u64>,
}

impl Life<'_> {
    fn end(&mut self, number: u64, ended: Ended) {
        let print = |(number, ended): (u64, Ended)| {
            self.format.write(&mut self.out, number, &ended);
            Ok::<_, Infallible>(())
        };
        let Ok(()) = self.sequence.end(number, (number, ended), print);
    }
}

impl World {
    /// One life, to the end or to its violent end. Whether it was the former.
    fn live(&mut self, path: &Path) -> bool {
        let (mut journal, mut records) = Journal::open(path, &Run::from([(FORMAT_KEY, json!(FORMAT))])).unwrap();
        let sequence = Sequence::new(self.format.ordered, self.window);
        let (format, out, open) = (self.format, Vec::new(), BTreeSet::new());
        let mut life = Life { sequence, format, out, journal: &mut journal, open };
        let mut known = BTreeSet::new();
        while let Some(Record { number, hash, ended }) = records.next().unwrap() {
            assert_eq!((hash, &ended), (7, &answer(number)));
            assert!(known.insert(number), "line {number} is recorded once");
            life.end(number, ended);
        }
        self.print(&life.out);
        let mut next = 1;
        loop {
            while next <= LINES && life.open.len() < self.window as usize && life.sequence.has_room(next) {
                if !known.contains(&next) {
                    life.open.insert(next);
                    *self.asked.entry(next).or_default() += 1;
                }
                next += 1;
            }
            let Some(&number) = life.open.iter().nth(self.random.random_range(0..life.open.len().max(1))) else {
                life.journal.flush().unwrap();
                self.print(&life.out);
                return true;
            };
            life.open.remove(&number);
            life.journal.append(number, 7, &answer(number));
            life.end(number, answer(number));
            if self.random.random_bool(0.02) {
                // In the middle of writing.
                life.journal.flush().unwrap();
                let whole = fs::read(path).unwrap();
                let last = whole[..whole.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
                fs::write(path, &whole[..self.random.random_range(last + 1..=whole.len())]).unwrap();
                return false;
            }
            if self.random.random_bool(0.5) {
                life.journal.flush().unwrap();
                let part = self.random.random_range(0..=life.out.len());
                self.print(&life.out[..part]);
            }
        }
    }

    /// Writes what is not there yet.
    fn print(&mut self, out: &[u8]) {
        let (before, all) = (self.printed.len().min(out.len()), self.printed.len().max(out.len()));
        assert_eq!(self.printed[..before], out[..before], "what was printed stands");
        self.printed.extend_from_slice(&out[before..][..all - self.printed.len()]);
    }
}

#[test]
fn whenever_a_run_ends_the_next_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let ordered = random.random_bool(0.5);
        let (window, format) = (random.random_range(1..20), Format { json: false, number: true, ordered });
        let mut world = World { random, format, window, printed: Vec::new(), asked: BTreeMap::new() };
        let path = folder.path().join(seed.to_string());
        let mut lives = 1;
        while !world.live(&path) {
            lives += 1;
        }
        // A last life finds all of it.
        let asked = world.asked.clone();
        assert!(world.live(&path), "seed {seed}");
        assert_eq!(world.asked, asked, "seed {seed}: nothing is left to ask for");
        let again: u32 = asked.values().map(|times| times - 1).sum();
        assert!(asked.len() == LINES as usize && again <= (lives - 1) * window, "seed {seed}: {asked:?}");
        let mut out = String::from_utf8(world.printed).unwrap();
        if !ordered {
            let mut lines: Vec<_> = out.lines().collect();
            lines.sort_by_key(|line| line.split('\t').next().map(|number| number.parse::<u64>().unwrap()));
            out = lines.iter().map(|line| format!("{line}\n")).collect();
        }
        let mut expected = Vec::new();
        (1..=LINES).for_each(|number| format.write(&mut expected, number, &answer(number)));
        assert_eq!(out.as_bytes(), expected, "seed {seed}");
    }
}
