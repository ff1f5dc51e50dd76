//! A disk, and what a power cut leaves on it.
//!
//! It promises no more than POSIX does. Of a file there is what was written before its last sync; of
//! what was written later any part, each write whole, not at all, or torn at the borders of sectors.
//! Names are as they were when the folder was synced; of later changes there are the first ones, any
//! number of them: a journal keeps their order. That the sync of a new file makes its name safe, as
//! ext4 has it, is not relied on.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Result;
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::trace::Op;

/// A change of a file's content.
#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
    Extend(usize),
}

impl Change {
    fn apply(self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                let end = at + bytes.len();
                content.resize(content.len().max(end), 0);
                content[at..end].copy_from_slice(&bytes);
            }
            Self::Truncate(len) => content.resize(len, 0),
            Self::Extend(len) => content.resize(content.len().max(len), 0),
        }
    }
}

/// A change of the folder.
#[derive(Clone, Debug)]
enum Entry {
    Create(String, usize),
    Rename(String, String),
    Unlink(String),
}

impl Entry {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, file) => drop(names.insert(name, file)),
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
            Self::Unlink(name) => drop(names.remove(&name)),
        }
    }
}

/// A file: what is safe, and what was done since its last sync.
#[derive(Clone, Debug, Default)]
struct File {
    safe: Vec<u8>,
    later: Vec<Change>,
}

/// A folder on a disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: Vec<File>,
    /// By inode. An inode may be used again.
    by_inode: HashMap<u64, usize>,
    safe_names: BTreeMap<String, usize>,
    later_names: Vec<Entry>,
}

impl Disk {
    /// The folder as it is, all of it safe.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut disk = Self::default();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let file = disk.files.len();
            disk.files.push(File { safe: fs::read(entry.path())?, later: vec![] });
            disk.by_inode.insert(entry.metadata()?.ino(), file);
            disk.safe_names.insert(entry.file_name().to_string_lossy().into_owned(), file);
        }
        Ok(disk)
    }

    /// Does what a process did.
    pub fn apply(&mut self, op: Op) {
        match op {
            Op::Create(inode, name) => {
                self.by_inode.insert(inode, self.files.len());
                self.later_names.push(Entry::Create(name, self.files.len()));
                self.files.push(File::default());
            }
            Op::Write(inode, at, bytes) => self.change(inode, Change::Write(at as usize, bytes)),
            Op::Truncate(inode, len) => self.change(inode, Change::Truncate(len as usize)),
            Op::Extend(inode, len) => self.change(inode, Change::Extend(len as usize)),
            Op::Sync(inode) => {
                let File { safe, later } = self.file(inode);
                later.drain(..).for_each(|change| change.apply(safe));
            }
            Op::Rename(from, to) => self.later_names.push(Entry::Rename(from, to)),
            Op::Unlink(name) => self.later_names.push(Entry::Unlink(name)),
            Op::SyncFolder => {
                for entry in self.later_names.drain(..) {
                    entry.apply(&mut self.safe_names);
                }
            }
            Op::Said(_) => {}
        }
    }

    fn change(&mut self, inode: u64, change: Change) {
        self.file(inode).later.push(change);
    }

    fn file(&mut self, inode: u64) -> &mut File {
        let file = self.by_inode.get(&inode).expect("a file is made before it is written");
        &mut self.files[*file]
    }

    /// The folder as it may be after a power cut now.
    pub fn after_a_cut(&self, rng: &mut StdRng) -> Left {
        // Of all that was not synced: nothing, all, or some.
        let kept = [0.0, 0.3, 0.7, 0.95, 1.0][rng.random_range(0..5)];
        let mut names = self.safe_names.clone();
        let count = rng.random_range(0..=self.later_names.len());
        self.later_names.iter().take(count).for_each(|entry| entry.clone().apply(&mut names));
        let mut content = |file: &File| {
            let mut content = file.safe.clone();
            for change in &file.later {
                if rng.random_bool(kept) {
                    torn(change.clone(), kept, rng).into_iter().for_each(|part| part.apply(&mut content));
                }
            }
            content
        };
        Left(names.into_iter().map(|(name, file)| (name, content(&self.files[file]))).collect())
    }
}

/// Tears some writes at the borders of sectors, and returns the parts that are left.
fn torn(change: Change, kept: f64, rng: &mut StdRng) -> Vec<Change> {
    let Change::Write(at, bytes) = change else { return vec![change] };
    if kept == 1.0 || rng.random_bool(0.8) {
        return vec![Change::Write(at, bytes)];
    }
    let sector = if rng.random_bool(0.5) { 512 } else { 4096 };
    let (mut parts, mut from) = (Vec::new(), 0);
    while from < bytes.len() {
        let end = bytes.len().min((at + from) / sector * sector + sector - at);
        if rng.random_bool(0.5) {
            parts.push(Change::Write(at + from, bytes[from..end].to_vec()));
        }
        from = end;
    }
    parts
}

/// What is left of a folder: names and contents.
pub struct Left(BTreeMap<String, Vec<u8>>);

impl Left {
    /// Makes the files in an empty folder.
    pub fn write(self, folder: &Path) -> Result<()> {
        for (name, content) in self.0 {
            fs::write(folder.join(name), content)?;
        }
        Ok(())
    }
}

#[test]
fn of_what_was_not_synced_any_part_is_left_and_all_of_what_was() {
    use rand::SeedableRng as _;
    let mut disk = Disk::default();
    disk.apply(Op::Create(7, "a".into()));
    disk.apply(Op::Write(7, 0, vec![1; 3000]));
    disk.apply(Op::Sync(7));
    let mut rng = StdRng::seed_from_u64(1);
    let cut = |disk: &Disk, rng: &mut StdRng| disk.after_a_cut(rng).0;
    let named = (0..100).filter(|_| !cut(&disk, &mut rng).is_empty()).count();
    assert!((10..90).contains(&named), "{named}: the name is not safe yet");
    disk.apply(Op::SyncFolder);
    disk.apply(Op::Write(7, 1000, vec![2; 2000]));
    disk.apply(Op::Truncate(7, 5000));
    disk.apply(Op::Unlink("a".into()));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let Some(content) = cut(&disk, &mut rng).remove("a") else { continue };
        assert_eq!(content[..1000], [1; 1000], "it was synced");
        let twos = content.iter().filter(|byte| **byte == 2).count();
        seen.insert((twos, content.len()));
    }
    let torn = seen.iter().any(|(twos, _)| ![0, 2000].contains(twos));
    assert!(torn && seen.contains(&(2000, 5000)) && seen.contains(&(0, 3000)), "{seen:?}");
}
