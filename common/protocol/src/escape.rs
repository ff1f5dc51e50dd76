//! Escapes for text from other parties, so that a log and a terminal show it as one line, without
//! invisible characters.
//!
//! Characters that change the writing direction or have no width make a line look like another one;
//! a line break makes two lines of it.

use std::borrow::Cow;
use std::fmt::{self, Write};

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory as _};

use crate::name::is_visible;

/// Writes a character. If it is neither a space nor [visible](is_visible), it is escaped as in Rust.
pub fn write_char(out: &mut impl Write, c: char) -> fmt::Result {
    if c == ' ' || is_visible(c) { out.write_char(c) } else { write!(out, "{}", c.escape_default()) }
}

/// Returns whether a text consists of visible ASCII characters and spaces, like almost every line.
pub fn is_plain(text: &str) -> bool {
    // No early exit, so that the compiler can check many bytes at a time.
    !text.bytes().fold(false, |odd, byte| odd | !matches!(byte, b' '..=b'~'))
}

/// Writes a text, each character by [`write_char`].
pub fn write_line(out: &mut impl Write, text: &str) -> fmt::Result {
    if is_plain(text) {
        return out.write_str(text);
    }
    text.chars().try_for_each(|c| write_char(out, c))
}

/// Returns a text as one word, with spaces escaped, too.
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

/// Returns a sentence as one line: line breaks, other controls and separators become spaces, other
/// invisible characters are escaped.
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
    fn nothing_invisible_is_written() {
        let mut line = String::new();
        write_line(&mut line, HIDDEN).unwrap();
        for shown in [line, word(HIDDEN), sentence(HIDDEN).into_owned()] {
            assert!(shown.chars().all(|c| c == ' ' || is_visible(c)), "{shown:?}");
        }
    }

    #[test]
    fn visible_text_is_unchanged() {
        for text in ["", "can't start x: no such file", "größe 労働者 🛠 a=b \\n"] {
            let mut line = String::new();
            write_line(&mut line, text).unwrap();
            assert_eq!((&*line, &*sentence(text)), (text, text));
            assert!(matches!(sentence(text), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn escapes_show_which_character_it_was() {
        let mut line = String::new();
        write_line(&mut line, "a\nb\tc\u{202e}").unwrap();
        assert_eq!(line, r"a\nb\tc\u{202e}");
        assert_eq!(word("a b\n"), r"a\u{20}b\n");
        assert_eq!(sentence("a\nb\u{a0}c\u{1b}[0m\u{200b}"), r"a b c [0m\u{200b}");
    }
}
