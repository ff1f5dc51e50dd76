//! The reserve: a file beside the database that takes space while there is some, and is removed when
//! there is none.
//!
//! What ends and removes jobs needs space too, before it frees any: results are written before the
//! requests they answer are removed, and a deletion goes into the write-ahead log first.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rand::RngExt as _;

/// Its name.
pub(crate) const NAME: &str = "reserve";

/// The size of the reserve, in bytes. When it is removed, the write-ahead log as it usually is fits
/// into the database (2,000 pages of 4 KiB), after which the log's own space is used again; and a
/// group has 1 MiB of results, and a thousand pages.
pub(crate) const BYTES: u64 = 8 << 20;

/// What is written at a time where space can't be allocated.
const PART: usize = 64 << 10;

/// The reserve of a store.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    there: bool,
}

impl Reserve {
    /// The reserve in a folder, as it was left.
    pub fn of(folder: &Path) -> Self {
        let path = folder.join(NAME);
        // A copy of it may have no blocks.
        let there = fs::metadata(&path).is_ok_and(|file| file.len() == BYTES && file.blocks() * 512 >= BYTES);
        Self { path, there }
    }

    /// Returns whether it is there.
    pub fn is_there(&self) -> bool {
        self.there
    }

    /// Makes it, if there is room for it and the same again. Returns whether it is there.
    pub fn make(&mut self) -> bool {
        if !self.there {
            self.there = free_bytes(&self.path).is_ok_and(|free| free >= 2 * BYTES) && self.allocate().is_ok();
            if !self.there {
                self.release();
            }
        }
        self.there
    }

    /// Removes it.
    pub fn release(&mut self) {
        // If it can't be removed, it does not help either.
        let _ = fs::remove_file(&self.path);
        self.there = false;
    }

    fn allocate(&self) -> io::Result<()> {
        let open = File::options().write(true).create(true).truncate(true).mode(0o600).open(&self.path);
        let mut file = open?;
        if allocate(&file).is_ok() {
            return Ok(());
        }
        // Written, with what can't be compressed. Synced, so that a file system that allocates late
        // has done so.
        let (mut rng, mut part, mut left) = (rand::rng(), [0; PART], BYTES as usize);
        while left > 0 {
            rng.fill(&mut part[..]);
            let len = left.min(PART);
            file.write_all(&part[..len])?;
            left -= len;
        }
        file.sync_all()
    }
}

/// Returns how many bytes the file system of a file to be made has for this user.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let free = nix::sys::statvfs::statvfs(folder)?;
    Ok((free.blocks_available() as u64).saturating_mul(free.fragment_size() as u64))
}

#[cfg(target_os = "linux")]
fn allocate(file: &File) -> io::Result<()> {
    Ok(nix::fcntl::fallocate(file, nix::fcntl::FallocateFlags::empty(), 0, BYTES as i64)?)
}

#[cfg(not(target_os = "linux"))]
fn allocate(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_takes_space_until_it_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::of(folder.path());
        assert!(!reserve.is_there() && reserve.make() && reserve.is_there());
        let file = fs::metadata(folder.path().join("reserve")).unwrap();
        assert!(file.len() == BYTES && file.blocks() * 512 >= BYTES, "{file:?}");
        assert!(Reserve::of(folder.path()).is_there(), "it stays when the store is closed");
        reserve.release();
        assert!(!reserve.is_there() && !folder.path().join("reserve").exists());
    }

    #[test]
    fn a_reserve_without_blocks_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");
        File::create(&path).unwrap().set_len(BYTES).unwrap();
        let mut reserve = Reserve::of(folder.path());
        assert!(!reserve.is_there() && reserve.make());
        assert!(fs::metadata(&path).unwrap().blocks() * 512 >= BYTES);
    }

    #[test]
    fn without_a_folder_there_is_no_reserve_and_no_panic() {
        let mut reserve = Reserve::of(Path::new("/no-such-folder"));
        assert!(!reserve.make() && !reserve.is_there());
    }
}
