//! The entry points: [`Worker`], a builder, and [`serve`].

use std::error::Error as StdError;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use giostra_protocol::MAX_INSTANCE;
use giostra_signals as signals;
use giostra_transport::keys::Credentials;
use giostra_transport::shutdown::Shutdown;
use giostra_transport::{connector, descriptors, service, wake};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::io::Connection;
use crate::session::Session;
use crate::{Error, Job, Operations, Options, Service, threads};

/// Builds a worker: the broker, the pool, the operations.
///
/// A worker that wants the command line of `giostra-worker` takes its options from the package
/// `giostra-worker-cli`:
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
    /// Creates a worker of the broker with this backend, such as `tcp://127.0.0.1:5556`, or of several with
    /// commas between them: see [`Options::broker`]. The other options as in [`Options::default`].
    pub fn new(broker: impl Into<String>) -> Self {
        Self::with_options(Options { broker: broker.into(), ..Options::default() })
    }

    /// Creates a worker with these options.
    pub fn with_options(options: Options) -> Self {
        Self { options, operations: Operations::new() }
    }

    /// Sets the name in the broker's log and status, one word.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// Sets the pool to register in.
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.options.pool = pool.into();
        self
    }

    /// Sets the number of requests to compute at once, each on a thread of its own. 0 is taken as
    /// 1.
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = threads;
        self
    }

    /// Sets the most requests to hold, computing and waiting. 0 leaves that to the broker.
    pub fn window(mut self, window: u32) -> Self {
        self.options.window = window;
        self
    }

    /// Sets how long to finish what is held after a request to shut down.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// Sets the age at which to leave, as after a request to shut down.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.options.lifetime = Some(lifetime);
        self
    }

    /// Sets how long to hold no request before leaving, with a broker or without.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = Some(timeout);
        self
    }

    /// Sets the worker's keys and the broker's public key, for a broker that demands keys.
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

    /// Adds an operation that takes long: through its [`Job`] it reports progress and learns that it
    /// was cancelled.
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

    /// Registers and computes until SIGINT or SIGTERM, then finishes what it holds, and leaves.
    /// Survives the broker's restarts.
    ///
    /// These signals and SIGHUP are delivered to a thread of their own. They are blocked in the
    /// calling thread and in those that compute, and would be in programs that an operation starts:
    /// it starts them by way of [`unmasked`](crate::unmasked), as `unmasked(|| command.spawn())`.
    ///
    /// # Errors
    /// If the broker's endpoint makes no sense, or the broker refuses the worker or its key.
    pub fn run(self) -> Result<(), Error> {
        let shutdown = signals::shutdown()?;
        self.run_until(&shutdown)
    }

    /// Registers and computes until the shutdown is requested, as [`Self::run`] does until a signal.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_until(self, shutdown: &Shutdown) -> Result<(), Error> {
        serve(&self.options, self.operations, shutdown)
    }
}

/// Registers and computes until the shutdown is requested or the broker drains this worker. Then
/// finishes what it holds, and leaves. The calling thread only monitors those that compute.
///
/// ```no_run
/// use giostra_worker::{Operations, Options, Shutdown, serve};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let shutdown = Shutdown::new()?;
///     let asked = shutdown.clone();
///     std::thread::spawn(move || {
///         std::thread::sleep(std::time::Duration::from_secs(60));
///         asked.request();
///     });
///     let operations = Operations::new().with("twice", |n: u64| Ok::<_, String>(2 * n));
///     serve(&Options { pool: "numbers".into(), ..Options::default() }, operations, &shutdown)?;
///     Ok(())
/// }
/// ```
///
/// # Errors
/// If the broker's endpoint makes no sense, or the broker refuses the worker or its key.
pub fn serve<S: Service>(options: &Options, service: S, shutdown: &Shutdown) -> Result<(), Error> {
    let brokers = connector::brokers(&options.broker, options.credentials.as_ref())?;
    descriptors::check_connections(brokers.len())?;
    let brokers: Vec<_> = brokers.iter().map(ToString::to_string).collect();
    let session = Session::new(options, &brokers, &service.operations(), draw_instance(), Instant::now());
    let (waker, alarm) = wake::alarm()?;
    let connection = Connection::open(options, &brokers, session, shutdown, alarm)?;
    log::info!("connecting to {} as {}", options.broker, options.name);
    service::status(&format!("connecting to {}", options.broker));
    let end = threads::run(connection, options.threads.max(1), service, waker);
    // The last lines may still be on their way.
    log::logger().flush();
    end
}

/// Draws a random number from 1 to [`MAX_INSTANCE`], by which the broker knows this worker when it
/// comes back.
fn draw_instance() -> u64 {
    // A hasher's keys are the standard library's only random numbers, and others each time.
    RandomState::new().hash_one(std::process::id()) % (MAX_INSTANCE - 1) + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_workers_of_a_process_are_the_same_one() {
        let drawn: Vec<_> = (0..100).map(|_| draw_instance()).collect();
        assert!(drawn.iter().all(|one| (1..MAX_INSTANCE).contains(one)), "{drawn:?}");
        assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 100);
    }
}
