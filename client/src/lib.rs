//! A client of Giostra's broker: submits requests, many at a time, and gets exactly one reply for
//! each.
//!
//! There are three ways to use it. [`Client::compute`] calls one operation, and [`Client::map`] calls
//! it for many arguments; its results come in the order of the arguments, or as they arrive:
//!
//! ```no_run
//! use giostra_client::{Client, Options};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut client = Client::connect(Options::new("tcp://127.0.0.1:5555"))?;
//!     let sum: i64 = client.compute("add", &(1, 2))?;
//!     println!("{sum}");
//!     let numbers = (1..=1_000_000).map(|n| [n]);
//!     for (n, prime) in (1..).zip(client.map::<bool, _>("is_prime", numbers)) {
//!         println!("{n}: {}", prime?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A package that depends on this one by its path, or from git, needs Giostra's `zmq-sys` in the place
//! of the one that crate `zmq` asks for. Cargo takes that from the workspace's root alone:
//!
//! ```toml
//! [dependencies]
//! giostra-client = { path = "../giostra/client" }
//!
//! [patch.crates-io]
//! zmq-sys = { path = "../giostra/common/zmq-sys" }
//! ```
//!
//! A [`SharedClient`] serves many threads or tasks. Its answers can be waited for, or awaited in any
//! runtime; a dropped answer cancels its request. `examples/axum.rs` is a web service built on it.
//!
//! ```no_run
//! # use std::time::Duration;
//! use giostra_client::{CallError, Options, SharedClient};
//!
//! async fn larger(client: &SharedClient, a: i64, b: i64) -> Result<i64, CallError> {
//!     let [a, b] = [a, b].map(|n| client.compute::<i64>("fib", &[n]));
//!     Ok(a.await?.max(b.await?))
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = SharedClient::connect(Options::new("tcp://127.0.0.1:5555"))?;
//!     let slow = client.compute_within::<f64>("sleep", &[60], Duration::from_secs(1));
//!     println!("{}", slow.wait().unwrap_err());
//!     Ok(())
//! }
//! ```
//!
//! [`Client::submit`] takes any bytes as a request, for workers that don't read MessagePack, or for
//! an event loop of one's own (with [`Client::turn`] and [`Client::fd`]):
//!
//! ```no_run
//! use giostra_client::{Client, Options, body};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut client = Client::connect(Options::new("tcp://127.0.0.1:5555"))?;
//!     for n in 1..=1000 {
//!         client.submit(body("is_prime", &[n])?)?;
//!     }
//!     while client.unanswered() > 0 {
//!         let reply = client.next_reply(None)?.expect("without a time limit there is a reply");
//!         println!("{:?} by {}: {:?}", reply.id, reply.trace.worker, reply.outcome);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A client sends all its requests to one pool, that of its [`Options`]: use a client for each pool.
//!
//! If the broker is killed and started again, only time is lost: unanswered requests are sent to the
//! new one. A request may be computed twice, so operations should be idempotent; it is answered once.

#[doc(hidden)]
pub mod budget;
mod client;
mod error;
mod homes;
mod inquiry;
mod job_options;
mod map;
mod options;
#[doc(hidden)]
pub mod reorder;
mod session;
mod shared;
mod submission;
mod typed;

pub use client::{Client, Context, Job, JobResult, Results, ResultsWithFailed, wait_any};
pub use error::{CallError, Error};
pub use giostra_protocol::name::Label;
pub use giostra_protocol::{
    BadJobId, BadPriority, Bytes, Failure, JobId, JobSpec, JobState, JobStatus, Outcome, Priority, Progress, Reply,
    RequestId, Status, Trace, code,
};
pub use giostra_transport::keys::Credentials;
pub use giostra_transport::shutdown::Shutdown;
pub use job_options::JobOptions;
pub use map::{Map, Unordered};
pub use options::Options;
#[doc(hidden)]
pub use session::Record;
pub use shared::{Answer, Asked, Computed, SharedClient, SharedJob};
pub use typed::{body, result};

/// The parts of a client without a socket and a clock, for simulations.
#[doc(hidden)]
pub mod sans_io {
    pub use crate::session::{Link, Session};
}

/// The parts of the broker's [`Status`].
pub mod status {
    pub use giostra_protocol::{
        ClientStatus, EventStatus, History, JobTotals, JobsStatus, LeftOut, LiveJob, LostStatus, Percentiles,
        PoolStatus, PoolTotals, StoreStatus, Totals, WorkerStatus,
    };
}
