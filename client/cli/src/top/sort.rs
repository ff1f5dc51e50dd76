//! The order of the workers in the view.

use std::cmp::Reverse;

use giostra_protocol::WorkerStatus;

/// The order in which workers are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// By pool and seat.
    #[default]
    Seat,
    /// By answers per second, the highest first.
    Rate,
    /// By requests in flight, the most first.
    InFlight,
    /// By the 99th percentile of their times, the slowest first.
    P99,
    /// By name.
    Name,
}

impl Sort {
    /// Returns the next order in the cycle.
    pub fn next(self) -> Self {
        const CYCLE: [Sort; 5] = [Sort::Seat, Sort::Rate, Sort::InFlight, Sort::P99, Sort::Name];
        CYCLE[(self as usize + 1) % CYCLE.len()]
    }

    /// The name that is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seat => "seat",
            Self::Rate => "rate",
            Self::InFlight => "in flight",
            Self::P99 => "p99",
            Self::Name => "name",
        }
    }

    /// Sorts the workers; equal ones stay in the order of their seats.
    pub fn apply(self, workers: &mut [&WorkerStatus]) {
        workers.sort_by_key(|worker| (&worker.pool, worker.seat.unwrap_or(u64::MAX), worker.number));
        match self {
            Self::Seat => {}
            Self::Rate => workers.sort_by_key(|worker| Reverse(worker.rate)),
            Self::InFlight => workers.sort_by_key(|worker| Reverse(worker.in_flight)),
            Self::P99 => workers.sort_by_key(|worker| Reverse(worker.service_us.p99)),
            Self::Name => workers.sort_by(|a, b| a.name.cmp(&b.name)),
        }
    }
}
