//! Names of workers, clients and pools: labels that stand in log lines, so that they have to be one word.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use thiserror::Error;

/// The longest name, in characters.
pub const MAX_NAME: usize = 64;

/// Why something can't be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadName {
    /// When there is none.
    #[error("a name must not be empty")]
    Empty,
    /// When it is longer than [`MAX_NAME`].
    #[error("a name has {MAX_NAME} characters at most")]
    TooLong,
    /// When it would not be one word in a log line.
    #[error("a name must not have spaces or control characters")]
    NotOneWord,
}

/// Whether `name` is one word of at most [`MAX_NAME`] visible characters.
pub fn check(name: &str) -> Result<(), BadName> {
    if name.is_empty() {
        Err(BadName::Empty)
    } else if name.chars().nth(MAX_NAME).is_some() {
        Err(BadName::TooLong)
    } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Err(BadName::NotOneWord)
    } else {
        Ok(())
    }
}

/// The same for the command line: a parser for `clap`.
pub fn parse(name: &str) -> Result<String, BadName> {
    check(name).map(|()| name.into())
}

/// A name that stands in every reply: one of up to 23 bytes is copied without an allocation.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Label(SmolStr);

impl From<&str> for Label {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Deref for Label {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_visible_word() {
        assert_eq!(check("worker-1"), Ok(()));
        assert_eq!(check("più-veloce@host:1"), Ok(()));
        assert_eq!(check(""), Err(BadName::Empty));
        assert_eq!(check(&"x".repeat(MAX_NAME)), Ok(()));
        assert_eq!(check(&"x".repeat(MAX_NAME + 1)), Err(BadName::TooLong));
        for forged in ["a b", "a\nreply worker-1", "a\u{1b}[2J", "a\u{2028}b"] {
            assert_eq!(check(forged), Err(BadName::NotOneWord), "{forged:?}");
        }
    }
}
