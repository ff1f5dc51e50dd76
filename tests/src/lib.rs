//! What the end-to-end tests, the demo and the benches share: real processes on ports that the
//! system picks.

pub mod brokers;
pub mod browser;
pub mod chaos;
pub mod crowd;
pub mod javascript;
pub mod message;
pub mod network;
pub mod pbs;
pub mod performance;
pub mod port;
pub mod process;
pub mod python;
pub mod slurm;
pub mod system;
pub mod terminal;
pub mod trials;
pub mod up;

pub use brokers::Brokers;
pub use browser::Browser;
pub use crowd::Crowd;
pub use network::Network;
pub use pbs::Pbs;
pub use port::Port;
pub use process::Process;
pub use slurm::Slurm;
pub use system::{Batch, Setup, System};
pub use terminal::Terminal;
pub use up::Up;
