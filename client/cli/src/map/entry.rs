//! The states of a line: read, unanswered, answered.

use giostra_protocol::Bytes;

use crate::line::Ended;

/// An answer from the journal.
pub struct Known {
    pub hash: u32,
    pub failed: bool,
    /// `None` if it was printed.
    pub ended: Option<Ended>,
}

/// A line that was read.
pub struct Line {
    /// The line's number, counted from 1.
    pub number: u64,
    /// The number of bytes, with the line break.
    pub length: usize,
    /// The text, if it is kept when the line fails.
    pub text: Option<Bytes>,
    /// The number of bytes that are kept of it until its answer is printed.
    pub kept: usize,
    /// The hash for the journal.
    pub hash: u32,
}

impl Line {
    /// Creates a line of this text, without its line break.
    pub fn new(number: u64, text: &Bytes, is_text_kept: bool, hash: u32) -> Self {
        // A copy, because the text would keep its whole block in memory.
        let kept = is_text_kept.then(|| Bytes::copy_from_slice(text));
        Self { number, length: text.len() + 1, kept: kept.as_ref().map_or(0, Bytes::len), text: kept, hash }
    }
}

/// A line that is unanswered.
pub struct Open {
    pub line: Line,
    /// The number of bytes in the request and the text that is kept.
    pub bytes: usize,
    /// The request, if it may be retried.
    pub body: Option<Bytes>,
    /// How often it may be retried.
    pub retries: u32,
}

/// A line that is answered.
pub struct Done {
    pub line: Line,
    pub failed: bool,
    /// `None` if it was printed.
    pub ended: Option<Ended>,
    /// The number of bytes in the answer and the text, as far as they count against the budget.
    pub held: usize,
}
