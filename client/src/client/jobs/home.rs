//! The homes of jobs, where there are several brokers: a connection to each of them, made when the
//! first job is asked about.

use std::os::fd::AsFd as _;
use std::time::Instant;

use giostra_protocol::JobId;
use giostra_transport::shutdown::Shutdown;
use giostra_transport::time::deadline;

use crate::client::Context;
use crate::client::connection::wait_any;
use crate::homes::{Known, all_of, home_for_new, home_of};
use crate::options::canonical;
use crate::{Client, Error, Options};

/// A client of each broker of a list by itself.
#[derive(Default)]
pub struct Homes {
    context: Context,
    /// In the order of the list. One that can't go on is made anew.
    clients: Vec<Option<Client>>,
}

impl Client {
    /// Returns the client of this job's home, which is this one itself unless it has several brokers:
    /// for what concerns that broker, as its [`Self::status`]. What a [`Job`](crate::Job) does is done
    /// there in any case.
    ///
    /// # Errors
    /// [`Error::NoBroker`] if no broker that answers has the job, and others don't answer;
    /// [`Error::Refused`] if none has it.
    pub fn at_home(&mut self, job: JobId) -> Result<&mut Self, Error> {
        if !self.has_several() {
            return Ok(self);
        }
        match self.homes.known(job)? {
            Some(place) => self.homes.client(place, &self.options.each()),
            None => self.find_home(|each, known| home_of(job, each, known)),
        }
    }

    /// Returns the client of the broker that jobs with this key are submitted to.
    pub(super) fn home_for(&mut self, key: Option<&str>) -> Result<&mut Self, Error> {
        if !self.has_several() {
            return Ok(self);
        }
        if let Some(key) = key {
            let place = self.options.place_of(key);
            return self.find_home(|_, _| Ok(Some(place)));
        }
        self.await_broker()?;
        let current = self.current();
        self.find_home(|each, known| home_for_new(current, each, known))
    }

    /// Returns the clients of all brokers that keep jobs.
    pub(super) fn homes_with_jobs(&mut self) -> Result<impl Iterator<Item = &mut Self>, Error> {
        self.find_home(all_of)?;
        let keeps_jobs = |home: &&mut Self| matches!(home.session.home(), Some(Some(_)));
        Ok(self.homes.clients.iter_mut().flatten().filter(keeps_jobs))
    }

    /// Whether there is a list of brokers.
    pub(crate) fn has_several(&self) -> bool {
        self.options.broker.contains(',')
    }

    /// The settings of this client.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// The number of the broker's store: see [`Session::home`](crate::session::Session::home).
    pub(crate) fn home(&self) -> Option<Option<u32>> {
        self.session.home()
    }

    /// Returns the place in the list of the broker that this client uses, and its store's number.
    pub(crate) fn current(&self) -> Option<(usize, Option<u32>)> {
        let home = self.session.home().filter(|_| self.session().is_some())?;
        let used = self.broker.broker();
        Some((self.options.broker.split(',').position(|one| canonical(one) == used)?, home))
    }

    /// Asks all brokers until it can be decided which of them it is.
    fn find_home(
        &mut self,
        decide: impl Fn(&[Options], &[Known]) -> Result<Option<usize>, Error>,
    ) -> Result<&mut Self, Error> {
        let each = self.options.each();
        let until = deadline(Instant::now(), self.options.broker_timeout);
        let mut known: Vec<_> = each.iter().map(|_| Known::Nothing).collect();
        let place = loop {
            let wake = self.homes.turn(&each, &mut known, until)?;
            if let Some(place) = decide(&each, &known)? {
                break place;
            }
            self.homes.wait(self.options.shutdown.as_ref(), wake)?;
        };
        self.homes.keep_up(place);
        self.homes.client(place, &each)
    }
}

impl Homes {
    /// Returns the place of a broker that is known to have the job: the others need not be asked.
    fn known(&mut self, job: JobId) -> Result<Option<usize>, Error> {
        for (place, slot) in self.clients.iter_mut().enumerate() {
            let Some(client) = slot.as_mut().filter(|client| client.home() == Some(Some(job.home))) else { continue };
            match client.turn() {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(_) => *slot = None,
                // It may have another store since it was started again.
                Ok(_) if client.home() == Some(Some(job.home)) => return Ok(Some(place)),
                Ok(_) => {}
            }
        }
        Ok(None)
    }

    /// Sends and receives. Notes what is known of each broker; one that can't be reached is given up.
    /// Returns when there is something to do without a message.
    fn turn(&mut self, each: &[Options], known: &mut [Known], until: Instant) -> Result<Instant, Error> {
        let mut wake = until;
        for (place, known) in known.iter_mut().enumerate().filter(|(_, known)| !matches!(known, Known::Gone(_))) {
            let turn = self.client(place, each).and_then(|client| Ok((client.turn()?, client.home(), client)));
            *known = match turn {
                Ok((_, Some(home), _)) => Known::Home(home),
                Ok((_, None, client)) if until <= Instant::now() => Known::Gone(client.no_broker()),
                Ok((at, None, _)) => {
                    wake = at.map_or(wake, |at| wake.min(at));
                    Known::Nothing
                }
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => {
                    self.clients[place] = None;
                    Known::Gone(error)
                }
            };
        }
        Ok(wake)
    }

    /// Closes connections that are not up, except this one: nobody would see to them.
    fn keep_up(&mut self, place: usize) {
        for (other, client) in self.clients.iter_mut().enumerate() {
            client.take_if(|client| other != place && client.session().is_none());
        }
    }

    /// Waits until one of the brokers may have answered, or until then.
    fn wait(&self, shutdown: Option<&Shutdown>, until: Instant) -> Result<(), Error> {
        let clients: Vec<_> = self.clients.iter().flatten().collect();
        let ends: Vec<_> = shutdown.iter().map(|shutdown| shutdown.as_fd()).collect();
        wait_any(&clients, &ends, Some(until))
    }

    /// Returns the client of a broker, connected or about to be.
    fn client(&mut self, place: usize, each: &[Options]) -> Result<&mut Client, Error> {
        self.clients.resize_with(each.len(), || None);
        let client = &mut self.clients[place];
        match client {
            Some(client) => Ok(client),
            None => Ok(client.insert(Client::connect_in(&self.context, each[place].clone())?)),
        }
    }
}
