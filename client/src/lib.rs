//! A client: submits requests, many at a time, and gets exactly one reply for each.
//!
//! There are three ways. [`Client::compute`] asks for one thing, and [`Client::map`] for many, in
//! the order of the arguments or as the results come:
//!
//! ```no_run
//! use giostra_client::{Client, Options};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut client = Client::connect(Options::default())?;
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
//! A [`SharedClient`] is for many threads or tasks. What it returns can be waited for, or awaited
//! in any runtime; dropped, it cancels the request:
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
//!     let client = SharedClient::connect(Options::default())?;
//!     let slow = client.compute_within::<f64>("sleep", &[60], Duration::from_secs(1));
//!     println!("{}", slow.wait().unwrap_err());
//!     Ok(())
//! }
//! ```
//!
//! A client has one pool, that of its [`Options`]: who asks several pools has a client for each.
//! And [`Client::submit`] takes any bytes as a request, for workers that want no MessagePack, or
//! for an event loop of one's own:
//!
//! ```no_run
//! use giostra_client::{Client, Options, body};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut client = Client::connect(Options::default())?;
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
//! A broker that is killed and started again costs time, nothing else: what is unanswered is sent
//! to the next one. The operations must bear being computed twice; a reply is given once.

pub mod budget;
mod client;
mod map;
mod options;
pub mod reorder;
mod session;
mod shared;
mod typed;

pub use client::Client;
pub use giostra_protocol::{Bytes, Failure, Outcome, Progress, Reply, RequestId, Status, Trace, code};
pub use giostra_transport::keys::Credentials;
pub use giostra_transport::shutdown::Shutdown;
pub use map::{Map, Unordered};
pub use options::{Error, Options};
pub use shared::{Answer, Computed, SharedClient};
pub use typed::{CallError, body, result};
