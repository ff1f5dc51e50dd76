//! A broker in one's own process, for tests and for programs that bring their broker along:
//!
//! ```
//! use giostra_broker::{Broker, Options};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let broker = Broker::start(Options::default())?;
//!     println!("clients connect to {}, workers to {}", broker.frontend(), broker.backend());
//!     Ok(())
//! } // Dropped, it stops, and frees its ports.
//! ```
//!
//! Several run side by side, each on ports that the system picks. `examples/in_process.rs` has a
//! worker and a client besides.
//!
//! The crate is also the program `giostra-broker`. This part of it is the shell: the sockets, the
//! clock, access control, the log and the live page around [`giostra_core`], which decides.
//!
//! Without its default features it compiles neither the command line (`program`) nor the live page
//! and metrics (`http`) nor durable jobs (`store`).

mod access;
mod broker;
mod error;
#[cfg(feature = "http")]
mod http;
mod options;
mod outbox;
#[cfg(feature = "program")]
#[doc(hidden)]
pub mod program;
mod server;

pub use broker::Broker;
pub use error::{AllowError, Error, Side};
pub use giostra_core::config::Settings;
pub use giostra_core::policy::rotation::Rotation;
pub use giostra_transport::descriptors::TooFew;
pub use giostra_transport::endpoint::{BadEndpoint, Endpoint};
pub use giostra_transport::keys::{KeyError, KeyPair, PublicKey, SecretKey};
#[cfg(feature = "http")]
#[doc(hidden)]
pub use http::page::check_address;
pub use options::{Keys, Options};
pub use server::Stopped;
