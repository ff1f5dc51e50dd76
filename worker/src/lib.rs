//! A worker: registers with the broker, computes requests, survives the broker's restart, leaves
//! politely.
//!
//! One's own operations are a few lines:
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
//! A request's body is `[operation, arguments]` in MessagePack, its result any value: whatever
//! `serde` can read and write. An error, and a panic, becomes an error reply; the worker lives on.
//! Who wants other bodies implements [`Service`].
//!
//! However long a request is computed, pings are answered meanwhile: a long computation never looks
//! like death. It can tell how far it is, and learn that nobody waits for it any more: see
//! [`Worker::long_operation`] and [`Job`].
//!
//! An operation may be computed twice, when a worker is lost and another gets what it had; its
//! reply is given once.

mod io;
mod job;
mod operations;
mod options;
mod run_queue;
mod scheduler;
mod session;
mod shared;
mod threads;
mod worker;

pub use giostra_protocol::Failure;
pub use giostra_protocol::code;
pub use giostra_signals::unmasked;
pub use giostra_transport::keys::Credentials;
pub use giostra_transport::shutdown::Shutdown;
pub use io::Error;
pub use job::Job;
pub use operations::{Operations, Service, split_request};
pub use options::Options;
pub use worker::{Worker, serve};
