//! The journal of a batch: which requests were sent over which connection, and what each got.
//!
//! `giostra audit --journal` reads it; `docs/log.md` describes its lines.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use giostra_client::{Client, Record};

/// The beginning of each journal.
const HEAD: &str = "giostra-journal format=1 client=";

/// An open journal. Lines are written some at a time.
pub struct Journal {
    path: PathBuf,
    file: BufWriter<File>,
    /// The number of replies that were doubled before.
    duplicated: u64,
}

impl Journal {
    /// Begins the journal of what the client does from now on. An earlier journal is replaced; a file
    /// that is none is left as it is, which is an error.
    pub fn create(path: &Path, client: &mut Client) -> anyhow::Result<Self> {
        let file = open(path).with_context(|| format!("can't write the journal {}", path.display()))?;
        let file = BufWriter::with_capacity(1 << 16, file);
        let mut journal = Self { path: path.into(), file, duplicated: client.duplicated() };
        journal.write(|file| writeln!(file, "{HEAD}{}", client.name()))?;
        client.keep_record(true);
        Ok(journal)
    }

    /// Appends what the client has recorded since the last call.
    pub fn append(&mut self, client: &mut Client) -> anyhow::Result<()> {
        let records = client.take_record();
        self.write(|file| records.iter().try_for_each(|record| append(file, record)))
    }

    /// Ends the journal of a batch of so many requests: without it, requests without an answer might
    /// have been answered later.
    pub fn end(mut self, client: &mut Client, requests: u64, interrupted: bool) -> anyhow::Result<()> {
        self.append(client)?;
        let duplicated = client.duplicated() - self.duplicated;
        let interrupted = if interrupted { " interrupted" } else { "" };
        self.write(|file| {
            writeln!(file, "end requests={requests} duplicated={duplicated}{interrupted}")?;
            file.flush()
        })
    }

    fn write(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> anyhow::Result<()> {
        write(&mut self.file).with_context(|| format!("can't write the journal {}", self.path.display()))
    }
}

/// The number of characters of an error's code: lines have an end.
const CODE: usize = 64;

fn append(file: &mut impl Write, record: &Record) -> io::Result<()> {
    match record {
        Record::Connected { broker, number } => writeln!(file, "connected {broker} c{number}"),
        Record::Sent(first, last) if first == last => writeln!(file, "sent {}", first.0),
        Record::Sent(first, last) => writeln!(file, "sent {}..{}", first.0, last.0),
        Record::Replied(id, None) => writeln!(file, "reply {}", id.0),
        Record::Replied(id, Some(code)) => {
            writeln!(file, "reply-error {} {}", id.0, code.chars().take(CODE).collect::<String>().escape_default())
        }
        Record::Duplicated(id) => writeln!(file, "duplicate {}", id.0),
        Record::GaveUp(id, code) => writeln!(file, "gave-up {} {code}", id.0),
        _ => Ok(()),
    }
}

/// Opens a file for a journal, unless it holds something else.
fn open(path: &Path) -> anyhow::Result<File> {
    let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
    if is_file {
        let mut start = Vec::new();
        File::open(path)?.take(HEAD.len() as u64).read_to_end(&mut start)?;
        ensure!(start.is_empty() || start == HEAD.as_bytes(), "the file holds something else");
    }
    Ok(OpenOptions::new().write(true).create(true).truncate(true).open(path)?)
}

#[cfg(test)]
mod tests {
    use giostra_client::RequestId;

    use super::*;

    fn line(record: &Record) -> String {
        let mut line = Vec::new();
        append(&mut line, record).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn each_record_is_a_line_whatever_a_worker_calls_its_error() {
        let [one, two] = [1, 2].map(RequestId);
        assert_eq!(line(&Record::Sent(one, two)), "sent 1..2\n");
        assert_eq!(line(&Record::Sent(one, one)), "sent 1\n");
        assert_eq!(line(&Record::Replied(one, Some("a\nreply 2".into()))), "reply-error 1 a\\nreply 2\n");
        assert_eq!(line(&Record::Connected { broker: "ipc://a b".into(), number: 3 }), "connected ipc://a b c3\n");
    }

    #[test]
    fn a_file_that_is_no_journal_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j");
        drop(open(&path).unwrap());
        std::fs::write(&path, format!("{HEAD}a\nend")).unwrap();
        drop(open(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        std::fs::write(&path, "precious").unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("something else"));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
