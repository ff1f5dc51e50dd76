//! The options of `giostra bench`.

use std::time::Duration;

use giostra_common::args::positive_duration;
use giostra_protocol::MAX_MESSAGE_BYTES;

use super::work::MIN_SIZE;
use crate::help;

/// The options of `giostra bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::BENCH)]
pub struct Bench {
    /// Number of requests [default: as many as are answered in the time]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,

    /// Maximum number of unanswered requests of each client
    #[arg(long, env = "GIOSTRA_CLIENT_WINDOW", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=MAX_BENCH_WINDOW), value_name = "N")]
    pub window: u32,

    /// Number of clients, each with a connection of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_BENCH_CLIENTS), value_name = "N")]
    pub clients: u32,

    /// Send requests of this size, whose bytes are echoed, instead of additions
    #[arg(long, value_parser = size, value_name = "BYTES")]
    pub size: Option<usize>,

    /// For how long to send requests [default: 10s without REQUESTS, else as long as they take]
    #[arg(long, value_parser = positive_duration, value_name = "DURATION")]
    pub duration: Option<Duration>,

    /// Number of requests before the measurement starts
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub warm_up: u64,
}

impl Bench {
    /// Returns for how long to send requests, if there is a limit.
    pub fn length(&self) -> Option<Duration> {
        self.duration.or_else(|| self.requests.is_none().then_some(BENCH_LENGTH))
    }
}

/// The duration of a bench without options.
const BENCH_LENGTH: Duration = Duration::from_secs(10);

/// The maximum number of clients: libzmq's context has room for 1023 sockets.
const MAX_BENCH_CLIENTS: i64 = 1000;

/// The maximum window.
const MAX_BENCH_WINDOW: i64 = 100_000_000;

/// Parses the size of a request.
fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ MIN_SIZE..=MAX_MESSAGE_BYTES) => Ok(size),
        _ => Err(format!("a number of bytes from {MIN_SIZE} to {MAX_MESSAGE_BYTES}")),
    }
}
