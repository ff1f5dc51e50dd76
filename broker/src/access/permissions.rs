//! Checks that only trusted users of the machine can write the list of allowed keys.
//!
//! Looks at the permissions for others, not at owners and groups: these are the administrator's
//! choice.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::error::AllowError;

/// The permission of every user to write.
const WRITABLE: u32 = 0o002;

/// In a folder with this bit, only a file's owner can rename or remove it.
const STICKY: u32 = 0o1000;

/// Checks that not every user can put files into a folder.
///
/// # Errors
/// If every user can write the folder, or one above it: the folder could then be exchanged.
pub(super) fn check_folder(folder: &Path) -> Result<(), AllowError> {
    check(folder)?;
    let whole = folder.canonicalize().map_err(|error| AllowError::Io(folder.into(), error))?;
    for above in whole.ancestors().skip(1) {
        let mode = mode(above)?;
        if mode & STICKY == 0 && is_writable(mode, above) {
            return Err(AllowError::Writable(above.into(), mode));
        }
    }
    Ok(())
}

/// Checks that not every user can change a file or a folder.
///
/// # Errors
/// If every user can write it.
pub(super) fn check(path: &Path) -> Result<(), AllowError> {
    let mode = mode(path)?;
    if is_writable(mode, path) {
        return Err(AllowError::Writable(path.into(), mode));
    }
    Ok(())
}

fn mode(path: &Path) -> Result<u32, AllowError> {
    let failed = |error: io::Error| AllowError::Io(path.into(), error);
    Ok(fs::metadata(path).map_err(failed)?.mode() & 0o7777)
}

fn is_writable(mode: u32, path: &Path) -> bool {
    // Containers often have such files mounted read-only, whatever their mode.
    mode & WRITABLE != 0 && !statvfs(path).is_ok_and(|about| about.flags().contains(FsFlags::ST_RDONLY))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_every_user_can_write_is_refused_and_so_are_those_below_it() {
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
