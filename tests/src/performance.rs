//! What the performance bench counts with and writes: figures with their spread, the processes' use
//! of the machine, the tables, the plot. What is run, and in which order, is
//! `tests/benches/performance/`.

pub mod figures;
pub mod machine;
pub mod pending;
pub mod plot;
pub mod report;
pub mod usage;

pub use figures::{Series, Unit};
pub use report::{Beside, Goal, Own, Report, Side};
