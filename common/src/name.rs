//! Names of workers, clients and pools: labels that stand in log lines, so that they have to be one word.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;
use std::{array, fmt};

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

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

/// A name that stands in many messages: copies of it share their text, also those that were received one after the other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Label(Arc<str>);

/// How many names a thread remembers to share.
const REMEMBERED: usize = 8;

thread_local! {
    /// The names this thread received last, and which of them to forget next.
    static RECEIVED: RefCell<([Label; REMEMBERED], usize)> = RefCell::new((array::from_fn(|_| Label::default()), 0));
}

impl Label {
    /// The label of that text, shared with earlier ones if this thread has received it lately.
    pub(crate) fn received(text: &str) -> Self {
        RECEIVED.with_borrow_mut(|(labels, oldest)| {
            if let Some(label) = labels.iter().find(|label| &***label == text) {
                return label.clone();
            }
            let label = Self::from(text);
            labels[*oldest] = label.clone();
            *oldest = (*oldest + 1) % REMEMBERED;
            label
        })
    }
}

impl Default for Label {
    fn default() -> Self {
        Self("".into())
    }
}

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

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LabelVisitor;
        impl Visitor<'_> for LabelVisitor {
            type Value = Label;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Label, E> {
                Ok(Label::received(text))
            }
        }
        deserializer.deserialize_str(LabelVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_received_again_share_their_text() {
        let receive = |text: &str| rmp_serde::from_slice::<Label>(&rmp_serde::to_vec(text).unwrap()).unwrap();
        let first = receive("worker-1");
        assert!(Arc::ptr_eq(&first.0, &receive("worker-1").0));
        for other in 0..2 * REMEMBERED {
            assert_eq!(&*receive(&other.to_string()), other.to_string());
        }
        assert_eq!(first, receive("worker-1"));
    }

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
