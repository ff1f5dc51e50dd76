//! Requests that were never dispatched, of sources that take turns, one request each.

use std::collections::{HashMap, VecDeque};

use giostra_protocol::sparse_queue::SparseQueue;
use slab::Slab;

use crate::ids::{RequestKey, Source};

/// The requests of several sources.
#[derive(Debug, Default)]
pub struct Turns {
    queues: Slab<Queue>,
    of: HashMap<Source, usize>,
    /// The places of the sources with requests, in the order of their turns.
    order: VecDeque<usize>,
}

/// The requests of one source; at least one.
#[derive(Debug)]
struct Queue {
    source: Source,
    requests: SparseQueue<RequestKey>,
}

impl Turns {
    /// Whether there are no requests.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Returns the first request of each source.
    pub fn firsts(&self) -> impl Iterator<Item = RequestKey> {
        self.queues.iter().filter_map(|(_, queue)| queue.requests.iter().next().copied())
    }

    /// Adds requests of a source, numbered upwards from `first`. At least one.
    pub fn add(&mut self, source: Source, first: u64, requests: &[RequestKey]) {
        let place = *self.of.entry(source).or_insert_with(|| {
            let place = self.queues.insert(Queue { source, requests: SparseQueue::default() });
            self.order.push_back(place);
            place
        });
        let queue = &mut self.queues[place].requests;
        for (number, &request) in (first..).zip(requests) {
            queue.push(number, request);
        }
    }

    /// Removes the next request and returns it.
    pub fn pop(&mut self) -> Option<RequestKey> {
        let &place = self.order.front()?;
        let Queue { source, requests } = &mut self.queues[place];
        let request = requests.pop();
        if requests.is_empty() {
            self.of.remove(source);
            self.queues.remove(place);
            self.order.pop_front();
        } else if self.order.len() > 1 {
            self.order.rotate_left(1);
        }
        request
    }

    /// Removes the request with this number and returns it.
    pub fn take(&mut self, number: u64, source: Source) -> Option<RequestKey> {
        let &place = self.of.get(&source)?;
        let queue = &mut self.queues[place].requests;
        let request = queue.take(number);
        if queue.is_empty() {
            self.cut_off(source);
        }
        request
    }

    /// Removes all requests of a source. Returns their number.
    pub fn cut_off(&mut self, source: Source) -> usize {
        let Some(place) = self.of.remove(&source) else { return 0 };
        self.order.retain(|&other| other != place);
        self.queues.remove(place).requests.len()
    }
}
