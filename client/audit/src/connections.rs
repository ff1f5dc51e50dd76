//! What each connection of a client asked of one broker, by its log: which requests were accepted,
//! dispatched, answered.
//!
//! Nothing is checked here: the audit of the log does that.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use crate::id_set::{IdSet, Room};
use crate::line::{Event, Line};
use crate::ranges::IdRanges;

/// The maximum number of connections with requests that are kept.
const MAX_CONNECTIONS: usize = 1 << 16;

/// A connection of a client over which requests were accepted.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The client's name.
    pub name: Box<str>,
    /// The broker's endpoint for clients.
    pub frontend: Rc<str>,
    /// The connection's number: 1 is `c1` in the log.
    pub number: u64,
    /// The time at which it joined, as in the log.
    pub joined: Box<str>,
    /// The time at which its last requests were accepted.
    pub last: Box<str>,
    pub accepted: IdSet,
    pub dispatched: IdSet,
    /// The requests to which the client was sent a reply, or an error.
    pub answered: IdSet,
}

/// The connections of one broker's clients.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// In the order of their first requests.
    pub list: Vec<Connection>,
    /// The endpoints for clients that the broker had, and the last of them.
    pub frontends: BTreeSet<Rc<str>>,
    pub frontend: Rc<str>,
    /// Those that are there in the broker's current life, by number.
    here: HashMap<u64, Here>,
    room: Room,
    /// Whether there were more than are kept.
    pub is_incomplete: bool,
}

/// A connection that has not left.
#[derive(Debug)]
enum Here {
    /// When no request was accepted: the client's name, and when it joined.
    Joined(Box<str>, Box<str>),
    /// When there were some: the place in the list.
    Asked(usize),
}

/// The sets of a connection.
type Which = fn(&mut Connection) -> &mut IdSet;

impl Connections {
    /// Handles the next line of the log.
    pub fn handle_line(&mut self, line: &Line<'_>) {
        match line.event {
            Event::Listening(start) => {
                self.here.clear();
                self.frontend = start.frontend.unwrap_or_default().into();
                self.frontends.insert(self.frontend.clone());
            }
            Event::ClientJoined { client, name, .. } => {
                self.here.insert(client, Here::Joined(name.into(), line.timestamp().into()));
            }
            Event::ClientLeft { client, reason, .. } if reason != crate::life::CLOSES => {
                self.here.remove(&client);
            }
            Event::Accept { requests, .. } => {
                self.begin(&requests, line.timestamp());
                self.insert(&requests, |connection| &mut connection.accepted);
            }
            Event::Dispatch { requests, .. } => self.insert(&requests, |connection| &mut connection.dispatched),
            Event::Reply { requests, .. } | Event::Expire { requests } | Event::Poison { request: requests, .. } => {
                self.insert(&requests, |connection| &mut connection.answered);
            }
            // The replies to these were never sent.
            Event::Unheard { requests, .. } => {
                for range in requests.ranges() {
                    if let Some(connection) = self.connection(range.client) {
                        connection.answered.remove_all(range);
                    }
                }
            }
            _ => {}
        }
    }

    /// Adds the connections of these requests to the list if they are not there. One whose name is not
    /// in the log is left out.
    fn begin(&mut self, requests: &IdRanges<'_>, time: &str) {
        for range in requests.ranges() {
            match self.here.get(&range.client) {
                Some(Here::Joined(..)) if self.list.len() == MAX_CONNECTIONS => self.is_incomplete = true,
                Some(Here::Joined(..)) => {
                    let place = Here::Asked(self.list.len());
                    let Some(Here::Joined(name, joined)) = self.here.insert(range.client, place) else { continue };
                    self.list.push(Connection {
                        name,
                        frontend: self.frontend.clone(),
                        number: range.client,
                        joined,
                        last: time.into(),
                        accepted: IdSet::default(),
                        dispatched: IdSet::default(),
                        answered: IdSet::default(),
                    });
                }
                Some(&Here::Asked(place)) => {
                    let last = &mut self.list[place].last;
                    if **last != *time {
                        *last = time.into();
                    }
                }
                None => {}
            }
        }
    }

    fn connection(&mut self, client: u64) -> Option<&mut Connection> {
        match self.here.get(&client) {
            Some(&Here::Asked(place)) => self.list.get_mut(place),
            _ => None,
        }
    }

    fn insert(&mut self, requests: &IdRanges<'_>, which: Which) {
        for range in requests.ranges() {
            if let Some(&Here::Asked(place)) = self.here.get(&range.client) {
                let set = which(&mut self.list[place]);
                self.is_incomplete |= !set.insert_all(range, &mut self.room);
            }
        }
    }
}
