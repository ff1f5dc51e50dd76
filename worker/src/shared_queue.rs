//! The shared queue of a worker: requests that no thread has taken yet, the urgent ones first, and
//! among equally urgent ones the links in turn.
//!
//! Each broker hands out as much as the worker computes for it within a fixed time. So if the first
//! to fill the queue got all of the worker, the others would never see that it could do more.

use std::collections::VecDeque;

use giostra_protocol::{Bytes, Priority, Ticket};

use crate::run_queue::{Claim, Reply, Request, cancel};

/// Requests by priority.
#[derive(Default)]
pub struct SharedQueue([Lane; Priority::ALL.len()]);

/// Requests of one priority.
#[derive(Default)]
struct Lane {
    /// Those of each link, in the order in which they came.
    links: Vec<VecDeque<Request>>,
    /// The link whose turn it is.
    turn: usize,
}

impl SharedQueue {
    /// Returns the number of requests.
    pub fn len(&self) -> usize {
        self.0.iter().flat_map(|lane| &lane.links).map(VecDeque::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Lane::is_empty)
    }

    /// Returns the number of requests of a link.
    pub fn len_of(&self, link: usize) -> usize {
        self.0.iter().filter_map(|lane| lane.links.get(link)).map(VecDeque::len).sum()
    }

    /// Returns the priority of the most urgent requests.
    pub fn first(&self) -> Option<Priority> {
        Priority::ALL.into_iter().find(|&priority| !self.0[priority as usize].is_empty())
    }

    /// Adds requests of a link.
    pub fn add(&mut self, link: usize, priority: Priority, requests: Vec<(Ticket, Bytes)>) {
        let claimed = requests.into_iter().map(|(ticket, body)| (Claim { link, ticket }, body));
        self.0[priority as usize].of(link).extend(claimed);
    }

    /// Puts a request back to the front.
    pub fn give_back(&mut self, priority: Priority, request: Request) {
        self.0[priority as usize].of(request.0.link).push_front(request);
    }

    /// Returns the most urgent requests of the link whose turn it is. The next call returns another
    /// link's, if it has any that are as urgent.
    pub fn urgent(&mut self) -> Option<(Priority, &mut VecDeque<Request>)> {
        Priority::ALL.into_iter().zip(&mut self.0).find_map(|(priority, lane)| Some((priority, lane.next()?)))
    }

    /// Removes all requests of a link.
    pub fn discard(&mut self, link: usize) {
        self.0.iter_mut().filter_map(|lane| lane.links.get_mut(link)).for_each(VecDeque::clear);
    }

    /// Removes all requests and returns which they were. To be used up.
    pub fn take_all(&mut self) -> impl Iterator<Item = Claim> {
        self.0.iter_mut().flat_map(|lane| &mut lane.links).flat_map(|queue| queue.drain(..)).map(|(claim, _)| claim)
    }

    /// Moves the requests that are not wanted to the replies, as cancelled. Returns whether there was
    /// one.
    pub fn cancel(&mut self, replies: &mut Vec<Reply>, wanted: &impl Fn(&Claim) -> bool) -> bool {
        let before = replies.len();
        for queue in self.0.iter_mut().flat_map(|lane| &mut lane.links) {
            cancel(queue, replies, wanted);
        }
        replies.len() > before
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.links.iter().all(VecDeque::is_empty)
    }

    fn of(&mut self, link: usize) -> &mut VecDeque<Request> {
        if self.links.len() <= link {
            self.links.resize_with(link + 1, VecDeque::new);
        }
        &mut self.links[link]
    }

    fn next(&mut self) -> Option<&mut VecDeque<Request>> {
        let count = self.links.len();
        let link = (0..count).map(|i| (self.turn + i) % count).find(|&link| !self.links[link].is_empty())?;
        self.turn = (link + 1) % count;
        Some(&mut self.links[link])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_take_turns_among_equally_urgent_requests_however_many_one_of_them_has() {
        let mut queue = SharedQueue::default();
        let mut add = |link, priority, tickets: std::ops::Range<u64>| {
            queue.add(link, priority, tickets.map(|ticket| (Ticket(ticket), Bytes::new())).collect());
        };
        add(0, Priority::Normal, 0..100);
        add(2, Priority::Normal, 0..2);
        add(1, Priority::Low, 0..1);
        add(1, Priority::High, 7..8);
        let taken = std::iter::from_fn(|| {
            let (priority, requests) = queue.urgent()?;
            let (claim, _) = requests.pop_front()?;
            Some((priority, claim.link, claim.ticket.0))
        });
        let taken: Vec<_> = taken.collect();
        let normal = Priority::Normal;
        let first =
            [(Priority::High, 1, 7), (normal, 0, 0), (normal, 2, 0), (normal, 0, 1), (normal, 2, 1), (normal, 0, 2)];
        assert_eq!(taken[..6], first);
        assert_eq!((taken.len(), taken[103]), (104, (Priority::Low, 1, 0)));
    }
}
