//! A worker: registers with the broker, computes requests, survives the broker's restart, leaves politely.
//!
//! One's own operations are a few lines:
//!
//! ```no_run
//! use giostra_common::shutdown::Shutdown;
//! use giostra_worker::{Operations, Options, serve};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let operations = Operations::new()
//!         .with("shout", |(text,): (String,)| Ok(text.to_uppercase()))
//!         .with("mean", |numbers: Vec<f64>| match numbers.len() {
//!             0 => Err("the mean of nothing".into()),
//!             n => Ok(numbers.iter().sum::<f64>() / n as f64),
//!         });
//!     let options = Options { pool: "text".into(), ..Options::default() };
//!     serve(&options, operations, &Shutdown::on_signals()?)?;
//!     Ok(())
//! }
//! ```
//!
//! A request's body is `[operation, arguments]` in MessagePack, its result any value: whatever `serde` can read and write.
//! Who wants other bodies implements [`Service`].
//!
//! However long a request is computed, pings are answered meanwhile: a long computation never looks like death.

pub mod args;
mod board;
pub mod compute;
mod crew;
mod hand;
mod job;
mod operations;
mod session;

pub use job::Job;
pub use operations::{Operations, Service};
pub use session::{Error, Options, serve};
