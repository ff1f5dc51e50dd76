//! The folders of a system that is up: what it needs while it runs, and what stays.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf, absolute};
use std::{env, iter};

use anyhow::{Context, ensure};
use giostra_transport::lock::{Error, Lock};
use nix::unistd::geteuid;

/// The folders of a system that is up.
pub struct Folder {
    /// What it needs while it runs: the lock, the record, keys.
    run: PathBuf,
    /// What stays: the log, the store.
    state: PathBuf,
}

impl Folder {
    /// Returns `dir`, for both; otherwise those that the XDG base directory specification says.
    ///
    /// # Errors
    /// If a path can't be made absolute.
    pub fn of(dir: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(dir) = dir {
            let dir = absolute(dir)?;
            return Ok(Self { run: dir.clone(), state: dir });
        }
        // Relative ones are invalid, as the specification says.
        let of_variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let run = match of_variable("XDG_RUNTIME_DIR") {
            Some(folder) => folder.join("giostra"),
            None => env::temp_dir().join(format!("giostra-{}", geteuid())),
        };
        let home = || of_variable("HOME").map(|home| home.join(".local/state"));
        let state = of_variable("XDG_STATE_HOME").or_else(home);
        Ok(Self { state: state.map_or_else(|| run.clone(), |state| state.join("giostra")), run })
    }

    /// Creates both, for this user alone.
    ///
    /// # Errors
    /// If they can't be created, or the first is another user's: then it could be told who runs what.
    pub fn create(&self) -> anyhow::Result<()> {
        for folder in [&self.run, &self.state] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| cannot("make", folder))?;
        }
        let there = fs::metadata(&self.run)?;
        ensure!(
            there.uid() == geteuid().as_raw() && there.mode() & 0o022 == 0,
            "{} belongs to another user, or others may write there; --dir takes another folder",
            self.run.display()
        );
        Ok(())
    }

    /// Takes the right to be what is up here. `None` if another process has it: its id, if it is known.
    pub fn lock(&self) -> anyhow::Result<Result<Lock, Option<u32>>> {
        match Lock::take(&self.run.join("lock")) {
            Ok(lock) => Ok(Ok(lock)),
            Err(Error::InUse(_, holder)) => Ok(Err(holder)),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether there is anything to look at.
    pub fn exists(&self) -> bool {
        self.run.is_dir()
    }

    /// The file in which it is written what is up.
    pub fn record(&self) -> PathBuf {
        self.run.join("up.json")
    }

    /// The file with what all say, of a system in the background.
    pub fn output(&self) -> PathBuf {
        self.run.join("up.log")
    }

    /// The file with what a process in the background says while it starts, by the process that waits for
    /// it: several may try.
    pub fn starting(&self, waiting: u32) -> PathBuf {
        self.run.join(format!("up-{waiting}.log"))
    }

    /// The variables of the system's clients, for a shell.
    pub fn variables(&self) -> PathBuf {
        self.run.join("env")
    }

    /// The folder of its keys.
    pub fn keys(&self) -> PathBuf {
        self.run.join("keys")
    }

    /// The folder of the broker's log.
    pub fn log(&self) -> PathBuf {
        self.state.join("log")
    }

    /// The folder of the store.
    pub fn store(&self) -> PathBuf {
        self.state.join("store")
    }

    /// The folder of what `giostra scale` keeps.
    pub fn scale(&self) -> PathBuf {
        self.state.join("scale")
    }

    /// The folder that a user names to mean this system.
    pub fn name(&self) -> &Path {
        &self.run
    }

    /// Removes what was of an earlier run: with `logs` also what it has logged.
    ///
    /// # Errors
    /// If something can't be removed.
    pub fn clear(&self, logs: bool) -> anyhow::Result<()> {
        for path in
            [self.keys(), self.variables(), self.record()].into_iter().chain(iter::once(self.log()).filter(|_| logs))
        {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error).with_context(|| cannot("remove", &path));
            }
        }
        Ok(())
    }
}

/// Says what can't be done to a path.
pub fn cannot(what: &str, path: &Path) -> String {
    format!("can't {what} {}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_in_which_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::of(Some(dir.path())).unwrap();
        folder.create().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = folder.create().unwrap_err().to_string();
        assert!(refused.contains("--dir takes another folder"), "{refused}");
    }

    #[test]
    fn clearing_keeps_the_store_and_keeps_the_log_unless_told_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::of(Some(dir.path())).unwrap();
        for path in [folder.keys(), folder.log(), folder.store()] {
            fs::create_dir(path).unwrap();
        }
        folder.clear(false).unwrap();
        assert!(!folder.keys().exists() && folder.log().exists());
        folder.clear(true).unwrap();
        assert!(!folder.log().exists() && folder.store().exists());
    }
}
