//! A worker in a few lines.

use std::error::Error as StdError;
use std::time::Duration;

use giostra_signals as signals;
use giostra_transport::keys::Credentials;
use giostra_transport::shutdown::Shutdown;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Job, Operations, Options, serve};

/// A worker that is being put together: whose requests it computes, and how.
///
/// Whoever has a command line of their own sets what it says; whoever wants that of
/// `giostra-worker` begins with its options:
///
/// ```no_run
/// use giostra_worker::Worker;
/// use giostra_worker_cli::args::Args;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let args = Args::of_process();
///     args.log_to_stderr()?;
///     let shout = |text: String| -> Result<_, String> { Ok(text.to_uppercase()) };
///     Worker::with_options(args.options()?).operation("shout", shout).run()?;
///     Ok(())
/// }
/// ```
#[must_use = "it does nothing until it runs"]
#[derive(Default)]
pub struct Worker {
    options: Options,
    operations: Operations,
}

impl Worker {
    /// A worker of the broker with this backend, such as `tcp://127.0.0.1:5556`. Everything else is
    /// as [`Options::default`] has it.
    pub fn new(broker: impl Into<String>) -> Self {
        Self::with_options(Options { broker: broker.into(), ..Options::default() })
    }

    /// A worker with these options.
    pub fn with_options(options: Options) -> Self {
        Self { options, operations: Operations::new() }
    }

    /// What the broker's log and status call it: one word.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// The pool whose requests it computes.
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.options.pool = pool.into();
        self
    }

    /// How many requests it computes at once, each on a thread of its own. 0 is taken as 1.
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = threads;
        self
    }

    /// The most requests that it holds, computing and waiting; 0: as many as the broker gives.
    pub fn window(mut self, window: u32) -> Self {
        self.options.window = window;
        self
    }

    /// How long it goes on with what is left when it is asked to finish.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// Its keys and the broker's, for a broker that demands keys.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.options.credentials = Some(credentials);
        self
    }

    /// Adds an operation: see [`Operations::with`].
    pub fn operation<A, R, E>(mut self, name: &str, f: impl Fn(A) -> Result<R, E> + Send + Sync + 'static) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.operations = self.operations.with(name, f);
        self
    }

    /// Adds an operation that takes long: it can tell how far it is, and learn that nobody waits
    /// for it any more.
    pub fn long_operation<A, R, E>(
        mut self,
        name: &str,
        f: impl Fn(A, &Job<'_>) -> Result<R, E> + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.operations = self.operations.with_job(name, f);
        self
    }

    /// Works until SIGINT or SIGTERM; then finishes what it has, and leaves. Survives the broker's
    /// restarts.
    ///
    /// These signals, and SIGHUP, come to a thread of their own; in this one and those that compute
    /// they are blocked, and so they would be in programs that an operation starts. It is to
    /// start them by way of [`unmasked`](crate::unmasked): `unmasked(|| command.spawn())`.
    ///
    /// # Errors
    /// If the broker's endpoint makes no sense, or the broker refuses the worker or its key.
    pub fn run(self) -> Result<(), Error> {
        let shutdown = signals::shutdown()?;
        self.run_until(&shutdown)
    }

    /// The same until the shutdown is requested.
    pub fn run_until(self, shutdown: &Shutdown) -> Result<(), Error> {
        serve(&self.options, self.operations, shutdown)
    }
}
