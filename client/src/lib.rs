//! A client: submits requests, many at a time, and gets exactly one reply for each.
//!
//! ```no_run
//! use giostra_client::{Client, Options};
//! use giostra_common::compute::{Call, Value};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut client = Client::connect(Options::default())?;
//!     for n in 1..=1000 {
//!         let call = Call { operation: "is_prime".into(), arguments: vec![Value::Int(n)] };
//!         client.submit(call.to_body())?;
//!     }
//!     while client.unanswered() > 0 {
//!         let reply = client.next_reply(None)?.expect("without a time limit there is a reply");
//!         println!("{:?} by {}: {:?}", reply.id, reply.trace.worker, reply.outcome);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A broker that is killed and started again costs time, nothing else: what is unanswered is sent to the next one. The
//! operations must bear being computed twice; a reply is given once.

pub mod audit;
mod client;
mod session;

pub use client::{Client, Error, Options};
