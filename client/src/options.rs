//! The settings of a client.

use std::time::Duration;

use giostra_protocol::{DEFAULT_POOL, Priority, name};
use giostra_transport::keys::Credentials;
use giostra_transport::shutdown::Shutdown;

/// The settings of a client: the broker's address, and what differs from the defaults.
///
/// ```
/// use std::time::Duration;
/// use giostra_client::Options;
///
/// let options = Options::new("tcp://127.0.0.1:5555").pool("text").broker_timeout(Duration::from_secs(60));
/// assert!(options.wait, "requests wait for a worker by default");
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The endpoint of the broker's frontend, `tcp://127.0.0.1:5555` by default; or those of several
    /// brokers, with commas between them. The first one that answers is used. When its connection breaks,
    /// or it answers no more, the client goes on to the next, with what is unanswered. The same holds for
    /// the addresses of a name that has several. Jobs live at one broker: a client of several is refused
    /// what it asks about them.
    pub broker: String,
    /// The client's name in the broker's log and status: one word. By default it is made of the
    /// host's name and the process id.
    pub name: String,
    /// The pool that all requests go to, `compute` by default.
    pub pool: String,
    /// How urgent requests are among those that wait in the same pool, [`Priority::Normal`] by
    /// default. Jobs have a priority of their own.
    pub priority: Priority,
    /// Whether a request waits for a worker if its pool has none when the broker receives it, as it
    /// does by default. Otherwise it fails with the code `no-worker`.
    pub wait: bool,
    /// How long the client waits for a broker, at the start or after a lost connection, before
    /// requests fail with the code `no-broker`; 10 s by default.
    pub broker_timeout: Duration,
    /// The client's keys and the broker's public key, for a broker that demands keys; of several brokers
    /// one for each, or one for all.
    pub credentials: Option<Credentials>,
    /// Ends every wait with [`Error::Interrupted`](crate::Error::Interrupted) once it is requested.
    pub shutdown: Option<Shutdown>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            broker: "tcp://127.0.0.1:5555".into(),
            name: name::of_process(""),
            pool: DEFAULT_POOL.into(),
            priority: Priority::default(),
            wait: true,
            broker_timeout: Duration::from_secs(10),
            credentials: None,
            shutdown: None,
        }
    }
}

impl Options {
    /// The default settings for the broker with this frontend.
    pub fn new(broker: impl Into<String>) -> Self {
        Self { broker: broker.into(), ..Self::default() }
    }

    /// Sets [`Self::name`].
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets [`Self::pool`].
    #[must_use]
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = pool.into();
        self
    }

    /// Sets [`Self::priority`].
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets [`Self::wait`].
    #[must_use]
    pub fn wait(mut self, wait: bool) -> Self {
        self.wait = wait;
        self
    }

    /// Sets [`Self::broker_timeout`].
    #[must_use]
    pub fn broker_timeout(mut self, timeout: Duration) -> Self {
        self.broker_timeout = timeout;
        self
    }

    /// Sets [`Self::credentials`].
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Sets [`Self::shutdown`].
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = Some(shutdown);
        self
    }
}
