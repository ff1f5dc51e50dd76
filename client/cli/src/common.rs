//! The options that every command accepts, and the connection that they describe.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use giostra_client::Options;
use giostra_common::args::{positive_duration, switch};
use giostra_protocol::{DEFAULT_POOL, Priority, name};
use giostra_transport::endpoint::{BadEndpoint, Endpoint, parse_list_to_connect};
use giostra_transport::keys::{Credentials, KeyError};
use giostra_transport::shutdown::Shutdown;

/// The options that every command accepts.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonArgs {
    /// The broker's endpoint for clients; of several brokers a list with commas: the next one is used where
    /// one is gone
    #[arg(
        long,
        global = true,
        env = "GIOSTRA_FRONTEND",
        default_value = "tcp://127.0.0.1:5555",
        value_parser = parse_broker,
        value_name = "ENDPOINT"
    )]
    pub broker: String,

    /// Try several brokers in an order that differs from one process to the next
    #[arg(long, global = true, env = "GIOSTRA_SPREAD", value_parser = switch)]
    pub spread: bool,

    /// Go back to a broker that goes before the one in use, once it is there again and nothing is under
    /// way; otherwise stay
    #[arg(long, global = true, env = "GIOSTRA_RETURN_TO_FIRST", value_parser = switch)]
    pub return_to_first: bool,

    /// Pool to send requests to
    #[arg(long, global = true, env = "GIOSTRA_POOL", default_value = DEFAULT_POOL, value_parser = name::parse)]
    pub pool: String,

    /// How urgent requests are: high, normal or low [default: normal; of submit: low]
    #[arg(long, global = true, env = "GIOSTRA_PRIORITY", value_parser = priority(), value_name = "PRIORITY")]
    pub priority: Option<Priority>,

    /// Time limit of each request; without one it waits as long as there is a broker
    #[arg(long, global = true, env = "GIOSTRA_TIMEOUT", value_parser = positive_duration, value_name = "DURATION")]
    pub timeout: Option<Duration>,

    /// Don't wait: requests fail at once if their pool has no worker, drain returns at once
    #[arg(long, global = true, env = "GIOSTRA_NO_WAIT", value_parser = switch)]
    pub no_wait: bool,

    /// How long to wait for a broker, at the start or after it was lost, before giving up
    #[arg(long, global = true, env = "GIOSTRA_BROKER_TIMEOUT", default_value = "10s", value_parser = positive_duration, value_name = "DURATION")]
    pub broker_timeout: Duration,

    /// File with your secret key, for a broker with keys (giostra keys new)
    #[arg(long, global = true, env = "GIOSTRA_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,

    /// The broker's public key, or the file with it; of several brokers a list in the same order
    #[arg(long, global = true, env = "GIOSTRA_BROKER_KEY", allow_hyphen_values = true, value_name = "KEY|FILE")]
    pub broker_key: Option<String>,

    /// Print one JSON object on the last line of stdout; map instead reads and prints a line of JSON
    /// per request
    #[arg(long, global = true, env = "GIOSTRA_JSON", value_parser = switch)]
    pub json: bool,
}

/// Parses the broker's endpoint. One that only a broker can bind passes: the variable is also that of
/// `giostra up`. Commands that connect [check](CommonArgs::check_broker) it.
fn parse_broker(text: &str) -> Result<String, BadEndpoint> {
    parse_list_to_connect(text).or_else(|bad| Endpoint::to_bind(text).map(|_| text.into()).map_err(|_| bad))
}

/// Returns the parser of priorities, which knows all their names.
fn priority() -> impl TypedValueParser<Value = Priority> {
    PossibleValuesParser::new(["high", "normal", "low"]).try_map(|name| name.parse())
}

impl CommonArgs {
    /// Checks that the broker's endpoint is one to connect to.
    ///
    /// # Errors
    /// What is wrong with the command line.
    pub fn check_broker(&self) -> Result<(), String> {
        let wrong = |bad| format!("invalid value '{}' for '--broker <ENDPOINT>': {bad}", self.broker);
        parse_list_to_connect(&self.broker).map(drop).map_err(wrong)
    }

    /// Whether there is a list of brokers.
    pub fn has_several(&self) -> bool {
        self.broker.contains(',')
    }

    /// Returns these options for each of the listed brokers by itself, with its own key.
    pub fn each_broker(&self) -> Vec<Self> {
        let keys: Vec<_> = self.broker_key.iter().flat_map(|keys| keys.split(',')).map(str::to_string).collect();
        let alone = |(place, broker): (usize, &str)| {
            let key = if keys.len() == 1 { keys.first() } else { keys.get(place) };
            Self { broker: broker.into(), broker_key: key.cloned(), ..self.clone() }
        };
        self.broker.split(',').enumerate().map(alone).collect()
    }

    /// Returns the options of a client for `command`.
    ///
    /// # Errors
    /// If a key can't be read, or only one of the two options for keys is given.
    pub fn options(&self, command: &str, shutdown: &Shutdown) -> Result<Options, KeyError> {
        Ok(Options {
            broker: self.broker.clone(),
            spread: self.spread,
            return_to_first: self.return_to_first,
            name: name::of_process(&format!("giostra-{command}-")),
            pool: self.pool.clone(),
            priority: self.priority.unwrap_or_default(),
            wait: !self.no_wait,
            broker_timeout: self.broker_timeout,
            credentials: Credentials::from_flags(self.keys.as_deref(), self.broker_key.as_deref())?,
            shutdown: Some(shutdown.clone()),
        })
    }
}
