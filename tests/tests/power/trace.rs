//! The record of what a process did to the files of a folder, as `record.c` writes it.

use anyhow::{Context, Result, bail};

/// An operation, or something that the process said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// When a file was made: its inode and name.
    Create(u64, String),
    /// When bytes were written: where.
    Write(u64, u64, Vec<u8>),
    /// When a file was cut or filled to a size.
    Truncate(u64, u64),
    /// When a file was made at least this large.
    Extend(u64, u64),
    /// When a file was synced.
    Sync(u64),
    /// When a name was changed.
    Rename(String, String),
    /// When a name was removed.
    Unlink(String),
    /// When the folder was synced.
    SyncFolder,
    /// When the process wrote to stdout.
    Said(String),
}

/// The bytes before the name and the data of a record.
const HEADER: usize = 32;

/// Reads a record. The process was killed: the last operation may be cut off.
pub fn parse(mut bytes: &[u8]) -> Result<Vec<Op>> {
    let mut ops = Vec::new();
    while let Some((header, rest)) = bytes.split_at_checked(HEADER) {
        let half = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().expect("four bytes")) as usize;
        let whole = |at: usize| u64::from_ne_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let (op, inode, at) = (half(0), whole(8), whole(16));
        let Some((name, rest)) = rest.split_at_checked(half(4)) else { break };
        let Some((data, rest)) = rest.split_at_checked(usize::try_from(whole(24))?) else { break };
        bytes = rest;
        let name = String::from_utf8(name.to_vec())?;
        let text = || String::from_utf8(data.to_vec()).context("a text");
        ops.push(match op {
            1 => Op::Create(inode, name),
            2 => Op::Write(inode, at, data.to_vec()),
            3 => Op::Truncate(inode, at),
            4 => Op::Extend(inode, at),
            5 => Op::Sync(inode),
            6 => Op::Rename(name, text()?),
            7 => Op::Unlink(name),
            8 => Op::SyncFolder,
            9 => Op::Said(text()?),
            other => bail!("the unknown operation {other}"),
        });
    }
    Ok(ops)
}
