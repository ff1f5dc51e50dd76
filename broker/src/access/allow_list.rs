//! The list of allowed keys: a folder of public certificates.
//!
//! ```text
//! allow/client/alice.key      may submit requests
//! allow/worker/worker-1.key   may compute them
//! allow/admin/alice.key       may see the status and drain workers
//! ```
//!
//! The role is the folder that a certificate is in, not part of its text: the owner of a key writes
//! the certificate, and must not choose the role.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use giostra_core::config::Rights;
use giostra_protocol::name::fits;
use giostra_transport::keys::{Certificate, PUBLIC_SUFFIX, PublicKey, Role, SECRET_SUFFIX};
use giostra_transport::socket::Peers;

use super::permissions;
use crate::error::AllowError;

/// The keys that are let in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AllowList {
    keys: HashMap<PublicKey, Entry>,
    /// What was ignored, in sentences for the log, which may not be open yet.
    warnings: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    /// The file's name, for the log.
    name: String,
    roles: Vec<Role>,
}

impl AllowList {
    /// Reads the folders.
    ///
    /// # Errors
    /// If any file is wrong: a list that is half understood lets in the wrong peers.
    pub(super) fn read(folder: &Path) -> Result<Self, AllowError> {
        let entries = fs::read_dir(folder).map_err(|error| AllowError::NoFolder(folder.into(), error))?;
        permissions::check_folder(folder)?;
        let mut list = Self::default();
        for path in sorted(folder, entries)? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'))
            else {
                continue;
            };
            match Role::ALL.into_iter().find(|role| role.folder() == name) {
                Some(role) => list.read_role(&path, role)?,
                None if path.extension().is_some_and(|suffix| suffix == PUBLIC_SUFFIX) => {
                    return Err(AllowError::NoRole(path, folder.into()));
                }
                None => {
                    list.warnings.push(format!("{} is no role (client, worker, admin): ignored", path.display()));
                }
            }
        }
        Ok(list)
    }

    fn read_role(&mut self, folder: &Path, role: Role) -> Result<(), AllowError> {
        // The folder may be a link to elsewhere.
        permissions::check_folder(folder)?;
        let files = fs::read_dir(folder).map_err(|error| AllowError::Io(folder.into(), error))?;
        for path in sorted(folder, files)? {
            match path.extension().and_then(|suffix| suffix.to_str()) {
                Some(PUBLIC_SUFFIX) => {}
                Some(SECRET_SUFFIX) => return Err(AllowError::Secret(path)),
                _ => continue,
            }
            permissions::check(&path)?;
            let entry = self.keys.entry(Certificate::read_public(&path)?).or_default();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            // In the log it is one word.
            entry.name = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
            entry.roles.push(role);
        }
        Ok(())
    }

    /// Returns the number of keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns what was ignored, in sentences for the log.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the name of a key.
    pub(super) fn name(&self, key: &PublicKey) -> Option<&str> {
        self.keys.get(key).map(|entry| &*entry.name)
    }

    /// Returns what a key's owner may do on a side; `None` if it may not connect there.
    pub(super) fn rights(&self, side: Peers, key: &PublicKey) -> Option<Rights> {
        let roles = &self.keys.get(key)?.roles;
        let rights = Rights { submit: roles.contains(&Role::Client), administer: roles.contains(&Role::Admin) };
        match side {
            Peers::Clients => Some(rights).filter(|&rights| rights != Rights::NONE),
            Peers::Workers => roles.contains(&Role::Worker).then_some(Rights::NONE),
        }
    }
}

/// Returns the paths in a folder by name: the same folder is always the same list, or has the same
/// error.
fn sorted(folder: &Path, entries: fs::ReadDir) -> Result<Vec<PathBuf>, AllowError> {
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(|error| AllowError::Io(folder.into(), error))?;
    paths.sort_unstable();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use giostra_transport::keys::KeyPair;

    use super::*;

    fn put(folder: &Path, role: &str, name: &str, keys: &KeyPair) {
        let made = tempfile::tempdir().unwrap();
        let [public, _] = keys.write(made.path(), name).unwrap();
        fs::create_dir_all(folder.join(role)).unwrap();
        fs::copy(public, folder.join(role).join(format!("{name}.key"))).unwrap();
    }

    #[test]
    fn the_folder_of_a_key_is_its_role_and_each_side_has_its_own_roles() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let [alice, bob, stranger] = [(); 3].map(|()| KeyPair::generate().unwrap());
        put(folder, "client", "alice", &alice);
        put(folder, "admin", "alice", &alice);
        put(folder, "worker", "bob", &bob);
        fs::write(folder.join("client/README"), "not a key").unwrap();
        let list = AllowList::read(folder).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list.rights(Peers::Clients, &alice.public), Some(Rights::ALL));
        assert_eq!(list.rights(Peers::Workers, &alice.public), None);
        assert_eq!(list.rights(Peers::Clients, &bob.public), None);
        assert_eq!(list.rights(Peers::Workers, &bob.public), Some(Rights::NONE));
        assert_eq!(list.rights(Peers::Clients, &stranger.public), None);
        assert_eq!((list.name(&bob.public), list.name(&stranger.public)), (Some("bob"), None));

        fs::remove_file(folder.join("admin/alice.key")).unwrap();
        let list = AllowList::read(folder).unwrap();
        assert_eq!(list.rights(Peers::Clients, &alice.public), Some(Rights { submit: true, administer: false }));
    }

    #[test]
    fn a_list_that_every_user_can_change_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        put(folder, "client", "alice", &KeyPair::generate().unwrap());
        for (path, usual) in [(".", 0o755), ("client", 0o755), ("client/alice.key", 0o644)] {
            let with = |mode| fs::set_permissions(folder.join(path), fs::Permissions::from_mode(mode)).unwrap();
            with(usual | 0o002);
            let error = format!("{:#}", AllowList::read(folder).unwrap_err());
            assert!(error.contains(path) && error.contains("chmod o-w"), "{error}");
            with(usual);
            assert_eq!(AllowList::read(folder).unwrap().len(), 1);
        }
    }

    #[test]
    fn a_folder_that_is_half_understood_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(AllowList::read(&folder.join("nowhere")).unwrap_err().to_string().contains("giostra keys allow"));
        assert_eq!(AllowList::read(folder).unwrap().len(), 0);
        put(folder, ".", "stray", &KeyPair::generate().unwrap());
        assert!(AllowList::read(folder).unwrap_err().to_string().contains("has no role"));
        fs::remove_file(folder.join("stray.key")).unwrap();
        put(folder, "client", "a", &KeyPair::generate().unwrap());
        fs::write(folder.join("client/a.key_secret"), "").unwrap();
        assert!(AllowList::read(folder).unwrap_err().to_string().contains("is a secret"));
        fs::remove_file(folder.join("client/a.key_secret")).unwrap();
        fs::write(folder.join("client/b.key"), "curve\n    public-key = \"short\"\n").unwrap();
        let error = format!("{:#}", AllowList::read(folder).unwrap_err());
        assert!(error.contains("b.key") && error.contains("40 characters"), "{error}");
    }
}
