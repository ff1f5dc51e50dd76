//! CURVE keys, and the certificate files that hold them.
//!
//! The files are ZeroMQ certificates: [ZPL](https://rfc.zeromq.org/spec/4/) with a section `curve`, as czmq's `zcert` and pyzmq's
//! `zmq.auth` write and read them. `NAME.key` holds the public key and may be shown to anyone;
//! `NAME.key_secret` holds both, and only its owner may be able to read it. Nothing here ever shows
//! a secret key, nor a line of a file that may hold one.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::unistd::geteuid;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::z85;

/// Bytes of a Curve25519 key.
const KEY_BYTES: usize = 32;

/// What the name of a public certificate ends with.
pub const PUBLIC_SUFFIX: &str = "key";

/// What the name of a secret certificate ends with.
pub const SECRET_SUFFIX: &str = "key_secret";

/// Files that are larger are no certificates.
const MAX_FILE: u64 = 64 << 10;

/// Whom the other side has before it. Written in Z85, 40 characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_BYTES]);

/// What proves it. Overwritten when it is dropped, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(Zeroizing<[u8; KEY_BYTES]>);

/// A public key and the secret one that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// Whom the other side sees.
    pub public: PublicKey,
    /// What proves it.
    pub secret: SecretKey,
}

/// What a key may do. One may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Submit requests.
    Client,
    /// Compute them.
    Worker,
    /// See the status and drain workers.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Client, Self::Worker, Self::Admin];

    /// Its name, which is also that of the folder of those who have it.
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

/// What a client or a worker needs to reach a broker that demands keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its own keys.
    pub own: KeyPair,
    /// The broker's: nobody else can answer to it.
    pub broker: PublicKey,
}

/// Why there are no keys.
#[derive(Debug, Error)]
pub enum KeyError {
    /// When a file can't be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// When a secret can be read by others than its owner.
    #[error(
        "{path} can be read by others (mode {mode:04o}): chmod {best} {path}, and make new keys if it was so for long"
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Those that it may have.
        best: &'static str,
    },
    /// When a file is no certificate.
    #[error("{path} is no ZeroMQ certificate: {what}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong, without quoting it.
        what: &'static str,
    },
    /// When a file holds only a public key and a secret one is needed.
    #[error("{path} holds no secret key; the file with both is usually called NAME.{SECRET_SUFFIX}")]
    NoSecret {
        /// Which.
        path: PathBuf,
    },
    /// When a file would be overwritten.
    #[error("{path} is there already; another name, or remove it if nobody uses these keys any more")]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// When a key is not written as it should be.
    #[error("a public key is written in Z85, with 40 characters; or name a certificate file, NAME.{PUBLIC_SUFFIX}")]
    NoKey,
    /// When only a half of what is needed was given.
    #[error("--keys and --broker-key belong together: one's own secret certificate, and the broker's public key")]
    Incomplete,
    /// When libzmq makes no keys.
    #[error("libzmq: {0}")]
    Zmq(#[from] zmq::Error),
}

impl PublicKey {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key of these bytes, if there are as many as there should be.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The public key of the certificate in the file of that name, or what is written as a key if
    /// there is none. In this order: a path of 40 characters may be a key as well, which then
    /// nobody has; a key is hardly ever the name of a file.
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
    /// The key's bytes. For libzmq, which keeps a copy of its own.
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
    /// New keys of libsodium's making.
    pub fn generate() -> Result<Self, KeyError> {
        let made = zmq::CurveKeyPair::new()?;
        Ok(Self { public: PublicKey(made.public_key), secret: SecretKey(Zeroizing::new(made.secret_key)) })
    }

    /// The keys of a secret certificate, which nobody but its owner may be able to read. One that
    /// is another user's may be readable by its group: that is how a container is handed a
    /// secret.
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

    /// Writes `NAME.key` and `NAME.key_secret` into a folder, which is made if it is not there;
    /// never over another file. Their paths.
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

/// The permissions that a secret certificate should have, if it has others that expose it.
fn exposed(mode: u32, own: bool) -> Option<&'static str> {
    // Whoever may write into it could exchange it.
    let (foreign, best) = if own { (0o077, "600") } else { (0o027, "440") };
    (mode & foreign != 0).then_some(best)
}

/// Writes a public certificate, never over another file, into a folder which is made if it is not
/// there.
pub fn write_public(path: &Path, name: &str, key: &PublicKey) -> Result<(), KeyError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| KeyError::File { path: folder.into(), error })?;
    }
    create(path, 0o644, &text("Public", "may be shown to anyone", name, &format!("    public-key = \"{key}\"\n")))
}

