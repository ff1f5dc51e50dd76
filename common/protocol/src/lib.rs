//! Giostra's protocol: the messages, their limits, and their form on the wire.
//!
//! `docs/protocol.md` describes the same for readers of other languages. There is no socket and no
//! clock here, and nothing is decided: who computes a request, and what is sent again, is up to the
//! broker and its peers.

mod bytes;
pub mod codec;
pub mod compute;
pub mod escape;
mod identity;
mod malformed;
mod message;
pub mod name;
pub mod sparse_queue;

pub use self::bytes::Bytes;
pub use self::identity::Identity;
pub use self::message::*;
