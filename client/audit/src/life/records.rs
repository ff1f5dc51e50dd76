//! What one life of a broker has open: its clients and their requests.

use std::collections::HashMap;
use std::rc::Rc;

use crate::line::Priority;
use crate::ranges::Id;

/// A client's connection.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// The open requests, by id.
    pub open: HashMap<u64, Request>,
    /// Whether the client was ever sent a reply.
    pub answered: bool,
}

/// The connected clients, by number.
#[derive(Debug, Default)]
pub(super) struct Clients(pub HashMap<u64, Client>);

impl Clients {
    /// Returns an open request.
    pub fn request(&self, id: Id) -> Option<&Request> {
        self.0.get(&id.client)?.open.get(&id.number)
    }

    /// Returns an open request.
    pub fn request_mut(&mut self, id: Id) -> Option<&mut Request> {
        self.0.get_mut(&id.client)?.open.get_mut(&id.number)
    }

    /// Removes an open request.
    pub fn take_request(&mut self, id: Id) -> Option<Request> {
        self.0.get_mut(&id.client)?.open.remove(&id.number)
    }
}

/// An open request.
#[derive(Debug)]
pub(super) struct Request {
    pub pool: usize,
    pub state: State,
    /// The lost workers that count against it.
    pub lost: Vec<Loss>,
}

/// A lost worker that counts against a request.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    pub name: Rc<str>,
    pub number: u64,
    /// The process, by the number of its first registration, if the loss counts only until it is
    /// back.
    pub process: Option<u64>,
}

/// Added to the ticket of a request's first dispatch, this is its place in the order of returned
/// requests. Before them come those that an earlier life has dispatched.
pub(super) const FIRST_ORDER: u64 = 1 << 32;

/// The state of an open request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not been dispatched.
    New(Priority),
    /// A worker gave it back, or was lost: its place.
    Returned(u64),
    /// The same, and it will be given up unless one of its lost workers comes back.
    Suspended(u64),
    /// A worker holds it; `order` is its place, should it be returned.
    InFlight { worker: u64, ticket: u64, order: u64, suspect: bool },
    /// The log contradicted itself about it, which has been reported.
    Unknown,
}
