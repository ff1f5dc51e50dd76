//! The broker: a state machine that decides ([`broker`]), and a shell of sockets, clock and log around it ([`server`]).
//!
//! The core is a library so that tests can drive it without either; it is the very code that `giostra-broker` runs.

pub mod args;
pub mod broker;
pub mod caller;
pub mod doors;
pub mod event;
mod held;
pub mod http;
mod limiter;
mod liveness;
mod meter;
mod names;
mod outbox;
mod pending;
mod recent;
mod roster;
pub mod rotation;
mod runs;
pub mod server;
mod tally;
mod window;
