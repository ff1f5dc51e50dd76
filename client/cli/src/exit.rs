//! How a command ends, as the shell sees it.

use std::process::ExitCode;

use giostra_common::args::USAGE;

/// The exit status after SIGINT, as a shell reports it.
const INTERRUPTED: u8 = 130;

/// The outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// When it did what was asked, and every result was right.
    Success,
    /// When it could not, or not all of it.
    Failure,
    /// When the command line was wrong, or a file to be read could not be.
    Usage,
    /// When Ctrl-C ended it.
    Interrupted,
}

impl Exit {
    /// Returns `Success` if `condition` holds, `Failure` otherwise.
    pub fn success_if(condition: bool) -> Self {
        if condition { Self::Success } else { Self::Failure }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => Self::SUCCESS,
            Exit::Failure => Self::FAILURE,
            Exit::Usage => Self::from(USAGE),
            Exit::Interrupted => Self::from(INTERRUPTED),
        }
    }
}
