//! The keys that a terminal in raw mode sends, as far as the view uses them.
//!
//! They are not read by crossterm, which loops for ever after the terminal has hung up (`try_read` in
//! its `source/unix/mio.rs`, 0.29).

use std::io::{self, BufRead as _, ErrorKind, stdin};

const ESCAPE: u8 = 0x1b;

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A printable ASCII character.
    Char(char),
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    Tab,
    Enter,
    /// Tab with Shift.
    BackTab,
    Escape,
    /// Ctrl-C, which is no signal in raw mode.
    Interrupt,
}

/// The decoder of keys. It keeps the first bytes of an incomplete key.
#[derive(Debug, Default)]
pub struct Keyboard {
    begun: Vec<u8>,
}

impl Keyboard {
    /// Reads the keys that were pressed; stdin must be readable. An error if the terminal is gone.
    pub fn read(&mut self) -> io::Result<Vec<Key>> {
        let mut stdin = stdin().lock();
        let bytes = stdin.fill_buf()?;
        if bytes.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let count = bytes.len();
        self.begun.extend(bytes);
        stdin.consume(count);
        Ok(self.decode())
    }

    /// Returns whether a key is incomplete.
    pub fn is_waiting(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Ends an incomplete key: it was Escape, or no key at all.
    pub fn give_up(&mut self) -> Vec<Key> {
        let escape = std::mem::take(&mut self.begun) == [ESCAPE];
        escape.then_some(Key::Escape).into_iter().collect()
    }

    /// Returns the complete keys.
    fn decode(&mut self) -> Vec<Key> {
        let mut keys = Vec::new();
        let mut rest = &self.begun[..];
        loop {
            rest = match rest {
                [ESCAPE, b'[' | b'O', sequence @ ..] => {
                    let Some(end) = sequence.iter().position(|byte| (b'@'..=b'~').contains(byte)) else { break };
                    keys.extend(named(&sequence[..end], sequence[end]));
                    &sequence[end + 1..]
                }
                [] | [ESCAPE] => break,
                [ESCAPE, ESCAPE, ..] => {
                    keys.push(Key::Escape);
                    &rest[1..]
                }
                // A key with Alt, which is not used.
                [ESCAPE, _, rest @ ..] => rest,
                [byte, rest @ ..] => {
                    keys.extend(plain(*byte));
                    rest
                }
            };
        }
        self.begun = rest.to_vec();
        keys
    }
}

fn plain(byte: u8) -> Option<Key> {
    match byte {
        0x03 => Some(Key::Interrupt),
        b'\t' => Some(Key::Tab),
        b'\r' | b'\n' => Some(Key::Enter),
        b' '..=b'~' => Some(Key::Char(byte.into())),
        _ => None,
    }
}

/// Returns the key for a control sequence (ECMA-48, and xterm's ctlseqs).
fn named(parameters: &[u8], last: u8) -> Option<Key> {
    match (parameters, last) {
        (_, b'A') => Some(Key::Up),
        (_, b'B') => Some(Key::Down),
        (_, b'C') => Some(Key::Right),
        (_, b'D') => Some(Key::Left),
        (_, b'H') | (b"1" | b"7", b'~') => Some(Key::Home),
        (_, b'F') | (b"4" | b"8", b'~') => Some(Key::End),
        (_, b'Z') => Some(Key::BackTab),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keyboard = Keyboard { begun: bytes.to_vec() };
        let mut keys = keyboard.decode();
        keys.extend(keyboard.give_up());
        keys
    }

    #[test]
    fn keys_are_known_by_what_they_send() {
        assert_eq!(keys(b"q?\t\x03"), [Key::Char('q'), Key::Char('?'), Key::Tab, Key::Interrupt]);
        assert_eq!(keys(b"\x1b[A\x1bOB\x1b[1;5C\x1b[D"), [Key::Up, Key::Down, Key::Right, Key::Left]);
        assert_eq!(keys(b"\x1b[H\x1b[1~\x1b[4~\x1b[Z"), [Key::Home, Key::Home, Key::End, Key::BackTab]);
        assert_eq!(keys(b"\x1b"), [Key::Escape]);
        assert_eq!(keys(b"\x1b\x1b[A"), [Key::Escape, Key::Up]);
    }

    #[test]
    fn what_is_unknown_is_nothing() {
        // A function key, a letter with Alt, an umlaut, the beginning of something.
        assert_eq!(keys(b"\x1b[15~\x1bqa\xc3\xa4\x01\x1b[1;"), [Key::Char('a')]);
        (0..=u8::MAX).for_each(|byte| drop(keys(&[ESCAPE, b'[', byte, byte])));
    }

    #[test]
    fn a_key_may_come_in_pieces() {
        let mut keyboard = Keyboard { begun: b"\x1b".to_vec() };
        assert_eq!((keyboard.decode(), keyboard.is_waiting()), (vec![], true));
        keyboard.begun.push(b'[');
        assert_eq!((keyboard.decode(), keyboard.is_waiting()), (vec![], true));
        keyboard.begun.push(b'A');
        assert_eq!((keyboard.decode(), keyboard.is_waiting()), (vec![Key::Up], false));
    }
}
