//! The journal: the answers so far, from which a later run resumes.
//!
//! It is a text file to which lines are only appended. The first line describes the run. Then there
//! is a line for each answer, in the order of arrival, with a hash of the input line that it answers.
//! Each of these lines begins with the CRC-32 of its rest:
//!
//! ```text
//! {"giostra map":3,"json":false,"line":false,"number":false,"operation":"div", ..}
//! CCCCCCCC > 2049 131 0                                 stdout is file 131 of device 2049, from byte 0 on
//! CCCCCCCC = 2 HHHHHHHH 2                               line 2 has the result 2
//! CCCCCCCC ! 1 HHHHHHHH ["failed","division by zero"]   line 1 failed
//! ```
//!
//! A failure's code and message are JSON, because a worker may choose any characters for them.
//!
//! Answers are written here before they are printed. So an output file always holds a prefix of what
//! the journal says, however the run ended, and the next run appends the rest. A last line without
//! its line break was cut short, and does not count.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
/// The hash by which an input line is recognised: its CRC-32.
pub use crc32fast::hash;
use giostra_protocol::Failure;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value as Json;

use super::output::{self, Start};
use crate::line::Ended;

/// The key of the first line whose value is the format.
pub const FORMAT_KEY: &str = "giostra map";

/// The format of the journals that are written and read.
pub const FORMAT: u32 = 3;

/// The description of a run, which must be the same for all runs with one journal.
pub type Run = BTreeMap<&'static str, Json>;

/// A line's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The number of the line, counted from 1.
    pub number: u64,
    /// The [`hash`] of the line.
    pub hash: u32,
    /// How it ended.
    pub ended: Ended,
}

/// An open and locked journal.
pub struct Journal {
    path: PathBuf,
    file: Flock<File>,
    /// The lines that are not written yet.
    new: Vec<u8>,
}

/// The records of an earlier run.
pub struct Records {
    path: PathBuf,
    file: BufReader<File>,
    /// The number of bytes in the whole lines that were read.
    read: u64,
    line: Vec<u8>,
    /// The last start of the output in each file that it went to.
    pub starts: Vec<Start>,
}

impl Journal {
    /// Opens the journal of this run, or creates it. A last line without its line break is cut off.
    /// An error if the journal is of another run, or another run is using it.
    pub fn open(path: &Path, run: &Run) -> anyhow::Result<(Self, Records)> {
        let file = File::options().read(true).append(true).create(true).open(path).with_context(|| named(path))?;
        let metadata = file.metadata()?;
        ensure!(metadata.is_file(), "{} is no file, so it can't be a journal", path.display());
        let out = output::same(stdout(), &metadata)?;
        ensure!(!out, "{} is what stdout writes; the journal needs another file", path.display());
        let input = output::same(stdin(), &metadata)?;
        ensure!(!input, "{} is what stdin reads; the journal needs another file", path.display());
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            Errno::EWOULDBLOCK => anyhow!("another run is using the journal {}", path.display()),
            error => anyhow!("can't lock {}: {}", path.display(), error.desc()),
        })?;
        let mut journal = Self { path: path.into(), file, new: Vec::new() };
        let mut records = Records::open(path)?;
        if records.next_line()? {
            same(run, serde_json::from_slice(&records.line).ok()).with_context(|| named(path))?;
        } else {
            serde_json::to_writer(&mut journal.new, run)?;
            journal.new.push(b'\n');
            ensure!(journal.new.starts_with(&records.line), "{}: is no journal of giostra map", path.display());
            journal.file.set_len(0)?;
            journal.flush()?;
        }
        // Damage, and the output's start, are found before the first record is printed.
        let mut all = Records::open(path)?;
        all.next_line()?;
        while all.next_line()? {
            match checked(&all.line) {
                Some(line) if !line.starts_with('>') => {}
                _ => drop(all.parsed()?),
            }
        }
        journal.file.set_len(all.read).with_context(|| named(path))?;
        let mut records = Records { starts: all.starts, ..Records::open(path)? };
        records.next_line()?;
        Ok((journal, records))
    }

    /// Appends the start of the output.
    pub fn append_start(&mut self, Start { file: (device, inode), offset }: Start) {
        self.write(format_args!("> {device} {inode} {offset}"));
    }

    /// Appends a line's answer.
    pub fn append(&mut self, number: u64, hash: u32, ended: &Ended) {
        match ended {
            Ended::Result(text) => self.write(format_args!("= {number} {hash:08x} {text}")),
            Ended::Failed(Failure { code, message }) => {
                let texts = serde_json::json!([code, message]);
                self.write(format_args!("! {number} {hash:08x} {texts}"));
            }
        }
    }

    /// Writes what was appended.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        let written = self.file.write_all(&self.new).with_context(|| named(&self.path));
        self.new.clear();
        written
    }

    /// Appends a line behind its checksum.
    fn write(&mut self, what: std::fmt::Arguments<'_>) {
        let start = self.new.len();
        self.new.extend_from_slice(&[b' '; CHECKSUM]);
        writeln!(self.new, "{what}").expect("a Vec takes any number of bytes");
        let (mut checksum, line) = self.new[start..].split_at_mut(CHECKSUM);
        let crc = hash(&line[..line.len() - 1]);
        write!(checksum, "{crc:08x}").expect("there is room for eight digits");
    }
}

