//! What the programs share: command lines, the log, signals, standard streams, manual pages.

pub mod args;
pub mod lock;
pub mod log;
pub mod manual;
pub mod signals;
pub mod stdio;
