//! CURVE keys, and the certificate files that hold them.
//!
//! No secret key is ever displayed, nor a line of a file that may hold one.

mod certificate;

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::unistd::geteuid;
use thiserror::Error;
use zeroize::Zeroizing;

use self::certificate::{create, text};
use crate::error::LibzmqError;
use crate::z85;

pub use self::certificate::{Certificate, write_public};

/// The length of a Curve25519 key, in bytes.
const KEY_BYTES: usize = 32;

/// The extension of a public certificate.
pub const PUBLIC_SUFFIX: &str = "key";

/// The extension of a secret certificate.
pub const SECRET_SUFFIX: &str = "key_secret";

/// A Curve25519 public key; displays as 40 characters of Z85.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_BYTES]);

/// The matching secret key; overwritten when it is dropped, never displayed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(Zeroizing<[u8; KEY_BYTES]>);

/// A public key and its secret key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// The public key, by which the other side identifies this one.
    pub public: PublicKey,
    /// The secret key.
    pub secret: SecretKey,
}

/// What the owner of a key may do. A key may have several roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// When it may submit requests.
    Client,
    /// When it may compute requests.
    Worker,
    /// When it may see the status and drain workers.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Client, Self::Worker, Self::Admin];

    /// Returns the role's name, which is also that of the folder with the certificates of its owners.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Worker => "worker",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.folder() == text).ok_or("the roles are client, worker and admin")
    }
}

/// The keys with which a client or a worker connects to a broker that requires keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its own keys.
    pub own: KeyPair,
    /// The brokers' public keys, in the order in which the brokers are listed, or a single one that all
    /// of them have: no other server can pass for a broker.
    pub brokers: Vec<PublicKey>,
}

/// Why keys can't be read, written or created.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// When a file can't be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// When other users can read a secret.
    #[error(
        "{path} can be read by others (mode {mode:04o}): chmod {best} {path}, and make new keys if it was so for long"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// The file's permissions.
        mode: u32,
        /// The permissions that it should have.
        best: &'static str,
    },
    /// When a file is not a certificate.
    #[error("{path} is no ZeroMQ certificate: {what}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, without a quote from the file.
        what: &'static str,
    },
    /// When a file holds no secret key, but one is needed.
    #[error("{path} holds no secret key; the file with both is usually called NAME.{SECRET_SUFFIX}")]
    NoSecret {
        /// The file.
        path: PathBuf,
    },
    /// When a file would be overwritten.
    #[error("{path} is there already; another name, or remove it if nobody uses these keys any more")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// When a text is not a public key.
    #[error("a public key is written in Z85, with 40 characters; or name a certificate file, NAME.{PUBLIC_SUFFIX}")]
    NoKey,
    /// When only one of `--keys` and `--broker-key` was given.
    #[error("--keys and --broker-key belong together: one's own secret certificate, and the broker's public key")]
    Incomplete,
    /// When libzmq can't create a key.
    #[error("libzmq: {0}")]
    Zmq(#[from] LibzmqError),
}

impl PublicKey {
    /// Returns the key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Creates a key from its bytes, if there are 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads the public key from the certificate file of that name; without such a file, parses the
    /// text as a key. The file comes first because a path of 40 characters may be a valid key, too,
    /// while a key is hardly ever the name of a file.
    pub fn parse_or_read(key_or_file: &str) -> Result<Self, KeyError> {
        let path = Path::new(key_or_file);
        if path.exists() || key_or_file.ends_with(".key") {
            return Certificate::read_public(path);
        }
        match key_or_file.parse() {
            Err(_) if key_or_file.contains('/') => Certificate::read_public(path),
            key => key,
        }
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        z85::decode(text).map(|key| Self(*key)).ok_or(KeyError::NoKey)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&zmq::z85_encode(&self.0).expect("32 is divisible by 4"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl SecretKey {
    /// Returns the key's bytes, for libzmq, which keeps its own copy.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[..]
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(not shown)")
    }
}

impl KeyPair {
    /// Creates new keys with libsodium.
    pub fn generate() -> Result<Self, KeyError> {
        let made = zmq::CurveKeyPair::new().map_err(LibzmqError::from)?;
        Ok(Self { public: PublicKey(made.public_key), secret: SecretKey(Zeroizing::new(made.secret_key)) })
    }

    /// Reads the keys from a secret certificate, which only its owner may be able to read. If another
    /// user owns it, its group may read it, too: containers get their secrets that way.
    ///
    /// # Errors
    /// If the file can't be read, exposes the secret, or is no secret certificate.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let (certificate, about) = Certificate::read(path)?;
        let secret = certificate.secret.ok_or_else(|| KeyError::NoSecret { path: path.into() })?;
        let mode = about.mode() & 0o7777;
        if let Some(best) = exposed(mode, about.uid() == geteuid().as_raw()) {
            return Err(KeyError::Exposed { path: path.into(), mode, best });
        }
        let public = public_key(&secret)?;
        if certificate.public.is_some_and(|named| named != public) {
            return Err(KeyError::Malformed { path: path.into(), what: "its two keys don't belong together" });
        }
        Ok(Self { public, secret })
    }

    /// Writes `NAME.key` and `NAME.key_secret` into a folder, which is created if necessary. Returns
    /// their paths.
    ///
    /// # Errors
    /// If one of the files exists, or can't be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<[PathBuf; 2], KeyError> {
        let file = |suffix: &str| folder.join(format!("{name}.{suffix}"));
        let paths = [file(PUBLIC_SUFFIX), file(SECRET_SUFFIX)];
        if let Some(path) = paths.iter().find(|path| path.exists()) {
            return Err(KeyError::Exists { path: path.clone() });
        }
        let secret = Zeroizing::new(zmq::z85_encode(self.secret.as_bytes()).expect("32 is divisible by 4"));
        let secret =
            Zeroizing::new(format!("    public-key = \"{}\"\n    secret-key = \"{}\"\n", self.public, *secret));
        write_public(&paths[0], name, &self.public)?;
        create(&paths[1], 0o600, &text("**Secret**", "DO NOT SHOW OR SEND IT TO ANYONE", name, &secret))?;
        Ok(paths)
    }
}

