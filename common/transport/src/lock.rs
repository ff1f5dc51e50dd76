//! What one process may use at a time: a folder of logs, the path of a Unix socket.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

/// Why a process may not use something.
#[derive(Debug, Error)]
pub enum Error {
    /// When another process uses it.
    #[error("{} is in use by {}", .0.display(), .1.map_or_else(|| "another process".into(), |pid| format!("process {pid}")))]
    InUse(PathBuf, Option<u32>),
    /// When a socket is to be made where something else is, which libzmq would remove.
    #[error("{} is there already, and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// When the system does not let it be locked.
    #[error("can't lock {}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
}

/// The right to use something, until this is dropped or the process ends, however it ends.
///
/// It is a file that is locked (`flock`), and holds the process's id for people to read.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Flock<File>,
    /// The Unix socket that goes with it: libzmq leaves it behind.
    socket: Option<PathBuf>,
}

impl Lock {
    /// Locks the file at `path`, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process has locked it.
    pub fn take(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::Io(path.into(), error);
        loop {
            let file =
                File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
            let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((mut file, Errno::EWOULDBLOCK)) => return Err(Error::InUse(path.into(), holder(&mut file))),
                Err((_, errno)) => return Err(failed(errno.into())),
            };
            // Whoever had it may have removed it in between.
            if !is_at(&file, path) {
                continue;
            }
            // On a full disk it is locked all the same.
            let _ =
                file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
            return Ok(Self { path: path.into(), file, socket: None });
        }
    }

    /// Takes the right to bind a Unix socket at `path`: libzmq removes whatever is there, also the
    /// socket of a server that is running. One that a killed server left is no obstacle.
    ///
    /// # Errors
    /// If somebody listens there, or something is there that is no socket.
    pub fn of_unix_socket(path: &Path) -> Result<Self, Error> {
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let mut lock = match Self::take(Path::new(&lock)) {
            Err(Error::InUse(_, holder)) => return Err(Error::InUse(path.into(), holder)),
            lock => lock?,
        };
        match fs::metadata(path) {
            Ok(there) if !there.file_type().is_socket() => Err(Error::NoSocket(path.into())),
            Ok(_) if UnixStream::connect(path).is_ok() => Err(Error::InUse(path.into(), None)),
            _ => {
                lock.socket = Some(path.into());
                Ok(lock)
            }
        }
    }

    /// Whether its file is still in its place. If somebody has removed it, another process may take
    /// the same right.
    pub fn is_in_place(&self) -> bool {
        is_at(&self.file, &self.path)
    }
}

/// Locks a file that is open, so that nobody else writes it meanwhile; a device is everybody's.
///
/// # Errors
/// [`Error::InUse`] if another process has locked it.
pub fn hold(file: File, path: &Path) -> Result<Flock<File>, Error> {
    let one = file.metadata().map_err(|error| Error::Io(path.into(), error))?.is_file();
    let how = if one { FlockArg::LockExclusiveNonblock } else { FlockArg::LockSharedNonblock };
    Flock::lock(file, how).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => Error::InUse(path.into(), None),
        errno => Error::Io(path.into(), errno.into()),
    })
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked: nobody else's file is removed, unless the folder was made anew meanwhile.
        if is_at(&self.file, &self.path) {
            let paths = self.socket.iter().chain([&self.path]);
            paths.for_each(|path| drop(fs::remove_file(path)));
        }
    }
}

/// Whether this file is the one at `path`.
pub fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(id).is_ok_and(|ours| fs::metadata(path).map(id).is_ok_and(|there| there == ours))
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_lock_is_had_by_one_at_a_time_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::take(&path).unwrap();
        let held = Lock::take(&path).unwrap_err().to_string();
        assert!(held.contains(&format!("in use by process {}", std::process::id())), "{held}");
        drop(lock);
        assert!(!path.exists());
        drop(Lock::take(&path).unwrap());
    }

    #[test]
    fn a_lockfile_that_a_killed_process_left_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        fs::write(&path, "1\n").unwrap();
        assert!(Lock::take(&path).is_ok());
    }

    #[test]
    fn a_unix_socket_is_not_taken_over_but_a_stale_one_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(Lock::of_unix_socket(&path), Err(Error::InUse(..))));
        drop(listener);
        assert!(path.exists() && Lock::of_unix_socket(&path).is_ok());
        assert!(!path.exists(), "the socket goes with the lock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Lock::of_unix_socket(&path), Err(Error::NoSocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
