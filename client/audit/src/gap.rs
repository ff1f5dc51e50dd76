//! The parts of the evidence that are missing in a log.

use std::fmt;
use std::path::PathBuf;

/// A reason why a log can't prove everything. Displays as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gap {
    /// The log begins within a broker's life: how many lines were skipped.
    Beginning(u64),
    /// A rotated file is missing: which, and how many lines after it were skipped.
    Missing(PathBuf, u64),
    /// Lines could not be written: how many, and how many after them were skipped.
    Lost(u64, u64),
    /// More requests are open at once than the audit keeps: how many lines after that were skipped.
    TooLarge(u64),
    /// A life is in the log twice, as in a copy of it: where it begins for the first time, and how
    /// many lines of the second time were skipped.
    Twice(PathBuf, u64, u64),
    /// A broker wrote the log in another format than [`FORMAT`](crate::FORMAT): in which (`None`: one
    /// before 2), and how many lines of it were skipped.
    Format(Option<u64>, u64),
    /// The line before a broker's start is not the one that the broker names: the file and line of
    /// the start, and the time of the line that is named. Lines between the two are missing.
    Cut(PathBuf, u64, String),
    /// A life, counted from 1, shows no requests and does not say that it would, as with
    /// `--log-level info`.
    NoDetail(u64),
    /// The log has no life at all.
    Nothing,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning(lines) => {
                write!(
                    f,
                    "the first {lines} lines are of a broker whose beginning is not in the log; they were skipped"
                )
            }
            Self::Missing(file, lines) => {
                write!(f, "{} is missing; the {lines} lines up to the next broker's start were skipped", file.display())
            }
            Self::Lost(lost, lines) => {
                write!(
                    f,
                    "{lost} lines could not be written; the {lines} lines up to the next broker's start were skipped"
                )
            }
            Self::TooLarge(lines) => {
                write!(
                    f,
                    "more than 16 million requests are open at once, too many to be kept; the {lines} lines up to the \
                     next broker's start were skipped"
                )
            }
            Self::Format(format, lines) => {
                let format = format.map_or_else(|| "1".to_string(), |format| format.to_string());
                write!(
                    f,
                    "a broker of another version wrote the log in format {format}, and this audit reads format {}; its \
                     {lines} lines were skipped: audit them with the giostra of that version",
                    crate::FORMAT
                )
            }
            Self::Twice(file, line, lines) => {
                write!(
                    f,
                    "a broker's life is there twice, for the first time from {}:{line} on; the {lines} lines that follow its \
                     start the second time were skipped: give each file once, and no copies",
                    file.display()
                )
            }
            Self::Cut(file, line, after) => {
                write!(
                    f,
                    "lines are missing before {}:{line}: the broker that starts there went on behind a line of {after}, which \
                     is not the one that stands there",
                    file.display()
                )
            }
            Self::NoDetail(life) => {
                write!(f, "life {life} has clients, but no line of a request: --log-level info leaves them out")
            }
            Self::Nothing => f.write_str("no broker's start (`listening`) is in it"),
        }
    }
}
