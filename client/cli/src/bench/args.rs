//! The options of a load.

use std::time::Duration;

use giostra_common::args::positive_duration;
use giostra_protocol::MAX_MESSAGE_BYTES;

use super::work::MIN_SIZE;
use crate::help;

/// A load to measure.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = help::BENCH)]
pub struct Bench {
    /// How many requests in all [default: as many as are answered in the time]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,

    /// Requests of each client that may be unanswered at a time
    #[arg(long, env = "GIOSTRA_CLIENT_WINDOW", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=MAX_BENCH_WINDOW), value_name = "N")]
    pub window: u32,

    /// Clients, each with a connection of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_BENCH_CLIENTS), value_name = "N")]
    pub clients: u32,

    /// Send so many bytes as each request, and expect them back, instead of an addition
    #[arg(long, value_parser = size, value_name = "BYTES")]
    pub size: Option<usize>,

    /// For how long to ask [default: 10s without REQUESTS, else as long as they take]
    #[arg(long, value_parser = positive_duration, value_name = "DURATION")]
    pub duration: Option<Duration>,

    /// Requests to be answered before the clock starts
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub warm_up: u64,
}

impl Bench {
    /// For how long to ask, if there is a limit.
    pub fn length(&self) -> Option<Duration> {
        self.duration.or_else(|| self.requests.is_none().then_some(BENCH_LENGTH))
    }
}

/// How long a bench takes if nothing is said.
const BENCH_LENGTH: Duration = Duration::from_secs(10);

/// The most clients of one bench: libzmq's context has room for 1023 sockets.
const MAX_BENCH_CLIENTS: i64 = 1000;

/// The largest window of a bench.
const MAX_BENCH_WINDOW: i64 = 100_000_000;

/// The size of a request.
fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ MIN_SIZE..=MAX_MESSAGE_BYTES) => Ok(size),
        _ => Err(format!("a number of bytes from {MIN_SIZE} to {MAX_MESSAGE_BYTES}")),
    }
}