/// Returns the permissions that a secret certificate should have if its `mode` exposes it. `own`:
/// whether it belongs to this process's user.
fn exposed(mode: u32, own: bool) -> Option<&'static str> {
    // Write permission counts, too: it allows to replace the key.
    let (forbidden, best) = if own { (0o077, "600") } else { (0o027, "440") };
    (mode & forbidden != 0).then_some(best)
}

impl Credentials {
    /// The keys for a single broker, or for several with the same public key.
    pub fn new(own: KeyPair, broker: PublicKey) -> Self {
        Self { own, brokers: vec![broker] }
    }

    /// The public key of the broker at this place of a list.
    ///
    /// # Panics
    /// If there are several keys, but none for this place.
    pub fn broker(&self, place: usize) -> &PublicKey {
        if let [all] = &self.brokers[..] { all } else { &self.brokers[place] }
    }

    /// Reads the keys that the flags `--keys` (a secret certificate) and `--broker-key` (a key or a
    /// public certificate, or several with commas between them) name; `None` if neither was given.
    ///
    /// # Errors
    /// If only one was given, or a file is unusable.
    pub fn from_flags(keys: Option<&Path>, broker_key: Option<&str>) -> Result<Option<Self>, KeyError> {
        match (keys, broker_key) {
            (None, None) => Ok(None),
            (Some(keys), Some(broker)) => {
                let brokers = broker.split(',').map(|one| PublicKey::parse_or_read(one.trim()));
                Ok(Some(Self { own: KeyPair::read(keys)?, brokers: brokers.collect::<Result<_, _>>()? }))
            }
            _ => Err(KeyError::Incomplete),
        }
    }
}