fn text(kind: &str, remark: &str, name: &str, keys: &str) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "#   ZeroMQ CURVE {kind} Certificate, made by giostra keys new; {remark}.\n\n\
         metadata\n    name = \"{name}\"\ncurve\n{keys}"
    ))
}

fn create(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.into() },
        _ => KeyError::File { path: path.into(), error },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

impl Credentials {
    /// What the flags `--keys` (a secret certificate) and `--broker-key` (a key or a public
    /// certificate) say; `None` if neither was given.
    pub fn from_flags(keys: Option<&Path>, broker_key: Option<&str>) -> Result<Option<Self>, KeyError> {
        match (keys, broker_key) {
            (None, None) => Ok(None),
            (Some(keys), Some(broker)) => {
                Ok(Some(Self { own: KeyPair::read(keys)?, broker: PublicKey::parse_or_read(broker)? }))
            }
            _ => Err(KeyError::Incomplete),
        }
    }
}

/// What a certificate file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The name in its metadata. Whoever made the file chose it.
    pub name: Option<String>,
    /// The public key.
    pub public: Option<PublicKey>,
    /// The secret key, if the file is a secret one.
    pub secret: Option<SecretKey>,
}

impl Certificate {
    /// The public key of a certificate, be it public or secret.
    pub fn read_public(path: &Path) -> Result<PublicKey, KeyError> {
        let (certificate, _) = Self::read(path)?;
        certificate.public_key(path)
    }

    /// Its public key, named or not; `path` is where it was read, for the error if it holds no key
    /// at all.
    pub fn public_key(&self, path: &Path) -> Result<PublicKey, KeyError> {
        match (self.public, &self.secret) {
            (Some(public), _) => Ok(public),
            (None, Some(secret)) => public_key(secret),
            (None, None) => Err(KeyError::Malformed { path: path.into(), what: "it holds no key" }),
        }
    }

    /// A file's certificate, and what the system says of the file.
    pub fn read(path: &Path) -> Result<(Self, fs::Metadata), KeyError> {
        let failed = |error: io::Error| KeyError::File { path: path.into(), error };
        let malformed = |what| KeyError::Malformed { path: path.into(), what };
        // Opening a pipe would wait for whoever writes into it, which a broker that reads its keys anew
        // can't.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(malformed("it is no file"));
        }
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if about.len() > MAX_FILE {
            return Err(malformed("it is too large for one"));
        }
        let text = Zeroizing::new(io::read_to_string(file).map_err(|_| malformed("it is no text"))?);
        Ok((Self::parse(&text).map_err(malformed)?, about))
    }

    /// Reads the text of a certificate. What is neither name nor key is left alone.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut certificate = Self::default();
        let mut section = "";
        for line in text.lines() {
            let content = line.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let Some((key, value)) = content.split_once('=') else {
                if !line.starts_with(char::is_whitespace) {
                    section = content;
                }
                continue;
            };
            let value = unquoted(value.trim())?;
            match (section, key.trim()) {
                ("metadata", "name") => certificate.name = Some(value.into()),
                ("curve", "public-key") => {
                    let key = value.parse().map_err(|_| "its public key is not 40 characters of Z85")?;
                    certificate.public = Some(key);
                }
                ("curve", "secret-key") => {
                    let key = z85::decode(value).ok_or("its secret key is not 40 characters of Z85")?;
                    certificate.secret = Some(SecretKey(key));
                }
                _ => {}
            }
        }
        Ok(certificate)
    }
}

/// A value without its quotes, if it has any; what follows them is a comment.
fn unquoted(value: &str) -> Result<&str, &'static str> {
    let Some(quote) = value.chars().next().filter(|&first| first == '"' || first == '\'') else { return Ok(value) };
    value[1..].split_once(quote).map(|(inside, _)| inside).ok_or("a quote is not closed")
}

/// The public key that belongs to a secret one.
fn public_key(secret: &SecretKey) -> Result<PublicKey, KeyError> {
    let text = Zeroizing::new(zmq::z85_encode(secret.as_bytes()).expect("32 is divisible by 4"));
    Ok(crate::ffi::curve_public(&text).and_then(|public| public.parse().ok()).ok_or(zmq::Error::EINVAL)?)
}

#[cfg(test)]
mod tests {
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
        // Of 40 characters, all of which may stand in a key.
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
