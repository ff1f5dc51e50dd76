//! The last that a program has said on stderr: what an error reply quotes.

use std::collections::VecDeque;
use std::fmt;

/// How many bytes are kept: with a sentence before them they fit into an error reply.
const KEPT: usize = 3 << 10;

/// The last [`KEPT`] bytes of what was pushed.
#[derive(Debug, Default)]
pub struct Tail {
    bytes: VecDeque<u8>,
    cut: bool,
}

impl Tail {
    /// Adds something.
    pub fn push(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(KEPT)..];
        let over = (self.bytes.len() + last.len()).saturating_sub(KEPT);
        self.cut |= over > 0 || last.len() < bytes.len();
        self.bytes.drain(..over);
        self.bytes.extend(last);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// `: ` and the text, without the space around it; nothing if there is none. What a terminal would
/// obey is left out.
impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text: String = String::from_utf8_lossy(&bytes).chars().filter(|&c| !c.is_control() || c == '\n').collect();
        // A byte that is no UTF-8 has become three.
        let start = (text.len().saturating_sub(KEPT)..).find(|&start| text.is_char_boundary(start)).unwrap_or(0);
        match text[start..].trim() {
            "" => Ok(()),
            text if self.cut || start > 0 => write!(f, ": .. {text}"),
            text => write!(f, ": {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_is_kept_and_what_is_missing_is_shown() {
        let mut tail = Tail::default();
        assert_eq!(tail.to_string(), "");
        tail.push(b" no such file\n");
        assert_eq!(tail.to_string(), ": no such file");
        tail.push(&vec![b'x'; 2 * KEPT]);
        tail.push(b"end\n");
        let told = tail.to_string();
        assert!(told.starts_with(": .. xxx") && told.ends_with("xend"), "{told}");
        assert_eq!(told.len(), KEPT - 1 + 5);
        tail.clear();
        assert_eq!(tail.to_string(), "");
    }

    #[test]
    fn what_is_no_text_stays_within_bounds_and_moves_no_cursor() {
        let mut tail = Tail::default();
        tail.push(&vec![0xff; 2 * KEPT]);
        assert!(tail.to_string().len() <= KEPT + 5);
        tail.clear();
        tail.push(b"a\x1b[2J\x07b\n");
        assert_eq!(tail.to_string(), ": a[2Jb");
    }
}
