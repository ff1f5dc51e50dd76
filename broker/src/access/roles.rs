//! Whom the broker lets in, and as what: a folder of public certificates.
//!
//! ```text
//! allow/client/alice.key      may submit requests
//! allow/worker/worker-1.key   may compute them
//! allow/admin/alice.key       may see the status and drain workers
//! ```
//!
//! The role is where a file is, not what stands in it: a certificate is written by whom it names,
//! who must not choose it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use giostra_core::config::Rights;
use giostra_protocol::name::fits;
use giostra_transport::keys::{Certificate, PUBLIC_SUFFIX, PublicKey, Role, SECRET_SUFFIX};
use giostra_transport::socket::Peers;

use super::permissions;

/// The keys that are let in.
#[derive(Debug, Default)]
pub struct AllowList {
    keys: HashMap<PublicKey, Entry>,
    /// What was ignored, in sentences for the log: it may not be open yet.
    warnings: Vec<String>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The file's, for the log.
    name: String,
    client: bool,
    worker: bool,
    admin: bool,
}

impl AllowList {
    /// Reads the folders. An error names the file that is wrong: a list that is half understood
    /// lets in the wrong ones.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let wanted = "make it: giostra keys allow NAME.key --role client --dir DIR";
        let entries = fs::read_dir(folder).with_context(|| format!("--allow {}: {wanted}", folder.display()))?;
        permissions::check_folder(folder).context("--allow")?;
        let mut list = Self::default();
        for entry in entries {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'))
            else {
                continue;
            };
            match Role::ALL.into_iter().find(|role| role.folder() == name) {
                Some(role) => list.read_role(&path, role)?,
                None if path.extension().is_some_and(|suffix| suffix == PUBLIC_SUFFIX) => bail!(
                    "{} has no role: it belongs into {}/client, worker or admin",
                    path.display(),
                    folder.display()
                ),
                None => {
                    let ignored = format!("{} is no role (client, worker, admin): ignored", path.display());
                    list.warnings.push(ignored);
                }
            }
        }
        Ok(list)
    }

    fn read_role(&mut self, folder: &Path, role: Role) -> anyhow::Result<()> {
        // It may be a link to elsewhere.
        permissions::check_folder(folder)?;
        for file in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = file?.path();
            match path.extension().and_then(|suffix| suffix.to_str()) {
                Some(PUBLIC_SUFFIX) => {}
                Some(SECRET_SUFFIX) => bail!("{} is a secret, and its owner's alone: remove it here", path.display()),
                _ => continue,
            }
            permissions::check(&path)?;
            let key = Certificate::read_public(&path)?;
            let entry = self.keys.entry(key).or_default();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            // One word, one line: it goes into the log.
            entry.name = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
            match role {
                Role::Client => entry.client = true,
                Role::Worker => entry.worker = true,
                Role::Admin => entry.admin = true,
            }
        }
        Ok(())
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// What was ignored, in sentences for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the list calls a key.
    pub fn name(&self, key: &PublicKey) -> Option<&str> {
        self.keys.get(key).map(|entry| &*entry.name)
    }

    /// What a key's owner may do at a door, if it may come in there at all.
    pub fn rights(&self, door: Peers, key: &PublicKey) -> Option<Rights> {
        let entry = self.keys.get(key)?;
        let rights = match door {
            Peers::Clients => Rights { submit: entry.client, administer: entry.admin },
            Peers::Workers => return entry.worker.then_some(Rights::NONE),
        };
        (rights != Rights::NONE).then_some(rights)
    }
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
    fn a_role_is_where_the_file_is_and_each_door_has_its_own() {
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
