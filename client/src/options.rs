//! The settings of a client.

use std::cmp::Reverse;
use std::time::Duration;

use giostra_protocol::{DEFAULT_POOL, Priority, name};
use giostra_transport::endpoint::Endpoint;
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
    /// the addresses of a name that has several. A job lives at one broker, its home, and is asked about
    /// there.
    pub broker: String,
    /// Whether several brokers are tried in an order that follows from the client's name, so that many
    /// clients are spread over all of them; by default in the order of the list.
    pub spread: bool,
    /// Whether the client goes back to a broker that is tried before the one in use, once it is there
    /// again and nothing is under way. An idle client looks for it every five seconds, and less often
    /// each time that it has gone back. By default a client stays where it is.
    pub return_to_first: bool,
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
            spread: false,
            return_to_first: false,
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

    /// Sets [`Self::spread`].
    #[must_use]
    pub fn spread(mut self, spread: bool) -> Self {
        self.spread = spread;
        self
    }

    /// Sets [`Self::return_to_first`].
    #[must_use]
    pub fn return_to_first(mut self, returns: bool) -> Self {
        self.return_to_first = returns;
        self
    }

    /// The brokers in the order in which they are tried, and the keys in the same order.
    pub(crate) fn in_order(&self) -> (String, Option<Credentials>) {
        let brokers: Vec<_> = self.broker.split(',').map(str::trim).collect();
        let (mut order, mut credentials) = ((0..brokers.len()).collect::<Vec<_>>(), self.credentials.clone());
        if self.spread {
            order.sort_by_key(|&place| Reverse(weight(&self.name, &canonical(brokers[place]))));
        }
        if let Some(Credentials { brokers: keys, .. }) = &mut credentials
            && keys.len() == brokers.len()
        {
            *keys = order.iter().map(|&place| keys[place]).collect();
        }
        (order.iter().map(|&place| brokers[place]).collect::<Vec<_>>().join(","), credentials)
    }

    /// Returns the settings of a client of each broker by itself, in the order of the list, each with its
    /// own key.
    pub fn each(&self) -> Vec<Self> {
        let brokers: Vec<_> = self.broker.split(',').map(str::trim).collect();
        let alone = |(place, &broker): (usize, &&str)| {
            let mut one = Self { broker: broker.into(), spread: false, ..self.clone() };
            if let Some(Credentials { brokers: keys, .. }) = &mut one.credentials
                && keys.len() == brokers.len()
            {
                *keys = vec![keys[place]];
            }
            one
        };
        brokers.iter().enumerate().map(alone).collect()
    }

    /// The place in the list of the broker that jobs with this key are submitted to: the same for the
    /// same brokers, in whatever order they are listed, and with or without `tcp://`. A name and its
    /// address are two.
    pub(crate) fn place_of(&self, key: &str) -> usize {
        let brokers = self.broker.split(',').map(canonical).enumerate();
        brokers.max_by_key(|(_, broker)| weight(key, broker)).map_or(0, |(place, _)| place)
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

/// Returns the only way to write an endpoint.
pub(crate) fn canonical(broker: &str) -> String {
    Endpoint::to_connect(broker.trim()).map_or_else(|_| broker.trim().into(), |endpoint| endpoint.to_string())
}

/// The weight of a broker for a name: the heaviest is its first (rendezvous hashing, Thaler and
/// Ravishankar 1998), so that one broker more or less moves no other names than it must. By FNV-1a, whose
/// last steps are followed by the finisher of `MurmurHash3`, since names often differ in their last
/// letters alone.
fn weight(name: &str, broker: &str) -> u64 {
    let bytes = name.bytes().chain([0]).chain(broker.bytes());
    let mut hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use giostra_transport::keys::KeyPair;

    use super::*;

    #[test]
    fn clients_are_spread_over_all_brokers_and_keep_theirs_when_another_one_goes() {
        let of = |broker: &str, name: &str| Options::new(broker).spread(true).name(name).in_order().0;
        let first = |list: String| list.split(',').next().unwrap_or_default().to_string();
        let mut counts = [0; 3];
        for number in 0..3000 {
            let name = format!("host-{number}");
            let all = first(of("a,b,c", &name));
            counts[["a", "b", "c"].iter().position(|one| *one == all).unwrap()] += 1;
            let fewer = first(of("a,b", &name));
            assert!(all == "c" || fewer == all, "{name}: {all}, then {fewer}");
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_key_of_a_job_has_its_broker_whatever_the_order_of_the_list() {
        let place = |list: &str, key: &str| list.split(',').nth(Options::new(list).place_of(key)).unwrap().to_string();
        let mut counts = [0; 3];
        for number in 0..3000 {
            let key = format!("night-{number}");
            let home = place("a,b,c", &key);
            counts[["a", "b", "c"].iter().position(|one| *one == home).unwrap()] += 1;
            assert_eq!(place("c,a,b", &key), home);
            assert_eq!(place("tcp://c:1,tcp://a:1", &key), format!("tcp://{}", place("a:1, c:1", &key).trim()));
            assert!(home == "c" || place("a,b", &key) == home);
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn keys_stay_with_their_brokers() {
        let [own, a, b] = [(); 3].map(|()| KeyPair::generate().unwrap());
        let keys = Credentials { own, brokers: vec![a.public, b.public] };
        let options = Options::new("a, b").credentials(keys.clone());
        assert_eq!(options.in_order(), ("a,b".into(), Some(keys)));
        let alone = options.each().into_iter().map(|one| (one.broker, one.credentials.unwrap().brokers));
        let expected = [("a".to_string(), vec![a.public]), ("b".to_string(), vec![b.public])];
        assert_eq!(alone.collect::<Vec<_>>(), expected);
        for number in 0..20 {
            let (list, keys) = options.clone().spread(true).name(format!("n{number}")).in_order();
            let expected = if list == "a,b" { [a.public, b.public] } else { [b.public, a.public] };
            assert_eq!(keys.unwrap().brokers, expected);
        }
    }
}
