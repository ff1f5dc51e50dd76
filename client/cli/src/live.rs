//! Shared by the live views: their interval, and asking while the broker may be gone.

use std::time::Duration;

use giostra_client::{Client, Error};
use giostra_common::args::positive_duration;

/// The shortest interval. Each question for the status delays requests a little.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Parses the interval at which to ask.
pub fn interval(text: &str) -> Result<Duration, String> {
    match positive_duration(text)? {
        short if short < MIN_INTERVAL => Err(format!("it must be at least {MIN_INTERVAL:?}")),
        interval => Ok(interval),
    }
}

/// Asks a broker, for which it waits. While there is none, calls `gone` with the reason.
pub fn ask<T>(
    client: &mut Client,
    endpoint: &str,
    mut gone: impl FnMut(String),
    mut question: impl FnMut(&mut Client) -> Result<T, Error>,
) -> Result<T, Error> {
    let no_broker = || format!("no broker at {endpoint}, trying again");
    client.turn()?;
    if client.without_broker_since().is_some() {
        gone(no_broker());
    }
    loop {
        match question(client) {
            Err(Error::NoBroker { .. }) => gone(no_broker()),
            Err(error @ (Error::Endpoint(_) | Error::Handshake(_))) => gone(format!("{error}; trying again")),
            answer => return answer,
        }
    }
}
