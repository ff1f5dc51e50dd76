//! The broker's core: a state machine that decides who computes which request.
//!
//! Messages and instants go in, messages and [events](event::Event) come out. It has no socket, no
//! clock and no log: `giostra-broker` is the shell of these around it, and tests drive it without
//! them.

pub mod broker;
pub mod config;
pub mod event;
mod held;
pub mod ids;
mod limiter;
mod liveness;
mod meter;
mod names;
pub mod peer_info;
mod pending;
mod recent;
mod roster;
pub mod rotation;
mod runs;
mod tally;
mod window;

pub use tally::OTHERS;