/// Computes the public key of a secret key.
fn public_key(secret: &SecretKey) -> Result<PublicKey, KeyError> {
    let text = Zeroizing::new(zmq::z85_encode(secret.as_bytes()).expect("32 is divisible by 4"));
    let public = crate::ffi::curve_public(&text).and_then(|public| public.parse().ok());
    public.ok_or(KeyError::Zmq(zmq::Error::EINVAL.into()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// As pyzmq 26 writes it; the keys are those of <https://rfc.zeromq.org/spec/26/>'s examples.
    const PYZMQ: &str = "#   ****  Generated on 2026-11-23 12:00:00.000000 by pyzmq  ****\n#   ZeroMQ CURVE **Secret** Certificate\n\
        #   DO NOT PROVIDE THIS FILE TO OTHER USERS nor change its permissions.\n\nmetadata\ncurve\n    \
        public-key = \"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\"\n    \
        secret-key = \"D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs\"\n";

    #[test]
    fn what_others_write_is_read() {
        let certificate = Certificate::parse(PYZMQ).unwrap();
        assert_eq!(certificate.public.unwrap().to_string(), "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID");
        assert_eq!(public_key(certificate.secret.as_ref().unwrap()).unwrap(), certificate.public.unwrap());
        let czmq = "metadata\n    email = \"a = b\"\n    name = 'x y'\ncurve\n    public-key = \"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\" # mine";
        let certificate = Certificate::parse(czmq).unwrap();
        assert_eq!((certificate.name.as_deref(), certificate.secret), (Some("x y"), None));
        assert_eq!(certificate.public.unwrap().as_bytes().len(), KEY_BYTES);
    }

    #[test]
    fn whatever_a_file_holds_is_a_certificate_or_an_error_without_its_text() {
        for text in
            ["curve\n  public-key = \"short\"", "curve\n  secret-key = \"Yne@$w-vo", "curve\n secret-key = é\"'="]
        {
            assert!(Certificate::parse(text).is_err(), "{text}");
        }
        for text in ["", "=", "curve", "public-key = \"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID\"", "\"'\u{0}=\n ==#"] {
            assert!(Certificate::parse(text).is_ok_and(|it| it.public.is_none() && it.secret.is_none()), "{text}");
        }
        assert!("Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hI\u{e9}".parse::<PublicKey>().is_err());
    }

    #[test]
    fn what_only_has_the_length_of_a_key_is_none() {
        let mistyped = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hI";
        for text in [format!("{mistyped}~"), format!("{mistyped}_"), "#".repeat(40)] {
            assert_eq!(text.len(), 40);
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
            for which in ["public", "secret"] {
                assert!(Certificate::parse(&format!("curve\n    {which}-key = \"{text}\"\n")).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn a_file_that_is_there_is_read_also_where_its_name_could_be_a_key() {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let made = KeyPair::generate().unwrap();
        let [public, _] = made.write(folder.path(), "broker").unwrap();
        // 40 characters, each valid in a key.
        let path = folder.path().display().to_string();
        let padded =
            format!("{path}{}broker.key", "/".repeat(40_usize.saturating_sub(path.len() + "broker.key".len())));
        assert_eq!((padded.len(), padded.parse::<PublicKey>().is_ok()), (40, true), "{padded}");
        assert_eq!(PublicKey::parse_or_read(&padded).unwrap(), made.public);
        fs::remove_file(&public).unwrap();
        assert!(matches!(PublicKey::parse_or_read(&padded), Err(KeyError::File { .. })));
    }

    #[test]
    fn keys_come_back_from_their_files_which_are_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let made = KeyPair::generate().unwrap();
        let [public, secret] = made.write(&folder, "worker-1").unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(secret, folder.join("worker-1.key_secret"));
        assert_eq!(KeyPair::read(&secret).unwrap(), made);
        assert_eq!(PublicKey::parse_or_read(public.to_str().unwrap()).unwrap(), made.public);
        assert_eq!(PublicKey::parse_or_read(&made.public.to_string()).unwrap(), made.public);
        assert!(!fs::read_to_string(&public).unwrap().contains("secret-key"));
        assert!(matches!(made.write(&folder, "worker-1"), Err(KeyError::Exists { .. })));
        assert!(matches!(KeyPair::read(&public), Err(KeyError::NoSecret { .. })));
        assert!(PublicKey::parse_or_read("nobody.key").unwrap_err().to_string().contains("nobody.key"));
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_and_none_is_ever_shown() {
        let folder = tempfile::tempdir().unwrap();
        let made = KeyPair::generate().unwrap();
        let [_, secret] = made.write(folder.path(), "a").unwrap();
        let written = zmq::z85_encode(made.secret.as_bytes()).unwrap();
        assert!(!format!("{made:?}").contains(&written));
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
        let error = KeyPair::read(&secret).unwrap_err().to_string();
        assert!(error.contains("0640") && error.contains("chmod 600") && !error.contains(&written));
        let others = KeyPair::generate().unwrap();
        let text = format!("curve\n    public-key = \"{}\"\n    secret-key = \"{written}\"\n", others.public);
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&secret, text).unwrap();
        let error = KeyPair::read(&secret).unwrap_err().to_string();
        assert!(error.contains("don't belong together") && !error.contains(&written));
    }

    #[test]
    fn a_secret_of_another_user_may_be_readable_by_the_group_and_by_nobody_else() {
        for mode in [0o600, 0o400, 0o700] {
            assert_eq!(exposed(mode, true), None, "{mode:o}");
        }
        for mode in [0o640, 0o440, 0o604, 0o601, 0o610, 0o644] {
            assert_eq!(exposed(mode, true), Some("600"), "{mode:o}");
        }
        for mode in [0o440, 0o400, 0o640, 0o550] {
            assert_eq!(exposed(mode, false), None, "{mode:o}");
        }
        for mode in [0o444, 0o644, 0o660, 0o442, 0o441] {
            assert_eq!(exposed(mode, false), Some("440"), "{mode:o}");
        }
    }

    #[test]
    fn credentials_are_whole_or_none() {
        assert_eq!(Credentials::from_flags(None, None).unwrap(), None);
        assert!(matches!(Credentials::from_flags(None, Some("x")), Err(KeyError::Incomplete)));
        assert!(matches!(Credentials::from_flags(Some(Path::new("x")), None), Err(KeyError::Incomplete)));
    }
}
