//! The folders of a broker on this machine: whether they can be written, how much room there is, and
//! what a sync costs.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use indicatif::HumanBytes;
use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use super::{Doctor, Finding};
use crate::written::micros;

/// The number of syncs to measure.
const SYNCS: usize = 50;

/// The size of each write before a sync: a page of the store.
const BLOCK: [u8; 4096] = [0; 4096];

/// The free bytes that a store refuses new jobs below: its reserve and the same again, and room for
/// some commits.
const NO_ROOM: u64 = 64 << 20;

/// The free bytes below which there will soon be no room: a log of the usual size has as many.
const LITTLE_ROOM: u64 = 1 << 30;

/// The median of a sync above which jobs are slow to submit: a hard disk's.
const SLOW_SYNC: Duration = Duration::from_millis(20);

/// Looks at the folders that were named.
pub fn look(doctor: &Doctor, until: Instant) -> Vec<Finding> {
    let named = [("store", &doctor.store), ("log", &doctor.log_dir)];
    let named = named.into_iter().filter_map(|(about, folder)| Some((about, folder.as_deref()?)));
    named.map(|(about, folder)| of(about, folder, until)).collect()
}

fn of(about: &'static str, folder: &Path, until: Instant) -> Finding {
    let name = folder.display();
    if !folder.exists() {
        let missing = "a broker that is started with it makes it";
        return Finding::warning(about, format!("{name} is not there"), missing);
    }
    let failed = |what: &str, error: io::Error| {
        let advice = "the broker's user needs a folder that it can write";
        Finding::failure(about, format!("{name}: can't {what}: {error}"), advice)
    };
    let free = match statvfs(folder) {
        Ok(disk) => disk.blocks_available().saturating_mul(disk.fragment_size()),
        Err(error) => return failed("look at its disk", error.into()),
    };
    let syncs = match syncs(folder, until) {
        Ok(syncs) => syncs,
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            return Finding::failure(about, format!("{name}: its disk is full"), "free some space");
        }
        Err(error) => return failed("write there", error),
    };
    let median = syncs[syncs.len() / 2];
    let text = format!(
        "{name}: {} free, a sync takes {} (the median of {})",
        HumanBytes(free),
        micros(median.as_micros().try_into().unwrap_or(u64::MAX)),
        syncs.len()
    );
    judge(about, text, free, median, statfs(folder).ok().map(|disk| disk.filesystem_type()))
}

/// Judges a folder by its free bytes, the median of its syncs and its file system.
fn judge(about: &'static str, text: String, free: u64, median: Duration, system: Option<FsType>) -> Finding {
    let is_store = about == "store";
    match system {
        _ if free < NO_ROOM && is_store => Finding::failure(about, text, "a broker takes no new jobs then: free some"),
        _ if free < LITTLE_ROOM => Finding::warning(about, text, "free some, or move it to a larger disk"),
        Some(TMPFS_MAGIC) if is_store => {
            Finding::warning(about, text, "it is in memory (tmpfs): jobs are lost when the machine restarts")
        }
        Some(NFS_SUPER_MAGIC) if is_store => {
            Finding::warning(about, text, "it is on a network file system (NFS), which a store is not made for")
        }
        _ if median > SLOW_SYNC && is_store => {
            Finding::warning(about, text, "that is slow: each group of jobs' requests and results waits for one")
        }
        _ => Finding::fine(about, text),
    }
}

/// Measures syncs in a folder, at least one. Returns their times, the shortest first.
fn syncs(folder: &Path, until: Instant) -> io::Result<Vec<Duration>> {
    let path = folder.join(format!(".giostra-doctor-{}", process::id()));
    let mut file = File::options().write(true).create_new(true).open(&path)?;
    // It has no name from here on, and is gone however this ends.
    fs::remove_file(&path)?;
    let mut times = Vec::new();
    while times.len() < SYNCS && (times.is_empty() || Instant::now() < until) {
        file.write_all(&BLOCK)?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn syncs_are_measured_and_leave_no_file_behind() {
        let folder = tempfile::tempdir().unwrap();
        let times = syncs(folder.path(), Instant::now() + Duration::from_secs(60)).unwrap();
        assert_eq!((times.len(), times.is_sorted()), (SYNCS, true));
        assert_eq!(syncs(folder.path(), Instant::now()).unwrap().len(), 1, "on a slow disk one has to do");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(syncs(Path::new("/proc"), Instant::now()).is_err());
    }

    #[test]
    fn a_store_needs_more_of_its_disk_than_a_log() {
        let verdict = |about, free, millis, system| {
            judge(about, String::new(), free, Duration::from_millis(millis), system).verdict
        };
        assert_eq!(verdict("store", NO_ROOM - 1, 1, None), Verdict::Failure);
        assert_eq!(verdict("log", NO_ROOM - 1, 1, None), Verdict::Warning);
        for system in [TMPFS_MAGIC, NFS_SUPER_MAGIC] {
            assert_eq!(verdict("store", LITTLE_ROOM, 1, Some(system)), Verdict::Warning);
            assert_eq!(verdict("log", LITTLE_ROOM, 1, Some(system)), Verdict::Fine);
        }
        assert_eq!(verdict("store", LITTLE_ROOM, 21, None), Verdict::Warning);
        assert_eq!(verdict("store", LITTLE_ROOM, 20, None), Verdict::Fine);
    }
}
