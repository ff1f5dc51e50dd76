//! Text that others chose, as a log and a terminal can bear it: in one line, and with nothing in it
//! that can't be seen.
//!
//! What turns the direction of writing, or has no width, makes a line look like another one; a line
//! break makes two.

use std::borrow::Cow;
use std::fmt::{self, Write};

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory as _};

use crate::name::is_visible;

/// Writes a character; escaped, as in Rust, if it is neither a space nor [visible](is_visible).
pub fn write_char(out: &mut impl Write, c: char) -> fmt::Result {
    if c == ' ' || is_visible(c) { out.write_char(c) } else { write!(out, "{}", c.escape_default()) }
}

/// Whether there is nothing but spaces and what is visible in ASCII, as in almost every line.
pub fn is_plain(text: &str) -> bool {
    // To the end in any case: so it takes many bytes at a time.
    !text.bytes().fold(false, |odd, byte| odd | !matches!(byte, b' '..=b'~'))
}

/// Writes a text, with [`write_char`].
pub fn write_line(out: &mut impl Write, text: &str) -> fmt::Result {
    if is_plain(text) {
        return out.write_str(text);
    }
    text.chars().try_for_each(|c| write_char(out, c))
}

/// The text as one word: with its spaces escaped, too.
pub fn word(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' ' => word.push_str("\\u{20}"),
            c => write_char(&mut word, c).expect("a String takes any text"),
        }
    }
    word
}

/// A sentence in one line: line breaks, other controls and separators are spaces, what else can't
/// be seen is escaped.
pub fn sentence(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c == ' ' || is_visible(c)) {
        return text.into();
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        let separates = c.is_control() || c.general_category_group() == GeneralCategoryGroup::Separator;
        write_char(&mut line, if separates { ' ' } else { c }).expect("a String takes any text");
    }
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HIDDEN: &str = "\u{202e}\u{2066}\u{200b}\u{ad}\u{feff}\u{2028}\u{85}\u{1b}\n\r\t\0\u{7f}";

    #[test]
    fn nothing_that_can_not_be_seen_is_shown() {
        let mut line = String::new();
        write_line(&mut line, HIDDEN).unwrap();
        for shown in [line, word(HIDDEN), sentence(HIDDEN).into_owned()] {
            assert!(shown.chars().all(|c| c == ' ' || is_visible(c)), "{shown:?}");
        }
    }

    #[test]
    fn a_text_that_can_be_seen_is_as_it_was() {
        for text in ["", "can't start x: no such file", "größe 労働者 🛠 a=b \\n"] {
            let mut line = String::new();
            write_line(&mut line, text).unwrap();
            assert_eq!((&*line, &*sentence(text)), (text, text));
            assert!(matches!(sentence(text), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn it_is_told_what_was_there() {
        let mut line = String::new();
        write_line(&mut line, "a\nb\tc\u{202e}").unwrap();
        assert_eq!(line, r"a\nb\tc\u{202e}");
        assert_eq!(word("a b\n"), r"a\u{20}b\n");
        assert_eq!(sentence("a\nb\u{a0}c\u{1b}[0m\u{200b}"), r"a b c [0m\u{200b}");
    }
}
