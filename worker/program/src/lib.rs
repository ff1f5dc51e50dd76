//! The parts of the program `giostra-worker`: its command line, the operations that it offers by
//! itself, and any program as a worker.
//!
//! A worker with operations of its own depends on the library `giostra-worker` alone. It depends on
//! this crate, too, if it wants the command line of `giostra-worker` ([`args`]).

pub mod args;
pub mod compute;
pub mod exec;
