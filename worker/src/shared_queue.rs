//! The shared queue of a worker: requests that no thread has taken yet, the urgent ones first.

use std::collections::VecDeque;

use giostra_protocol::{Priority, Ticket};

use crate::run_queue::{Reply, Request, cancel};

/// Requests by priority, each in the order in which they came.
#[derive(Default)]
pub struct SharedQueue([VecDeque<Request>; Priority::ALL.len()]);

impl SharedQueue {
    /// Returns the number of requests.
    pub fn len(&self) -> usize {
        self.0.iter().map(VecDeque::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(VecDeque::is_empty)
    }

    /// Returns the priority of the most urgent requests.
    pub fn first(&self) -> Option<Priority> {
        Priority::ALL.into_iter().find(|&priority| !self.0[priority as usize].is_empty())
    }

    /// Adds requests.
    pub fn add(&mut self, priority: Priority, requests: Vec<Request>) {
        self.0[priority as usize].extend(requests);
    }

    /// Returns the most urgent requests, all of the same priority.
    pub fn urgent(&mut self) -> Option<(Priority, &mut VecDeque<Request>)> {
        Priority::ALL.into_iter().zip(&mut self.0).find(|(_, queue)| !queue.is_empty())
    }

    /// Returns the requests of this priority.
    pub fn of(&mut self, priority: Priority) -> &mut VecDeque<Request> {
        &mut self.0[priority as usize]
    }

    /// Removes all requests.
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(VecDeque::clear);
    }

    /// Removes all requests and returns their tickets. To be used up.
    pub fn take_all(&mut self) -> impl Iterator<Item = Ticket> {
        self.0.iter_mut().flat_map(|queue| queue.drain(..)).map(|(ticket, _)| ticket)
    }

    /// Moves the requests that are not wanted to the replies, as cancelled. Returns whether there was
    /// one.
    pub fn cancel(&mut self, replies: &mut Vec<Reply>, wanted: &impl Fn(&Ticket) -> bool) -> bool {
        let before = replies.len();
        for queue in &mut self.0 {
            cancel(queue, replies, wanted);
        }
        replies.len() > before
    }
}
