//! The messages, as `docs/protocol.md` specifies them.
//!
//! Each message is a variant of an enum, encoded by `rmp-serde` in its compact form:
//! `{"Submit": ["compute", 0, [[1, body]]]}`, or just `"Inspect"` for a message without fields. The
//! enums that carry bodies are generic over the body type: [`Bytes`] in memory, and
//! [`crate::codec::Packed`] on the wire. [`crate::codec`] converts between the two.

mod client;
mod failure;
mod job;
mod status;
mod worker;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Bytes;
use crate::name::Label;

pub use self::client::{FromClient, ToClient};
pub use self::failure::{Failure, MAX_FAILURE, code};
pub use self::job::*;
pub use self::status::*;
pub use self::worker::{FromWorker, MAX_INSTANCE, MAX_THREADS, Registration, ToWorker};

/// The version of this protocol. Both sides send theirs first; a peer with another version is
/// refused.
pub const VERSION: u32 = 4;

/// The pool of a request or a worker that names none.
pub const DEFAULT_POOL: &str = "compute";

/// The largest number of requests or replies in one message. A longer one is refused.
pub const MAX_BATCH: usize = 65_536;

/// The largest frame that is accepted, in bytes. Each attachment is a frame.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The number of a request, chosen by its client, unique among the client's unanswered requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// The number of one attempt at a request, assigned by the broker and never reused.
///
/// Tickets increase by one with each dispatch, from a random number on that each start of a broker
/// draws: a reply that was meant for an earlier broker process matches no ticket of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// How urgent a request is, among those that wait in the same pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Priority {
    /// When it goes before all others.
    High,
    /// When it goes before those that can wait: what clients' requests are unless they say otherwise.
    #[default]
    Normal,
    /// When it can wait: what jobs are unless they say otherwise.
    Low,
}

impl Priority {
    /// All priorities, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// Returns its name on the wire: `High`, `Normal`, `Low`.
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::High => "High",
            Self::Normal => "Normal",
            Self::Low => "Low",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        })
    }
}

/// Why a text is not a priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a priority is high, normal or low")]
pub struct BadPriority;

impl FromStr for Priority {
    type Err = BadPriority;

    fn from_str(text: &str) -> Result<Self, BadPriority> {
        Self::ALL.into_iter().find(|priority| priority.to_string() == text).ok_or(BadPriority)
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<B = Bytes> {
    /// When a worker computed a result: its body.
    Ok(B),
    /// When there is no result.
    Error(Failure),
}

/// The progress of a request that is being computed, in units that its operation chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all; 0 if that is unknown.
    pub total: u64,
}

/// What the broker measured of a request, sent with its reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The worker that replied; empty if none did.
    pub worker: Label,
    /// The number of workers that the request was dispatched to, including the one that replied.
    pub attempts: u32,
    /// Microseconds from its acceptance to its last dispatch; to its end if it was never dispatched.
    pub waited_us: u64,
    /// Microseconds from its last dispatch to its reply, including the network both ways.
    pub took_us: u64,
}

/// The reply to one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply<B = Bytes> {
    /// The request that is answered.
    pub id: RequestId,
    /// How the request ended.
    pub outcome: Outcome<B>,
    /// What the broker measured of it.
    pub trace: Trace,
}
