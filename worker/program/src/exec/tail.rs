//! The end of a program's stderr, which error replies quote.

use std::fmt;

/// The number of bytes that are kept. With a sentence before them they fit into an error reply.
const MAX_BYTES: usize = 3 << 10;

/// The last [`MAX_BYTES`] bytes that were pushed.
#[derive(Debug, Default)]
pub struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(MAX_BYTES);
        self.bytes.drain(..excess);
        self.cut |= excess > 0;
    }

    /// Removes all bytes.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Writes `: ` and the text without surrounding space; nothing if there is none. Leaves out control
/// characters, which a terminal would obey.
impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String =
            String::from_utf8_lossy(&self.bytes).chars().filter(|&c| !c.is_control() || c == '\n').collect();
        // A byte that is no UTF-8 has become three.
        let start = (text.len().saturating_sub(MAX_BYTES)..).find(|&start| text.is_char_boundary(start)).unwrap_or(0);
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
        tail.push(&vec![b'x'; 2 * MAX_BYTES]);
        tail.push(b"end\n");
        let text = tail.to_string();
        assert!(text.starts_with(": .. xxx") && text.ends_with("xend"), "{text}");
        assert_eq!(text.len(), MAX_BYTES - 1 + 5);
        tail.clear();
        assert_eq!(tail.to_string(), "");
    }

    #[test]
    fn binary_output_stays_within_bounds_and_moves_no_cursor() {
        let mut tail = Tail::default();
        tail.push(&vec![0xff; 2 * MAX_BYTES]);
        assert!(tail.to_string().len() <= MAX_BYTES + 5);
        tail.clear();
        tail.push(b"a\x1b[2J\x07b\n");
        assert_eq!(tail.to_string(), ": a[2Jb");
    }
}
