//! Giostra's protocol: the messages, their limits, and their form on the wire.
//!
//! `docs/protocol.md` specifies the same for implementations in other languages. There are no
//! sockets, no clock and no decisions here: the broker and its peers decide who computes a request
//! and what is sent again.

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
