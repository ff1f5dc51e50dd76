//! Notices on a thread of its own that the folder of allowed keys has changed, and reads it there.
//!
//! It looks once a second instead of asking the system for events: a look notices everything, also
//! on network file systems and where a link above the files is exchanged, as Kubernetes does with a
//! mounted secret. The server's loop is not held up by a slow file system, and exchanges the list
//! between two turns.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use giostra_transport::keys::{PUBLIC_SUFFIX, Role, SECRET_SUFFIX};
use giostra_transport::wake::{Alarm, Waker, alarm};

use super::allow_list::AllowList;
use crate::error::AllowError;

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time without a change after which a folder that has changed is read: a file may be half
/// written.
const SETTLING: Duration = Duration::from_millis(250);

/// The maximum number of looks for that. After them it is read even if it changes all the time.
const MAX_LOOKS: u32 = 20;

type Read = Result<AllowList, AllowError>;

/// Watches a folder until it is dropped.
pub(super) struct Watch {
    found: Arc<Mutex<Found>>,
    alarm: Alarm,
    /// Its end ends the thread, which is not waited for: it may be in a folder that does not answer.
    _until: Sender<()>,
}

/// What the thread has found.
#[derive(Default)]
struct Found {
    /// What was read, unless it has been taken.
    read: Option<Read>,
    /// Increases whenever another reads the folder: what the thread has begun to read may then be
    /// older.
    round: u64,
}

impl Watch {
    /// Begins to watch. To be called before the folder is first read, so that no change is missed.
    ///
    /// # Errors
    /// If the system has no thread or no pipe left.
    pub(super) fn start(folder: PathBuf) -> io::Result<Self> {
        let (waker, alarm) = alarm()?;
        let (until, ended) = channel();
        let found = Arc::new(Mutex::new(Found::default()));
        let known = look(&folder);
        let watcher = Watcher { folder, known: Some(known), found: Arc::clone(&found), waker, ended };
        thread::Builder::new().name("giostra-allow".into()).spawn(move || watcher.run())?;
        Ok(Self { found, alarm, _until: until })
    }

    /// Rings when [`Self::take`] has something.
    pub(super) fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Returns what was read since the folder changed. Errors come again each second until the
    /// folder can be read.
    pub(super) fn take(&self) -> Option<Read> {
        if self.alarm.clear() { lock(&self.found).read.take() } else { None }
    }

    /// Forgets what was read so far. To be called before another reads the folder.
    pub(super) fn restart(&self) {
        let mut found = lock(&self.found);
        found.round += 1;
        found.read = None;
    }
}

fn lock(found: &Mutex<Found>) -> std::sync::MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's part.
struct Watcher {
    folder: PathBuf,
    /// The folder when it was last read; `None` if that failed.
    known: Option<Look>,
    found: Arc<Mutex<Found>>,
    waker: Waker,
    ended: Receiver<()>,
}

impl Watcher {
    fn run(mut self) {
        while self.wait(INTERVAL) {
            if self.known.as_ref() != Some(&look(&self.folder)) {
                let Some(settled) = self.settled() else { return };
                self.read(settled);
            }
        }
    }

    /// Waits; returns whether the folder is still to be watched.
    fn wait(&self, time: Duration) -> bool {
        matches!(self.ended.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// Returns the folder when it has stopped changing; `None` if it is no longer to be watched.
    fn settled(&self) -> Option<Look> {
        let mut last = look(&self.folder);
        for _ in 0..MAX_LOOKS {
            if !self.wait(SETTLING) {
                return None;
            }
            let now = look(&self.folder);
            if now == last {
                break;
            }
            last = now;
        }
        Some(last)
    }

    /// Reads the folder. If that fails, it does so again after the next look: there may have been
    /// too many open files, or no permission.
    fn read(&mut self, look: Look) {
        let round = lock(&self.found).round;
        let read = AllowList::read(&self.folder);
        let mut found = lock(&self.found);
        self.known = (read.is_ok() && found.round == round).then_some(look);
        if found.round == round {
            found.read = Some(read);
            self.waker.wake();
        }
    }
}

/// What is seen of a folder without opening its files.
type Look = Vec<(PathBuf, Option<Stamp>)>;

/// What changes with a file: where it is, its size and permissions, its times.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    size: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self {
            place: (about.dev(), about.ino()),
            size: about.size(),
            mode: about.mode(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }
}

/// Looks at a folder of allowed keys: itself, the folders of roles, and their certificates, through
/// links.
fn look(folder: &Path) -> Look {
    let roles: Vec<_> = Role::ALL.into_iter().map(|role| folder.join(role.folder())).collect();
    let is_certificate =
        |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == PUBLIC_SUFFIX || suffix == SECRET_SUFFIX);
    let entries = roles.iter().filter_map(|role| fs::read_dir(role).ok()).flatten();
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_certificate).collect();
    paths.sort_unstable();
    let all = [folder.to_path_buf()].into_iter().chain(roles).chain(paths);
    all.map(|path| (fs::metadata(&path).ok().as_ref().map(Stamp::of), path))
        .map(|(stamp, path)| (path, stamp))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_look_sees_whatever_may_change_who_comes_in() {
        let folder = tempfile::tempdir().unwrap();
        let (client, worker) = (folder.path().join("client"), folder.path().join("worker"));
        let mut last = look(folder.path());
        let mut sees = |what: &str| {
            let now = look(folder.path());
            assert_ne!(now, last, "{what}");
            assert_eq!(look(folder.path()), now, "a look changes nothing");
            last = now;
        };
        fs::create_dir(&client).unwrap();
        sees("a role");
        fs::write(client.join("a.key"), "one").unwrap();
        sees("a certificate");
        fs::write(client.join("a.key"), "another").unwrap();
        sees("other contents");
        fs::set_permissions(client.join("a.key"), fs::Permissions::from_mode(0o666)).unwrap();
        sees("that others may write it");
        fs::rename(client.join("a.key"), client.join("b.key")).unwrap();
        sees("another name");
        fs::write(folder.path().join("stray.key"), "").unwrap();
        sees("a certificate without a role");
        // As the kubelet mounts a secret, and exchanges it.
        for version in ["..1", "..2"] {
            fs::create_dir_all(worker.join(version)).unwrap();
            fs::write(worker.join(version).join("w.key"), "same size").unwrap();
        }
        symlink("..1", worker.join("..data")).unwrap();
        symlink("..data/w.key", worker.join("w.key")).unwrap();
        sees("a mounted folder");
        symlink("..2", worker.join("..data_tmp")).unwrap();
        fs::rename(worker.join("..data_tmp"), worker.join("..data")).unwrap();
        sees("an exchanged link");
        fs::remove_dir_all(&client).unwrap();
        sees("that a role is gone");
        fs::remove_dir_all(folder.path()).unwrap();
        sees("that all is gone");
    }
}
