//! What all simulated workers and clients have in common: what requests are about, and what processes
//! may be doing.

use giostra_protocol::{Bytes, Failure, Outcome};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// When it has a result.
    Compute(u64),
    /// When it has none, but an error.
    Fail(u64),
    /// When it kills the worker that computes it.
    Poison(u64),
}

impl Task {
    /// The request's body.
    pub fn body(self) -> Bytes {
        let (kind, number) = match self {
            Self::Compute(number) => (0, number),
            Self::Fail(number) => (1, number),
            Self::Poison(number) => (2, number),
        };
        Bytes::from([&[kind][..], &number.to_be_bytes()].concat())
    }

    /// What a body asks for.
    pub fn of(body: &[u8]) -> Self {
        let number = u64::from_be_bytes(body[1..].try_into().expect("a body of nine bytes"));
        [Self::Compute, Self::Fail, Self::Poison][usize::from(body[0])](number)
    }

    /// How it ends, if it does.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Compute(number) => {
                let result = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
                Some(Outcome::Ok(Bytes::copy_from_slice(&result)))
            }
            Self::Fail(number) => Some(Outcome::Error(Failure::from(format!("{number} has no result")))),
            Self::Poison(_) => None,
        }
    }
}

/// What a worker's process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    Running,
    /// When it does nothing, but its connection stands.
    Frozen,
    Ended,
}
