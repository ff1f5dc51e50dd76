//! Sockets of libzmq with the options that Giostra relies on, CURVE keys, and a connection that is
//! restored when it breaks.
//!
//! There is no policy here: other crates decide what is sent to whom.

pub mod connector;
pub mod descriptors;
pub mod endpoint;
pub mod error;
mod ffi;
pub mod greeting;
pub mod io_loop;
pub mod keys;
pub mod lock;
pub mod monitor;
pub mod service;
pub mod shutdown;
pub mod socket;
pub mod time;
pub mod wake;
mod z85;
