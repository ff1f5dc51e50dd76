//! What is said of a job when it is submitted.

use std::time::Duration;

use giostra_protocol::{JobSpec, Priority};

/// For how long a job is kept after its end unless something else is said: a week.
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What is said of a job when it is submitted: how its submission is recognised, how its requests are
/// computed, and for how long it is kept.
///
/// ```
/// use std::time::Duration;
/// use giostra_client::{JobOptions, Priority};
///
/// let options = JobOptions::default().name("night").retries(3).timeout(Duration::from_secs(600));
/// assert_eq!(options.priority, Priority::Low, "jobs let others go first by default");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOptions {
    /// Makes the submission idempotent: the same key to the same pool gives the same job, however
    /// often it is submitted, and whatever else is said of it then. One word of at most 64 characters;
    /// drawn at random without it.
    pub key: Option<String>,
    /// A name for people: one word, or empty.
    pub name: String,
    /// How urgent its requests are, [`Priority::Low`] by default.
    pub priority: Priority,
    /// The time limit of each attempt at a request, from when a worker is handed it; after that it has
    /// failed with the code `expired`. None by default. Counted in milliseconds.
    pub timeout: Option<Duration>,
    /// How often a request that failed is computed again, after growing pauses, before its error is its
    /// result; 0 by default.
    pub retries: u32,
    /// For how long after its end the job is kept, with its results; a week by default. With `None` it
    /// is kept until it is deleted.
    pub keep: Option<Duration>,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self { key: None, name: String::new(), priority: Priority::Low, timeout: None, retries: 0, keep: Some(KEEP) }
    }
}

impl JobOptions {
    /// Sets [`Self::key`].
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets [`Self::name`].
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets [`Self::priority`].
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets [`Self::timeout`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets [`Self::retries`].
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets [`Self::keep`].
    #[must_use]
    pub fn keep(mut self, keep: Duration) -> Self {
        self.keep = Some(keep);
        self
    }

    /// Keeps the job until it is deleted.
    #[must_use]
    pub fn keep_forever(mut self) -> Self {
        self.keep = None;
        self
    }

    /// Returns the specification of a job in this pool. Without a key it gets a random one.
    pub(crate) fn spec(self, pool: &str) -> JobSpec {
        JobSpec {
            pool: pool.into(),
            key: self.key.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>())),
            name: self.name,
            priority: self.priority,
            timeout_ms: millis(self.timeout),
            retries: self.retries,
            keep_ms: millis(self.keep),
        }
    }
}

/// Returns the milliseconds, rounded up; 0 for none, which no duration becomes.
fn millis(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |some| some.as_nanos().div_ceil(1_000_000).clamp(1, u64::MAX.into()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_another_thing_than_a_very_short_one() {
        let timeouts = [None, Some(Duration::ZERO), Some(Duration::from_micros(1500)), Some(Duration::MAX)];
        assert_eq!(timeouts.map(millis), [0, 1, 2, u64::MAX]);
    }

    #[test]
    fn without_a_key_no_two_submissions_are_the_same_job() {
        let [a, b] = [(), ()].map(|()| JobOptions::default().spec("p"));
        assert_ne!(a.key, b.key);
        assert_eq!((a.keep_ms, a.timeout_ms), (7 * 86_400_000, 0));
        assert_eq!(JobOptions::default().key("run-7").keep_forever().spec("p").key, "run-7");
        assert_eq!(JobOptions::default().keep_forever().spec("p").keep_ms, 0);
    }
}
