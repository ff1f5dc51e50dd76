//! Why a request has no result: a code for programs, a message for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest code and the longest message of a [`Failure`] that are passed on, in bytes.
pub const MAX_FAILURE: usize = 4096;

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs: one of the words in [`code`], or a worker's own.
    pub code: String,
    /// For people: what happened, and what to do about it.
    pub message: String,
}

impl Failure {
    /// Creates a failure from a code, usually one of the words in [`code`], and a message.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    /// Returns a worker's failure as it is passed on to the client: shortened, and with the code
    /// `failed` in place of a reserved one ([`code::is_reserved`]).
    #[must_use]
    pub fn of_worker(mut self) -> Self {
        if code::is_reserved(&self.code) {
            self.code = code::FAILED.into();
        }
        self.shortened()
    }

    /// Cuts the code and the message at [`MAX_FAILURE`] bytes: they may quote a whole request.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        for text in [&mut self.code, &mut self.message] {
            if text.len() > MAX_FAILURE {
                let end = (0..=MAX_FAILURE).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
                text.truncate(end);
                text.push_str(" ..");
            }
        }
        self
    }
}

impl std::error::Error for Failure {}

/// The failure of an operation, from its message.
impl<S: Into<String>> From<S> for Failure {
    fn from(message: S) -> Self {
        Self::new(code::FAILED, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

pub mod code {
    //! The words of [`Failure::code`](super::Failure::code), and who uses each.

    /// By a worker: it could not understand the request, for its operation or its arguments.
    pub const INVALID: &str = "invalid";
    /// By a worker: the operation failed, such as by a division by zero or a panic.
    pub const FAILED: &str = "failed";
    /// By the broker: the request's time limit passed.
    pub const EXPIRED: &str = "expired";
    /// By the broker: too many workers were lost while they held the request.
    pub const POISON: &str = "poison";
    /// By the client's own side: the request should not wait for a worker, and its pool had none.
    pub const NO_WORKER: &str = "no-worker";
    /// By a worker to the broker: the request was cancelled. No client waits for it any more.
    pub const CANCELLED: &str = "cancelled";
    /// By an operation to its own worker: it can compute nothing for now. The worker hands the
    /// request back to the broker.
    pub const UNABLE: &str = "unable";
    /// By the client's own side: there was no broker to ask.
    pub const NO_BROKER: &str = "no-broker";
    /// By the client's own side: the broker did not accept the message.
    pub const REFUSED: &str = "refused";
    /// By the client's own side: the client was stopped.
    pub const INTERRUPTED: &str = "interrupted";

    /// Returns whether a worker may not send this code for a request that a client waits for: the
    /// client would take it for the broker's, or for its own side's.
    pub fn is_reserved(code: &str) -> bool {
        matches!(code, EXPIRED | POISON | NO_WORKER | CANCELLED | NO_BROKER | REFUSED | INTERRUPTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_quotes_a_whole_request_is_shortened() {
        let long = Failure::new("failed", "é".repeat(MAX_FAILURE)).shortened();
        assert!(long.message.len() <= MAX_FAILURE + 3 && long.message.ends_with("é .."));
        assert_eq!(Failure::from("short").shortened(), Failure::from("short"));
    }

    #[test]
    fn a_worker_can_not_say_what_only_the_broker_or_the_client_says() {
        for code in ["expired", "poison", "no-worker", "cancelled", "no-broker", "refused", "interrupted"] {
            assert_eq!(Failure::new(code, "because").of_worker(), Failure::new(code::FAILED, "because"), "{code}");
        }
        for own in [code::FAILED, code::INVALID, "no-luck", "Expired"] {
            assert_eq!(Failure::new(own, "because").of_worker(), Failure::new(own, "because"));
        }
        assert!(Failure::new("own", "é".repeat(MAX_FAILURE)).of_worker().message.ends_with("é .."));
    }
}
