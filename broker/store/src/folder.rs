//! The folder of a store: made if it is missing, on a disk of this computer, used by one process.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::StoreError;

/// The right to use a store, until this is dropped or the process ends, however it ends.
///
/// It is a file that is locked (`flock`), and holds the process's id for people to read. It stays
/// when the lock is released.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

/// Makes the folder if it is missing, refuses one of another computer, and locks it.
pub(crate) fn take(folder: &Path) -> Result<Lock, StoreError> {
    let failed = |error: io::Error| StoreError::io(folder, &error);
    make(folder).map_err(failed)?;
    if let Some(kind) = network(folder).map_err(failed)? {
        return Err(StoreError::Network(folder.into(), kind));
    }
    let open =
        File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"));
    let mut file = match Flock::lock(open.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((mut file, Errno::EWOULDBLOCK)) => return Err(StoreError::InUse(folder.into(), holder(&mut file))),
        Err((_, errno)) => return Err(failed(errno.into())),
    };
    // On a full disk it is locked all the same.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(Lock { _file: file })
}

/// Syncs a folder, so that the names in it survive a power cut.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder for this user alone, and those above it.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = match folder.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    make(above)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made.and_then(|()| sync(above)),
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(target_os = "linux")]
fn network(folder: &Path) -> io::Result<Option<&'static str>> {
    let kind = nix::sys::statfs::statfs(folder)?.filesystem_type();
    // As wide as the platform likes, but numbers of 32 bits.
    Ok(network_kind(kind.0 as u32))
}

#[cfg(not(target_os = "linux"))]
fn network(folder: &Path) -> io::Result<Option<&'static str>> {
    std::fs::metadata(folder).map(|_| None)
}

/// Names the file systems that are known to be another computer's, by the numbers in Linux's
/// `magic.h`. Some have none that is theirs alone, such as what runs in FUSE.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn network_kind(magic: u32) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x5346_414f | 0x6b41_4653 => Some("AFS"),
        0x7375_7245 => Some("Coda"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_store_is_for_one_process_at_a_time_and_a_second_one_learns_which() {
        let folder = tempfile::tempdir().unwrap();
        let lock = take(folder.path()).unwrap();
        let error = take(folder.path()).unwrap_err();
        assert!(matches!(error, StoreError::InUse(_, Some(pid)) if pid == std::process::id()), "{error}");
        drop(lock);
        take(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_is_made_with_those_above_it_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("a/b");
        let _lock = take(&folder).unwrap();
        for path in [&folder, folder.parent().unwrap(), &folder.join("lock")] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
        }
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "precious").unwrap();
        let error = take(&path).unwrap_err();
        assert!(matches!(error, StoreError::Io(..)) && error.to_string().contains("/file"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn file_systems_of_other_computers_are_told_from_local_ones() {
        assert_eq!(network_kind(0x6969), Some("NFS"));
        assert_eq!(network_kind(0xfe53_4d42), Some("SMB"));
        for (local, magic) in [("ext4", 0xef53), ("XFS", 0x5846_5342), ("Btrfs", 0x9123_683e), ("tmpfs", 0x0102_1994)] {
            assert_eq!(network_kind(magic), None, "{local}");
        }
    }
}
