//! The broker's shell: the sockets, the clock, access control, the log and the live page around
//! [`giostra_core`], which decides.

pub mod access;
pub mod args;
pub mod http;
mod outbox;
pub mod server;
