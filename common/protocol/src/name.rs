//! Names of workers, clients and pools. They appear in log lines, so each has to be one word.

use std::fmt;
use std::ops::Deref;

use nix::unistd::gethostname;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use thiserror::Error;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// The longest name, in characters.
pub const MAX_NAME: usize = 64;

/// The longest name, in bytes: [`MAX_NAME`] letters of two bytes, or fewer longer ones.
pub const MAX_NAME_BYTES: usize = 128;

/// Why a text can't be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadName {
    /// When it is empty.
    #[error("a name must not be empty")]
    Empty,
    /// When it is longer than [`MAX_NAME`] or [`MAX_NAME_BYTES`].
    #[error("a name has {MAX_NAME} characters and {MAX_NAME_BYTES} bytes at most")]
    TooLong,
    /// When it has characters that split or disguise a word in a log line.
    #[error("a name must not have spaces, `=`, control characters or characters that can't be seen")]
    NotOneWord,
}

/// Checks that `name` is one word of at most [`MAX_NAME`] visible characters without `=`.
///
/// # Errors
/// If it is not.
pub fn check(name: &str) -> Result<(), BadName> {
    if name.is_empty() {
        Err(BadName::Empty)
    } else if name.len() > MAX_NAME_BYTES || name.chars().nth(MAX_NAME).is_some() {
        Err(BadName::TooLong)
    } else if !name.chars().all(fits) {
        Err(BadName::NotOneWord)
    } else {
        Ok(())
    }
}

/// Returns whether a name may contain a character: a [visible](is_visible) one except `=`, with
/// which a name could look like a field of a log line, such as `key=..`.
pub fn fits(c: char) -> bool {
    is_visible(c) && c != '='
}

/// Returns whether a character is visible: a letter, mark, number, punctuation or symbol of Unicode
/// that is not [default-ignorable][ignorable].
///
/// That excludes spaces, controls, unassigned characters, and those that change the writing
/// direction or have no width. With these, two names or two log lines could look alike.
///
/// [ignorable]: https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point
pub fn is_visible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_graphic();
    }
    let group = c.general_category_group();
    !matches!(group, GeneralCategoryGroup::Separator | GeneralCategoryGroup::Other) && !is_ignorable(c)
}

/// Returns whether a letter or a mark is default-ignorable. All other such characters have the
/// categories Format or Unassigned.
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Parses a name, for `clap`.
///
/// # Errors
/// Those of [`check`].
pub fn parse(name: &str) -> Result<String, BadName> {
    check(name).map(|()| name.into())
}

/// Returns the default name of this process: `prefix`, host and process id, such as
/// `render7-4711`. The host distinguishes containers, in which each program is process 1.
///
/// `prefix` has to be short and ASCII. The name passes [`check`] for any host name, and leaves room
/// for a `-` and four digits.
pub fn of_process(prefix: &str) -> String {
    of_host(prefix, &host(), std::process::id())
}

/// Returns this host's name: at most [`MAX_NAME`] ASCII letters, digits, `.`, `_` and `-`. Empty if
/// the host has none.
pub fn host() -> String {
    plain(&gethostname().unwrap_or_default().to_string_lossy())
}

fn plain(host: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    host.chars().map(plain).take(MAX_NAME).collect()
}

/// Checks what a worker calls its host: a name, or nothing if that is unknown.
///
/// # Errors
/// Those of [`check`].
pub fn check_host(host: &str) -> Result<(), BadName> {
    if host.is_empty() { Ok(()) } else { check(host) }
}

fn of_host(prefix: &str, host: &str, process: u32) -> String {
    let host = if host.is_empty() { "host" } else { host };
    let room = (MAX_NAME - "-4294967295-9999".len()).saturating_sub(prefix.len());
    // The first label of a long name is more specific than its domain, and pods differ at its end.
    let host = if host.len() > room { host.split('.').find(|label| !label.is_empty()).unwrap_or("host") } else { host };
    format!("{prefix}{}-{process}", &host[host.len().saturating_sub(room)..])
}

/// A name in each reply: cloned without an allocation up to 23 bytes.
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
    fn a_name_is_one_visible_word_that_is_no_field() {
        assert_eq!(check("worker-1"), Ok(()));
        assert_eq!(check("più-veloce@host:1"), Ok(()));
        assert_eq!(check(""), Err(BadName::Empty));
        assert_eq!(check(&"x".repeat(MAX_NAME)), Ok(()));
        assert_eq!(check(&"x".repeat(MAX_NAME + 1)), Err(BadName::TooLong));
        assert_eq!(check(&"é".repeat(MAX_NAME)), Ok(()));
        assert_eq!(check(&"🎠".repeat(MAX_NAME_BYTES / 4 + 1)), Err(BadName::TooLong));
        for forged in ["a b", "key=a", "=", "a\nreply worker-1", "a\u{1b}[2J", "a\u{2028}b"] {
            assert_eq!(check(forged), Err(BadName::NotOneWord), "{forged:?}");
        }
    }

    #[test]
    fn the_name_of_a_process_is_a_name_whatever_its_host_is_called() {
        assert_eq!(of_host("", "render7", 1), "render7-1");
        assert_eq!(of_host("giostra-send-", "d34db33f0001", 1), "giostra-send-d34db33f0001-1");
        assert_eq!(of_host("", "", 7), "host-7");
        let pod = format!("{}-x7k2p", "deployment".repeat(6));
        let long = [pod.clone(), format!("node1.{}", "x.".repeat(60)), "x".repeat(64), ".".repeat(64)];
        for host in long {
            for prefix in ["", "giostra-completions-"] {
                let name = of_host(prefix, &host, u32::MAX);
                assert_eq!(check(&format!("{name}-9999")), Ok(()), "{name}");
            }
        }
        assert!(of_host("", &pod, 1).ends_with("-x7k2p-1"));
        assert_eq!(of_host("", &format!("node1.{}", "x.".repeat(60)), 1), "node1-1");
        let own = of_process("");
        assert!(check(&own).is_ok() && own.ends_with(&format!("-{}", std::process::id())), "{own}");
    }

    #[test]
    fn a_hosts_name_is_a_name_or_nothing() {
        assert_eq!(plain("render 7=\u{1b}[2J\n"), "render-7---2J-");
        for host in ["", &*plain(&"node.".repeat(50)), &*host()] {
            assert_eq!(check_host(host), Ok(()), "{host}");
        }
        assert_eq!(check_host("a b"), Err(BadName::NotOneWord));
        assert_eq!(check_host(&"x".repeat(MAX_NAME + 1)), Err(BadName::TooLong));
    }

    #[test]
    fn a_name_has_no_character_that_cannot_be_seen() {
        let (zero_width, direction) =
            ("\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{ad}", "\u{202e}\u{2066}\u{200f}\u{61c}");
        let ignorable = "\u{34f}\u{115f}\u{17b4}\u{180e}\u{3164}\u{fe0f}\u{ffa0}\u{e0041}\u{e0100}";
        let unassigned = "\u{378}\u{2065}\u{fff0}\u{e000}\u{10ffff}";
        for c in [zero_width, direction, ignorable, unassigned, "\u{a0}\u{3000}\u{85}"].concat().chars() {
            assert_eq!(check(&format!("worker{c}1")), Err(BadName::NotOneWord), "{c:?}");
        }
        // Letters of all scripts remain valid.
        for name in ["größe", "e\u{301}", "労働者", "работник", "עובד", "عامل", "श्रमिक", "🛠", "a·b", "1/2"]
        {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }
}
