//! A worker of Giostra's broker: it registers, computes requests, survives the broker's restarts, and
//! finishes what it holds before it leaves.
//!
//! Operations of one's own take a few lines:
//!
//! ```no_run
//! use giostra_worker::Worker;
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     Worker::new("tcp://127.0.0.1:5556")
//!         .pool("text")
//!         .operation("shout", |text: String| -> Result<_, String> { Ok(text.to_uppercase()) })
//!         .operation("mean", |numbers: Vec<f64>| match numbers.len() {
//!             0 => Err("the mean of nothing"),
//!             n => Ok(numbers.iter().sum::<f64>() / n as f64),
//!         })
//!         .run()?;
//!     Ok(())
//! }
//! ```
//!
//! A package that depends on this one by its path, or from git, needs Giostra's `zmq-sys` in the place
//! of the one that crate `zmq` asks for. Cargo takes that from the workspace's root alone:
//!
//! ```toml
//! [dependencies]
//! giostra-worker = { path = "../giostra/worker" }
//!
//! [patch.crates-io]
//! zmq-sys = { path = "../giostra/common/zmq-sys" }
//! ```
//!
//! A request's body is `[operation, arguments]` in MessagePack; arguments and result are any types
//! that `serde` can read and write. An error or a panic becomes an error reply, and the worker
//! continues. Other bodies are possible with a [`Service`] of one's own.
//!
//! Pings are answered while requests are computed, so a long computation never looks like a dead
//! worker. It can report its progress, and learn that its result is no longer wanted: see
//! [`Worker::long_operation`] and [`Job`].
//!
//! A request may be computed twice, when a worker is lost and another one gets its requests. It is
//! answered once.

mod io;
mod job;
mod operations;
mod options;
mod run_queue;
mod scheduler;
mod session;
mod shared;
mod shared_queue;
mod threads;
mod worker;

/// The parts of a worker without sockets, clock and threads, for simulations.
#[doc(hidden)]
pub mod sans_io {
    pub use crate::run_queue::{Claim, Reply, Report};
    pub use crate::scheduler::{Load, Unable};
    pub use crate::session::{Action, Session};
    pub use crate::shared_queue::SharedQueue;
}

pub use giostra_protocol::{Bytes, Failure, code};
pub use giostra_signals::unmasked;
pub use giostra_transport::connector::Error as ConnectError;
pub use giostra_transport::descriptors::TooFew;
pub use giostra_transport::keys::Credentials;
pub use giostra_transport::shutdown::Shutdown;
pub use io::Error;
pub use job::{Job, OwnedJob};
pub use operations::{Operations, Service, split_request};
pub use options::Options;
pub use worker::{Worker, serve};
