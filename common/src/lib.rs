//! The common parts of the programs: command lines, configuration files, the log, locks, standard
//! streams, manual pages.

pub mod args;
pub mod config;
pub mod log;
pub mod manual;
pub use giostra_signals as signals;
pub use giostra_transport::{lock, service};
pub mod stdio;
