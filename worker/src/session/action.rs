//! What a worker's session wants done.

use std::time::Duration;

use giostra_protocol::{Bytes, FromWorker, Priority, Ticket};
use log::Level;

/// What the session wants done. Links are named by the places of their brokers in the list.
#[derive(Debug)]
pub enum Action {
    /// Send this to a link's broker.
    Send(usize, FromWorker),
    /// Send a pong to a link's broker, with the worker's load by its requests.
    Pong {
        /// The link.
        link: usize,
        /// The number of the ping.
        sequence: u64,
    },
    /// Add these requests of a link to the scheduler's queue.
    Assign(usize, Priority, Vec<(Ticket, Bytes)>),
    /// Cancel these requests of a link.
    Cancel(usize, Vec<Ticket>),
    /// Forget all requests and replies of a link: the registration they belong to has ended.
    Discard(usize),
    /// Ask the service whether it is able to compute, for [`Session::handle_ability`].
    CheckAbility,
    /// Tell the link's connector that the broker has answered.
    Answered(usize),
    /// Tell the link's connector that the broker has dropped the worker.
    Lost(usize),
    /// Tell the link's connector that the connection broke.
    Broke(usize),
    /// Log a line.
    Log(Level, String),
    /// Tell the service manager that the worker serves, and what it does.
    Ready(String),
    /// Tell the service manager what the worker does.
    Status(String),
    /// Tell the service manager that the worker ends within this time.
    Stopping(Duration),
    /// End the worker.
    End,
    /// End the worker, which the broker has refused for this reason.
    Refused(String),
}
