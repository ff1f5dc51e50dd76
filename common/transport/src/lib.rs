//! Sockets of libzmq with the options that Giostra rests on, CURVE keys, and a connection that is
//! made anew when it breaks.
//!
//! No policy: what is sent to whom is decided elsewhere.

pub mod connector;
pub mod descriptors;
pub mod endpoint;
mod ffi;
pub mod keys;
pub mod lock;
pub mod monitor;
pub mod shutdown;
pub mod socket;
pub mod time;
pub mod wake;
mod z85;
