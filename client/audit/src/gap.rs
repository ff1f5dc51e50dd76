//! Reasons why a log does not prove everything.

use std::fmt;
use std::path::PathBuf;

/// A reason why a log does not prove everything. Displays as a sentence.
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
    /// The line before a broker's new file, which it began because the one before was moved or
    /// removed, is not the one that it names: the file and line of the beginning, the time of the line
    /// that is named, and how many lines were skipped.
    Moved(PathBuf, u64, String, u64),
    /// A life, counted from 1, shows no requests and does not say that it would, as with
    /// `--log-level info`.
    NoDetail(u64),
    /// The log has no life at all.
    Nothing,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SKIPPED: &str = "lines up to the next broker's start were skipped";
        match self {
            Self::Beginning(lines) => {
                write!(f, "the first {lines} lines were skipped: the start of their broker is not in the log")
            }
            Self::Missing(file, lines) => write!(f, "{} is missing; {lines} {SKIPPED}", file.display()),
            Self::Lost(lost, lines) => write!(f, "{lost} lines could not be written; {lines} {SKIPPED}"),
            Self::TooLarge(lines) => {
                write!(f, "more than 16 million requests are open at once, too many for the audit; {lines} {SKIPPED}")
            }
            Self::Format(format, lines) => {
                let (format, own) = (format.unwrap_or(1), crate::FORMAT);
                write!(
                    f,
                    "{lines} lines were skipped: the log has format {format}, and this audit reads format {own}; \
                     use the giostra of the version that wrote it"
                )
            }
            Self::Twice(file, line, lines) => {
                let file = file.display();
                write!(f, "a broker's life is there twice, first from {file}:{line} on; {lines} {SKIPPED}")
            }
            Self::Cut(file, line, after) => {
                let file = file.display();
                write!(f, "lines are missing before {file}:{line}, where a broker started after a line of {after}")
            }
            Self::Moved(file, line, after, lines) => {
                let file = file.display();
                write!(
                    f,
                    "lines are missing before {file}:{line}, where a broker went on after a line of {after} in a file \
                     that was moved or removed; {lines} {SKIPPED}"
                )
            }
            Self::NoDetail(life) => {
                write!(f, "life {life} has clients or jobs, but no line of a request: --log-level info leaves them out")
            }
            Self::Nothing => f.write_str("the log has no broker's start (`listening`)"),
        }
    }
}
