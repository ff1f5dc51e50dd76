//! The broker's core: a state machine that decides which worker computes which request.
//!
//! Messages and instants go in; messages and [events](event::Event) come out. It has no socket,
//! clock or log. `giostra-broker` is the shell around it that has them; tests drive it without
//! them.

pub mod broker;
pub mod config;
pub mod event;
mod id_ranges;
pub mod ids;
pub mod peer_info;
pub mod policy;
mod rate_limiter;
mod stats;
pub mod store;
mod tables;

pub use policy::rotation::Rotation;
pub use stats::pool_counters::OTHER_POOLS;
