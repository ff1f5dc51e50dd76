//! Decisions with an arithmetic of their own: whose turn it is, how much a worker is handed, when
//! it counts as dead.

pub mod liveness;
pub mod rotation;
pub mod window;
