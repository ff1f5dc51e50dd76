//! What the live views have in common: how far apart they ask for the status, and that they go on
//! asking.

use std::time::Duration;

use giostra_client::{Client, Error};
use giostra_common::args::positive_duration;
use giostra_protocol::Status;

/// The shortest time between two questions for the status: the broker has requests to deal, too.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The time between two questions.
pub fn interval(text: &str) -> Result<Duration, String> {
    match positive_duration(text)? {
        short if short < SHORTEST_INTERVAL => Err(format!("it must be at least {SHORTEST_INTERVAL:?}")),
        interval => Ok(interval),
    }
}

/// The broker's status, now or as soon as the broker is back. `gone` is told meanwhile why there is
/// none.
pub fn ask(client: &mut Client, endpoint: &str, mut gone: impl FnMut(String)) -> Result<Status, Error> {
    let no_broker = || format!("no broker at {endpoint}, trying again");
    client.turn()?;
    if client.without_broker_since().is_some() {
        gone(no_broker());
    }
    loop {
        match client.status() {
            Err(Error::NoBroker { .. }) => gone(no_broker()),
            Err(error @ (Error::Endpoint(_) | Error::Handshake(_))) => gone(format!("{error}; trying again")),
            answer => return answer,
        }
    }
}
