//! The files in the log's folder: their paths, and what an earlier process left there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;

use super::super::TIME_BYTES;
use super::TORN;
use crate::lock::{self, is_at};

/// The number of bytes that are read at once from a file's end.
const BLOCK: u64 = 4096;

/// The beginning of a line that is a JSON object.
const JSON_HEAD: &[u8] = b"{\"time\":\"";

pub(super) fn current(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}_rCURRENT.log"))
}

pub(super) fn lock_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.lock"))
}

/// Opens and locks the current file; creates its folder and the link to it if necessary. Returns the
/// file and its size.
pub(super) fn open_current(directory: &Path, name: &str) -> io::Result<(Flock<File>, u64)> {
    fs::create_dir_all(directory)?;
    let path = current(directory, name);
    let file = loop {
        let file = File::options().create(true).read(true).append(true).open(&path)?;
        let file = lock::hold(file, &path).map_err(io::Error::other)?;
        // Another process may have renamed it before the lock was taken.
        if is_at(&file, &path) {
            break file;
        }
    };
    let link = directory.join(format!("{name}.log"));
    if !link.is_symlink() {
        // Not every file system has links, and the log is complete without one.
        let _ = symlink(path.file_name().expect("it has a name"), link);
    }
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// Returns the last whole line of a file of this size, without its line feed.
pub(super) fn last_line_of(file: &File, size: u64) -> io::Result<Option<Vec<u8>>> {
    let (mut start, mut end_of_file) = (size, Vec::new());
    loop {
        let whole = end_of_file.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let mut lines = end_of_file[..whole].split_inclusive(|&byte| byte == b'\n').rev().peekable();
        while let Some(line) = lines.next() {
            // The beginning of the first line may not have been read yet.
            if lines.peek().is_none() && start > 0 {
                break;
            }
            if !line.ends_with(TORN) {
                return Ok(Some(line[..line.len() - 1].to_vec()));
            }
        }
        if start == 0 {
            return Ok(None);
        }
        // Twice as much each time, so that a long line is not searched too often.
        let more = BLOCK.max(end_of_file.len() as u64).min(start);
        start -= more;
        let mut block = vec![0; more.try_into().map_err(io::Error::other)?];
        file.read_exact_at(&mut block, start)?;
        block.append(&mut end_of_file);
        end_of_file = block;
    }
}

/// Returns a word that identifies a line: its time, and a checksum of the whole line.
pub(super) fn line_id(line: &[u8]) -> String {
    let time = match line.strip_prefix(JSON_HEAD) {
        Some(rest) => rest.split(|&byte| byte == b'"').next(),
        None => line.split(|&byte| byte == b' ').next(),
    };
    let time = time.and_then(|time| str::from_utf8(time).ok());
    let time = time.filter(|time| time.len() <= TIME_BYTES && time.bytes().all(|byte| byte.is_ascii_graphic()));
    format!("{}/{:08x}", time.filter(|time| !time.is_empty()).unwrap_or("?"), crc32fast::hash(line))
}
