//! Questions and orders to the broker itself: its status, and draining workers.

use std::time::Instant;

use giostra_protocol::{FromClient, Status};
use giostra_transport::connector;
use giostra_transport::time::deadline;

use crate::session::{Link, Session};
use crate::{Client, Error};

impl Client {
    /// Waits until a broker has welcomed this client.
    ///
    /// # Errors
    /// [`Error::NoBroker`] if none does within [`Options::broker_timeout`](crate::Options), or why
    /// the one that is there can't be used.
    pub fn await_broker(&mut self) -> Result<(), Error> {
        let until = Some(deadline(Instant::now(), self.options.broker_timeout));
        match self.wait_for(until, |session| (session.link() == Link::Up).then_some(()))? {
            Some(()) => Ok(()),
            None => Err(self.no_broker()),
        }
    }

    /// Asks the broker for its status: workers, clients, pools, counts.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use giostra_client::{Client, Options};
    /// let mut client = Client::connect(Options::default())?;
    /// for worker in client.status()?.workers {
    ///     println!("{} in pool {}: {} in flight", worker.name, worker.pool, worker.in_flight);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Refused`] if the broker has keys, and this client's has not the role `admin`.
    pub fn status(&mut self) -> Result<Status, Error> {
        self.ask_for_status().and_then(whole)
    }

    /// Asks the broker how many workers of this pool take requests. Any client may ask.
    pub fn seats(&mut self, pool: &str) -> Result<u64, Error> {
        self.ask_for_status().map(|status| seats_of(&status, pool))
    }

    fn ask_for_status(&mut self) -> Result<Status, Error> {
        self.await_broker()?;
        self.send_message(FromClient::Inspect)?;
        self.await_answer(Session::take_status)
    }

    /// Asks the broker for its status, which [`Self::take_status`] takes when it has arrived.
    pub(crate) fn inspect(&mut self) -> Result<(), Error> {
        self.send_now(FromClient::Inspect)
    }

    /// Takes the broker's status, if it has arrived.
    pub(crate) fn take_status(&mut self) -> Option<Status> {
        self.session.take_status()
    }

    /// Drains the worker of this name: it finishes the requests that it has, gets no more, and ends.
    /// Returns the number of its registration. If no worker has this name, it may be the number of a
    /// registration, such as `w17`.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such worker, or if there are several: the reason lists
    /// them.
    pub fn drain(&mut self, worker: &str) -> Result<u64, Error> {
        self.ask_to_drain(worker, 0, false).map(|numbers| numbers.first().copied().unwrap_or_default())
    }

    /// Drains the worker with this name and this registration number.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such worker.
    pub fn drain_number(&mut self, worker: &str, number: u64) -> Result<(), Error> {
        self.ask_to_drain(worker, number, false).map(drop)
    }

    /// Drains all workers of this name. Returns the numbers of their registrations.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is none.
    pub fn drain_all(&mut self, worker: &str) -> Result<Vec<u64>, Error> {
        self.ask_to_drain(worker, 0, true)
    }

    fn ask_to_drain(&mut self, worker: &str, number: u64, all: bool) -> Result<Vec<u64>, Error> {
        self.await_broker()?;
        self.send_message(FromClient::Drain { worker: worker.into(), number, all })?;
        self.await_answer(Session::take_draining)
    }

    /// Waits for the broker's answer to a question that was just sent.
    fn await_answer<T>(&mut self, mut take: impl FnMut(&mut Session) -> Option<T>) -> Result<T, Error> {
        let until = Some(deadline(Instant::now(), self.options.broker_timeout));
        self.is_asking = true;
        let answer = self.wait_for(until, |session| match take(session) {
            Some(answer) => Some(Some(answer)),
            // The question was lost with the connection.
            None => (session.link() != Link::Up).then_some(None),
        });
        self.is_asking = false;
        let answer = answer?;
        answer.flatten().ok_or_else(|| self.no_broker())
    }

    /// When the broker will have been away for too long; `None` while it is there.
    pub(crate) fn gives_up_at(&self) -> Option<Instant> {
        self.without_broker_since().map(|since| deadline(since, self.options.broker_timeout))
    }

    /// Why there is no broker.
    pub(crate) fn no_broker(&self) -> Error {
        let endpoint = self.options.broker.clone();
        match (self.broker.error(), &self.unreadable) {
            (Some(error @ connector::Error::Handshake { .. }), _) => Error::of_connector(&error),
            (_, Some(error)) => Error::Unreadable { endpoint, error: error.clone() },
            (error, None) => {
                let why = error.map(|error| error.to_string());
                Error::NoBroker { endpoint, waited: self.options.broker_timeout, why }
            }
        }
    }
}

/// Returns a status that has everything.
///
/// # Errors
/// [`Error::Refused`] if the broker may not tell this client everything.
pub(crate) fn whole(status: Status) -> Result<Status, Error> {
    match status.limited {
        false => Ok(status),
        true => Err(Error::Refused("this key may not inspect: it has not the role 'admin'".into())),
    }
}

/// Returns the number of workers that take requests of this pool.
pub(crate) fn seats_of(status: &Status, pool: &str) -> u64 {
    status.pools.iter().find(|it| it.name == pool).map_or(0, |it| it.ring.len() as u64)
}