impl Records {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| named(path))?;
        Ok(Self { path: path.into(), file: BufReader::new(file), read: 0, line: Vec::new(), starts: Vec::new() })
    }

    /// Returns the next record; `None` after the last whole one.
    pub fn next(&mut self) -> anyhow::Result<Option<Record>> {
        while self.next_line()? {
            if let Some(record) = self.parsed()? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Parses the current line. Returns its record, unless it is a start of the output.
    fn parsed(&mut self) -> anyhow::Result<Option<Record>> {
        match checked(&self.line).and_then(parsed) {
            Some(Line::Answer(record)) => return Ok(Some(record)),
            Some(Line::Start(start)) => self.began(start),
            None => {
                let (name, end) = (self.path.display(), self.read);
                let start = end - self.line.len() as u64;
                bail!(
                    "{name} is damaged: its bytes {start} to {end} are not what was written there; \
                     cut it to its first {start} bytes (truncate -s {start}), and the same command resumes from there"
                )
            }
        }
        Ok(None)
    }

    /// Adds a start of the output. Only the last one in a file counts: an earlier one may be of a file
    /// that has been deleted, whose inode number is in use again.
    fn began(&mut self, start: Start) {
        self.starts.retain(|other| other.file != start.file);
        self.starts.push(start);
    }

    /// Reads the next line. Returns whether it is whole.
    fn next_line(&mut self) -> anyhow::Result<bool> {
        self.line.clear();
        self.file.read_until(b'\n', &mut self.line).with_context(|| named(&self.path))?;
        let whole = self.line.ends_with(b"\n");
        self.read += if whole { self.line.len() as u64 } else { 0 };
        Ok(whole)
    }
}

enum Line {
    Answer(Record),
    Start(Start),
}

/// The length of a checksum and the space behind it.
const CHECKSUM: usize = 9;

/// Returns a line without its checksum and line break, if the checksum is right.
fn checked(line: &[u8]) -> Option<&str> {
    let (checksum, line) = line.strip_suffix(b"\n")?.split_at_checked(CHECKSUM)?;
    let checksum = str::from_utf8(checksum.strip_suffix(b" ")?).ok()?;
    let line = str::from_utf8(line).ok()?;
    (u32::from_str_radix(checksum, 16) == Ok(hash(line.as_bytes()))).then_some(line)
}

fn parsed(line: &str) -> Option<Line> {
    let mut parts = line.splitn(4, ' ');
    let (kind, number, third) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let rest = parts.next()?;
    if kind == ">" {
        return Some(Line::Start(Start { file: (number, third.parse().ok()?), offset: rest.parse().ok()? }));
    }
    let ended = match kind {
        "=" => Ended::Result(rest.into()),
        "!" => {
            let (code, message) = serde_json::from_str(rest).ok()?;
            Ended::Failed(Failure { code, message })
        }
        _ => return None,
    };
    Some(Line::Answer(Record { number, hash: u32::from_str_radix(third, 16).ok()?, ended }))
}

/// Returns an error if the journal is of another run.
fn same(run: &Run, header: Option<serde_json::Map<String, Json>>) -> anyhow::Result<()> {
    let header = header.filter(|header| header.contains_key(FORMAT_KEY)).context("is no journal of giostra map")?;
    let format = &header[FORMAT_KEY];
    ensure!(
        *format == FORMAT,
        "the journal has format {format}, and this version of giostra reads and writes format {FORMAT}; \
         finish it with the version that wrote it, or delete it and start over"
    );
    for (&key, now) in run {
        let then = header.get(key).unwrap_or(&Json::Null);
        ensure!(then == now, "the journal is of another run: its {key} was {then}, and is now {now}");
    }
    Ok(())
}

fn named(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn run(operation: &str) -> Run {
        Run::from([(FORMAT_KEY, json!(FORMAT)), ("operation", json!(operation))])
    }

    fn all(records: &mut Records) -> anyhow::Result<Vec<Record>> {
        std::iter::from_fn(|| records.next().transpose()).collect()
    }

    fn some() -> Vec<Record> {
        let ended = [
            Ended::Result("two words".into()),
            Ended::Failed(Failure::from("division by zero")),
            Ended::Result(String::new()),
        ];
        ended.into_iter().zip([2, 1, 3]).map(|(ended, number)| Record { number, hash: 7, ended }).collect()
    }

    #[test]
    fn what_was_noted_is_read_again_without_what_was_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let start = Start { file: (1, 2), offset: 3 };
        let (mut journal, mut records) = Journal::open(&path, &run("div")).unwrap();
        assert!(all(&mut records).unwrap().is_empty());
        journal.append_start(start);
        some().iter().for_each(|Record { number, hash, ended }| journal.append(*number, *hash, ended));
        journal.flush().unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        // Wherever it is cut, the whole lines before count, and it can be gone on with.
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut journal, mut records) = Journal::open(&path, &run("div")).unwrap();
            let mut known = all(&mut records).unwrap();
            let lines = whole[..cut].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(known, some()[..lines.saturating_sub(2)], "cut at {cut}");
            assert_eq!(records.starts, if lines > 1 { vec![start] } else { vec![] });
            journal.append(9, 9, &Ended::Result("9".into()));
            journal.flush().unwrap();
            drop(journal);
            let (_journal, mut records) = Journal::open(&path, &run("div")).unwrap();
            known.push(Record { number: 9, hash: 9, ended: Ended::Result("9".into()) });
            assert_eq!(all(&mut records).unwrap(), known, "cut at {cut}");
        }
    }

    #[test]
    fn whatever_words_a_failure_has_are_read_again_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path, &run("div")).unwrap();
        let texts =
            ["my code", "my-code", "", " ", "a\tb", "\"quoted\", \\", "line\nbreak", "\r\u{2028}", "[\"a\",\"b\"]"];
        let failures = texts.iter().flat_map(|code| texts.map(|message| Failure::new(code, message)));
        let records: Vec<_> = failures
            .zip(1..)
            .map(|(failure, number)| Record { number, hash: 7, ended: Ended::Failed(failure) })
            .collect();
        records.iter().for_each(|Record { number, hash, ended }| journal.append(*number, *hash, ended));
        journal.flush().unwrap();
        drop(journal);
        let (_journal, mut read) = Journal::open(&path, &run("div")).unwrap();
        assert_eq!(all(&mut read).unwrap(), records);
    }

    #[test]
    fn a_journal_of_another_run_and_a_file_that_is_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (journal, _) = Journal::open(&path, &run("div")).unwrap();
        let refused = |operation| format!("{:#}", Journal::open(&path, &run(operation)).err().expect("an error"));
        assert_eq!(refused("div"), format!("another run is using the journal {}", path.display()));
        drop(journal);
        assert!(refused("mul").contains(r#"its operation was "div", and is now "mul""#), "{}", refused("mul"));
        for other in ["some other file\n", "{}\n", "of one line that has no end"] {
            fs::write(&path, other).unwrap();
            assert!(refused("div").contains("is no journal"), "{}", refused("div"));
            assert_eq!(fs::read_to_string(&path).unwrap(), other);
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_an_error_or_asks_again_but_is_never_another_result() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path, &run("div")).unwrap();
        journal.append_start(Start { file: (1, 2), offset: 3 });
        some().iter().for_each(|Record { number, hash, ended }| journal.append(*number, *hash, ended));
        journal.flush().unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        let mut errors = 0;
        for bit in 0..8 * whole.len() {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            match Journal::open(&path, &run("div")).and_then(|(_journal, mut records)| all(&mut records)) {
                Ok(known) => assert!(some().starts_with(&known), "bit {bit}: {known:?}"),
                Err(_) => errors += 1,
            }
        }
        // Harmless: the last line break, without which the last line counts as cut short, and the
        // case of a checksum's digits.
        let harmless = 8 + 4 * (CHECKSUM - 1);
        assert!(errors >= 8 * whole.len() - harmless, "{errors} of {}", 8 * whole.len());
    }

    #[test]
    fn a_journal_of_another_format_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let old = "{\"giostra map\":1,\"operation\":\"div\"}\n= 2 5c20cd1d 2\n";
        fs::write(&path, old).unwrap();
        let error = format!("{:#}", Journal::open(&path, &run("div")).err().expect("an error"));
        assert!(error.contains("has format 1, and this version of giostra reads and writes format 3"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), old);
    }

    #[test]
    fn of_each_file_it_is_known_where_the_output_began_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path, &run("div")).unwrap();
        let start = |inode, offset| Start { file: (1, inode), offset };
        [start(2, 3), start(4, 5), start(2, 7)].into_iter().for_each(|start| journal.append_start(start));
        journal.flush().unwrap();
        drop(journal);
        let (_journal, records) = Journal::open(&path, &run("div")).unwrap();
        assert_eq!(records.starts, [start(4, 5), start(2, 7)]);
    }

    #[test]
    fn lines_are_told_apart_by_their_hashes() {
        let hashes: std::collections::BTreeSet<_> = (0..100_000).map(|n: u32| hash(n.to_string().as_bytes())).collect();
        // Two of so many are the same by chance once or so.
        assert!(hashes.len() > 99_990);
    }
}
