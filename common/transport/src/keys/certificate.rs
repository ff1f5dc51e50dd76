//! ZeroMQ certificates: files that hold keys.
//!
//! The format is [ZPL](https://rfc.zeromq.org/spec/4/) with a section `curve`, as czmq's `zcert` and
//! pyzmq's `zmq.auth` read and write it. `NAME.key` holds the public key and may be shown to anyone.
//! `NAME.key_secret` holds both keys, and only its owner may be able to read it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::{KeyError, PublicKey, SecretKey, public_key};
use crate::z85;

/// The largest certificate file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// The contents of a certificate file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The name in its metadata, which the file's author chose.
    pub name: Option<String>,
    /// The public key.
    pub public: Option<PublicKey>,
    /// The secret key of a secret certificate.
    pub secret: Option<SecretKey>,
}

impl Certificate {
    /// Reads the public key of a public or a secret certificate.
    pub fn read_public(path: &Path) -> Result<PublicKey, KeyError> {
        let (certificate, _) = Self::read(path)?;
        certificate.public_key(path)
    }

    /// Returns the public key, computed from the secret one if necessary. `path` is the file's, for
    /// the error if it holds no key.
    pub fn public_key(&self, path: &Path) -> Result<PublicKey, KeyError> {
        match (self.public, &self.secret) {
            (Some(public), _) => Ok(public),
            (None, Some(secret)) => public_key(secret),
            (None, None) => Err(KeyError::Malformed { path: path.into(), what: "it holds no key" }),
        }
    }

    /// Reads a file. Returns its certificate, and the file's metadata.
    pub fn read(path: &Path) -> Result<(Self, fs::Metadata), KeyError> {
        let failed = |error: io::Error| KeyError::File { path: path.into(), error };
        let malformed = |what| KeyError::Malformed { path: path.into(), what };
        // To open a pipe would wait for its writer, and block a broker that reads its keys again.
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

    /// Parses the text of a certificate. Lines that are neither a name nor a key are ignored.
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

/// Returns a value without its quotes, if it has any. Text after them is a comment.
fn unquoted(value: &str) -> Result<&str, &'static str> {
    let Some(quote) = value.chars().next().filter(|&first| first == '"' || first == '\'') else { return Ok(value) };
    value[1..].split_once(quote).map(|(inside, _)| inside).ok_or("a quote is not closed")
}

/// Writes a public certificate into a folder, which is created if necessary.
///
/// # Errors
/// If the file exists, or can't be written.
pub fn write_public(path: &Path, name: &str, key: &PublicKey) -> Result<(), KeyError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| KeyError::File { path: folder.into(), error })?;
    }
    create(path, 0o644, &text("Public", "may be shown to anyone", name, &format!("    public-key = \"{key}\"\n")))
}

/// Returns the text of a certificate with these lines of keys.
pub(super) fn text(kind: &str, remark: &str, name: &str, keys: &str) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "#   ZeroMQ CURVE {kind} Certificate, made by giostra keys new; {remark}.\n\n\
         metadata\n    name = \"{name}\"\ncurve\n{keys}"
    ))
}

/// Creates a file with these permissions, never over another file.
pub(super) fn create(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.into() },
        _ => KeyError::File { path: path.into(), error },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}
