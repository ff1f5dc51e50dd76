//! The options of a worker.

use std::time::Duration;

use giostra_protocol::{DEFAULT_POOL, name};
use giostra_transport::keys::Credentials;

/// The options of a worker.
#[derive(Clone, Debug)]
pub struct Options {
    /// The endpoint of the broker's backend; or those of several brokers, with commas between them. The
    /// worker registers with each, and serves those that have work with equal shares of its threads and
    /// its window. Of a name with several addresses it tries one after the other: they are one broker's.
    pub broker: String,
    /// The worker's name in the broker's log and status: one word, which others may share.
    pub name: String,
    /// The name of this machine in the broker's status, by which workers are summed up: one word, or
    /// empty.
    pub host: String,
    /// The pool to register in.
    pub pool: String,
    /// The number of requests to compute at once, each on a thread of its own. 0 is taken as 1.
    pub threads: usize,
    /// The most requests to hold, computing and waiting. 0 leaves that to the broker.
    pub window: u32,
    /// How long to finish what is held after a request to shut down.
    pub grace: Duration,
    /// The age at which to leave, as after a request to shut down. `None`: it is not limited.
    pub lifetime: Option<Duration>,
    /// The most by which to leave earlier than that, by chance: workers that were started together then
    /// do not leave together.
    pub lifetime_stagger: Duration,
    /// How long to hold no request before leaving, with a broker or without. `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// The worker's keys and the broker's public key, for a broker that demands keys; of several brokers
    /// one for each, or one for all.
    pub credentials: Option<Credentials>,
}

/// A broker on this host, a name of host and process, one thread, 30 s of grace.
impl Default for Options {
    fn default() -> Self {
        Self {
            broker: "tcp://127.0.0.1:5556".into(),
            name: name::of_process(""),
            host: name::host(),
            pool: DEFAULT_POOL.into(),
            threads: 1,
            window: 0,
            grace: Duration::from_secs(30),
            lifetime: None,
            lifetime_stagger: Duration::ZERO,
            idle_timeout: None,
            credentials: None,
        }
    }
}
