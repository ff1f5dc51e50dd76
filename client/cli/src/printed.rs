//! Stdout, with the control characters of peers made harmless.
//!
//! A worker chooses its results and its errors. On a terminal their control characters would move
//! the cursor, change colours or hide a part of the text. So every command prints a peer's text
//! through [`stdout`]. A file or a pipe gets the bytes unchanged.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use giostra_common::stdio::{self, Retrying};

/// Returns stdout. On a terminal, control characters are [`escaped`].
pub fn stdout() -> Printer {
    Printer { out: stdio::stdout(), terminal: io::stdout().is_terminal() }
}

/// The writer that [`stdout`] returns.
pub struct Printer {
    out: Retrying<io::Stdout>,
    terminal: bool,
}

impl Write for Printer {
    /// Writes whole characters. A control character that was split between two calls would not be
    /// recognised.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.terminal {
            return self.out.write(bytes);
        }
        self.out.write_all(&escaped(bytes))?;
        Ok(bytes.len())
    }

    fn write_fmt(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        self.write_all(text.to_string().as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Escapes control characters other than line break and tab as in JSON, such as `\u001b` and `\r`, and
/// those that change the direction of writing, such as `\u202e`.
pub fn escaped(text: &[u8]) -> Cow<'_, [u8]> {
    let mut escaped: Option<Vec<u8>> = None;
    let (mut at, mut copied) = (0, 0);
    while at < text.len() {
        let (length, code) = match text[at..] {
            [b'\n' | b'\t', ..] => (1, None),
            [byte @ (..0x20 | 0x7f), ..] => (1, Some(u16::from(byte))),
            // U+0080 to U+009F, the second set of control characters. Terminals obey them, too.
            [0xc2, byte @ 0x80..=0x9f, ..] => (2, Some(u16::from(byte))),
            // U+202A to U+202E and U+2066 to U+2069: embedded, overridden and isolated directions.
            [0xe2, 0x80, byte @ 0xaa..=0xae, ..] => (3, Some(0x2000 | u16::from(byte & 0x3f))),
            [0xe2, 0x81, byte @ 0xa6..=0xa9, ..] => (3, Some(0x2040 | u16::from(byte & 0x3f))),
            _ => (1, None),
        };
        if let Some(code) = code {
            let out = escaped.get_or_insert_default();
            out.extend_from_slice(&text[copied..at]);
            match code {
                0x0d => out.extend_from_slice(b"\\r"),
                code => out.extend_from_slice(format!("\\u{code:04x}").as_bytes()),
            }
            copied = at + length;
        }
        at += length;
    }
    match escaped {
        None => text.into(),
        Some(mut out) => {
            out.extend_from_slice(&text[copied..]);
            out.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        String::from_utf8(escaped(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn control_characters_are_escaped_and_all_others_are_as_they_were() {
        assert_eq!(shown("a\x1b[31mb\rc\u{b}\x7f\0"), r"a\u001b[31mb\rc\u000b\u007f\u0000");
        assert_eq!(shown("\u{9b}2J\u{85}"), r"\u009b2J\u0085");
        for harmless in ["", "a\tb\n", "\\x1b", "\u{a0}\u{c2}é€𝄞回"] {
            assert!(matches!(escaped(harmless.as_bytes()), Cow::Borrowed(text) if text == harmless.as_bytes()));
        }
    }

    #[test]
    fn escaped_json_is_the_same_json() {
        let json = serde_json::to_string("\x1b[0m \u{9b} \x7f \r\n é").unwrap();
        let shown = shown(&json);
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), "\x1b[0m \u{9b} \x7f \r\n é");
    }

    #[test]
    fn no_text_turns_the_direction_of_writing_on_a_terminal() {
        assert_eq!(shown("\u{202a}\u{202e}\u{2066}\u{2069}x"), r"\u202a\u202e\u2066\u2069x");
        let others = "\u{2029}\u{202f}\u{2065}\u{206a}\u{200d}";
        assert_eq!(shown(others), others);
    }
}
