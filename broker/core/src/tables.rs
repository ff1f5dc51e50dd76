//! The tables of the core that are more than a collection of the standard library.

pub mod peers;
pub mod pending;
pub mod turns;
pub mod unanswered;
