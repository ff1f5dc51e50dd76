//! Whether any user of the machine could have written what the broker trusts.
//!
//! Looks at the permissions for others, not at owners and groups: who they are is the
//! administrator's choice.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nix::sys::statvfs::{FsFlags, statvfs};

/// The permission of everybody to write.
const WRITABLE: u32 = 0o002;

/// In such a folder only a file's owner can rename or remove it.
const STICKY: u32 = 0o1000;

/// Checks that not just anybody can put something into a folder.
///
/// # Errors
/// If the folder is writable by everybody, or one above it is, so that it could be exchanged.
pub fn check_folder(folder: &Path) -> anyhow::Result<()> {
    check(folder)?;
    let whole = folder.canonicalize().with_context(|| folder.display().to_string())?;
    for above in whole.ancestors().skip(1) {
        let mode = mode(above)?;
        ensure!(mode & STICKY != 0 || !is_writable(mode, above), complaint(above, mode));
    }
    Ok(())
}

/// Checks that not just anybody can change a file or a folder.
///
/// # Errors
/// If it is writable by everybody.
pub fn check(path: &Path) -> anyhow::Result<()> {
    let mode = mode(path)?;
    ensure!(!is_writable(mode, path), complaint(path, mode));
    Ok(())
}

fn mode(path: &Path) -> anyhow::Result<u32> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.mode() & 0o7777)
}

fn is_writable(mode: u32, path: &Path) -> bool {
    // What a container is handed is often mounted read-only, and writable by its mode.
    mode & WRITABLE != 0 && !statvfs(path).is_ok_and(|about| about.flags().contains(FsFlags::ST_RDONLY))
}

fn complaint(path: &Path, mode: u32) -> String {
    let path = path.display();
    format!(
        "{path} can be written by every user (mode {mode:04o}), who could so let in whom they like: chmod o-w {path}"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_everybody_can_write_is_refused_and_so_is_what_is_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let (above, allow) = (folder.path().join("above"), folder.path().join("above/allow"));
        fs::create_dir_all(&allow).unwrap();
        let with = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        for (above_mode, allow_mode, well) in [
            (0o755, 0o755, true),
            (0o755, 0o775, true),
            (0o755, 0o777, false),
            (0o755, 0o1777, false),
            (0o777, 0o755, false),
            (0o1777, 0o700, true),
        ] {
            with(&above, above_mode);
            with(&allow, allow_mode);
            let checked = check_folder(&allow);
            assert_eq!(checked.is_ok(), well, "{above_mode:o} {allow_mode:o} {checked:?}");
            assert!(checked.err().is_none_or(|error| error.to_string().contains("chmod o-w ")));
        }
        assert!(check_folder(Path::new("/nonexistent")).is_err());
    }
}
