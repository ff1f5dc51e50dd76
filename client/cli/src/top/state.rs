//! The state of the view, which keys and the broker's answers change. It touches neither the terminal
//! nor the broker.

use std::cmp::Reverse;
use std::time::Duration;

use giostra_protocol::{LostStatus, PoolStatus, Status, WorkerStatus};

use super::keys::Key;

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
    fn next(self) -> Self {
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
    fn apply(self, workers: &mut [&WorkerStatus]) {
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

/// An action that concerns more than the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Ends the view.
    Quit,
    /// Drains the worker of this name and number.
    Drain(String, u64),
}

/// The state of the view.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The broker's endpoint.
    pub endpoint: String,
    /// The status that is shown.
    pub status: Status,
    /// The latest status, while the view is paused.
    next: Option<Status>,
    /// Whether the view is paused.
    pub paused: bool,
    /// Why there is no broker, if there is none.
    pub gone: Option<String>,
    /// For how long the broker has not answered, if too long.
    pub silence: Option<Duration>,
    /// The order in which workers are listed.
    pub sort: Sort,
    /// The selected pool; `None` for all.
    pub pool: Option<String>,
    /// The number of the selected worker; there is one while any is listed.
    pub selected: Option<u64>,
    /// The number of the worker to drain, while the user is asked.
    pub question: Option<u64>,
    /// The outcome of the last order, until the next key.
    pub notice: Option<String>,
    /// Whether the help is shown.
    pub help: bool,
}

impl State {
    /// Returns a state without a status.
    pub fn new(endpoint: &str) -> Self {
        Self { endpoint: endpoint.into(), ..Self::default() }
    }

    /// Returns whether the broker has answered.
    pub fn has_status(&self) -> bool {
        !self.status.version.is_empty()
    }

    /// Returns the listed workers, in their order.
    pub fn workers(&self) -> Vec<&WorkerStatus> {
        let listed = |worker: &&WorkerStatus| self.pool.as_ref().is_none_or(|pool| *pool == worker.pool);
        let mut workers: Vec<_> = self.status.workers.iter().filter(listed).collect();
        self.sort.apply(&mut workers);
        workers
    }

    /// Returns the workers of the listed pools that were dropped and have not come back, the latest
    /// first.
    pub fn lost(&self) -> Vec<&LostStatus> {
        let listed = |lost: &&LostStatus| self.pool.as_ref().is_none_or(|pool| *pool == lost.pool);
        self.status.lost.iter().rev().filter(listed).collect()
    }

    /// Returns the index of the selected worker in the list.
    pub fn place(&self) -> Option<usize> {
        self.workers().iter().position(|worker| Some(worker.number) == self.selected)
    }

    /// Returns the worker of that number.
    pub fn worker(&self, number: u64) -> Option<&WorkerStatus> {
        self.status.workers.iter().find(|worker| worker.number == number)
    }

    /// Returns whether it is this worker's turn.
    pub fn has_turn(&self, worker: &WorkerStatus) -> bool {
        let pool = self.status.pools.iter().find(|pool| pool.name == worker.pool);
        pool.and_then(turn_of) == Some(worker.number)
    }

    /// Handles an answer of the broker.
    pub fn handle_status(&mut self, status: Status) {
        self.gone = None;
        if self.paused {
            self.next = Some(status);
            return;
        }
        let place = self.place().unwrap_or(0);
        self.status = status;
        if self.pool.as_ref().is_some_and(|picked| self.status.pools.iter().all(|pool| pool.name != *picked)) {
            self.pool = None;
        }
        if self.place().is_none() {
            self.select(place);
        }
        if self.question.is_some_and(|number| self.worker(number).is_none()) {
            self.question = None;
            self.notice = Some("it is gone by itself".into());
        }
    }

    /// Handles the absence of a broker.
    pub fn handle_gone(&mut self, why: String) {
        self.gone = Some(why);
        self.question = None;
    }

    /// Handles a key.
    pub fn handle_key(&mut self, key: Key) -> Option<Act> {
        if key == Key::Interrupt {
            return Some(Act::Quit);
        }
        self.notice = None;
        if std::mem::take(&mut self.help) {
            return None;
        }
        if let Some(number) = self.question.take() {
            let worker = self.worker(number).filter(|_| matches!(key, Key::Char('y' | 'Y')));
            return worker.map(|worker| Act::Drain(worker.name.clone(), worker.number));
        }
        match key {
            Key::Char('q') | Key::Escape => return Some(Act::Quit),
            Key::Up | Key::Char('k') => self.select(self.place().unwrap_or(0).saturating_sub(1)),
            Key::Down | Key::Char('j') => self.select(self.place().map_or(0, |place| place + 1)),
            Key::Home => self.select(0),
            Key::End => self.select(usize::MAX),
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Char('p') => self.pause(),
            Key::Char('d') => self.ask_to_drain(),
            Key::Char('?' | 'h') => self.help = true,
            Key::Tab | Key::Right => self.pick_pool(1),
            Key::BackTab | Key::Left => self.pick_pool(-1),
            _ => {}
        }
        None
    }

    /// Selects the worker at that index, or the last one.
    fn select(&mut self, place: usize) {
        let workers = self.workers();
        self.selected = workers.get(place).or(workers.last()).map(|worker| worker.number);
    }

    fn pause(&mut self) {
        self.paused = !self.paused;
        if let Some(status) = self.next.take() {
            let gone = self.gone.take();
            self.handle_status(status);
            self.gone = gone;
        }
    }

    fn ask_to_drain(&mut self) {
        match self.selected.and_then(|number| self.worker(number)) {
            _ if self.gone.is_some() => self.notice = Some("without a broker nobody can be drained".into()),
            None => self.notice = Some("there is no worker to drain".into()),
            Some(worker) if worker.leaving => self.notice = Some(format!("{} is leaving already", worker.name)),
            Some(worker) => self.question = Some(worker.number),
        }
    }

    /// All pools, then each of them, round and round.
    fn pick_pool(&mut self, step: isize) {
        let pools = &self.status.pools;
        let places = pools.len() as isize + 1;
        let now = self.pool.as_ref().and_then(|picked| pools.iter().position(|pool| pool.name == *picked));
        let next = (now.map_or(0, |place| place as isize + 1) + step).rem_euclid(places);
        self.pool = (next > 0).then(|| pools[next as usize - 1].name.clone());
        if self.place().is_none() {
            self.select(0);
        }
    }
}

/// The number of the worker whose turn it is.
pub fn turn_of(pool: &PoolStatus) -> Option<u64> {
    pool.ring.get(pool.turn as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(number: u64, rate: u64) -> WorkerStatus {
        let name = format!("worker-{number}");
        WorkerStatus { name, number, rate, pool: "compute".into(), seat: Some(number - 1), ..WorkerStatus::default() }
    }

    fn status(workers: Vec<WorkerStatus>) -> Status {
        let ring = workers.iter().map(|worker| worker.number).collect();
        let pools = vec![PoolStatus { name: "compute".into(), ring, turn: 1, ..PoolStatus::default() }];
        Status { version: "0".into(), workers, pools, ..Status::default() }
    }

    fn state() -> State {
        let mut state = State::new("tcp://127.0.0.1:5555");
        state.handle_status(status(vec![worker(1, 10), worker(2, 30), worker(3, 20)]));
        state
    }

    fn press(state: &mut State, keys: &str) -> Vec<Act> {
        let key = |letter| match letter {
            '\t' => Key::Tab,
            '\x1b' => Key::Escape,
            letter => Key::Char(letter),
        };
        keys.chars().filter_map(|letter| state.handle_key(key(letter))).collect()
    }

    fn listed(state: &State) -> Vec<u64> {
        state.workers().iter().map(|worker| worker.number).collect()
    }

    #[test]
    fn the_selection_stays_within_the_list() {
        let mut state = state();
        assert_eq!(state.selected, Some(1));
        press(&mut state, "k");
        assert_eq!(state.selected, Some(1));
        press(&mut state, "jjjjj");
        assert_eq!(state.selected, Some(3));
    }

    #[test]
    fn the_selection_follows_the_worker_when_the_order_changes() {
        let mut state = state();
        press(&mut state, "js");
        assert_eq!((state.sort, listed(&state)), (Sort::Rate, vec![2, 3, 1]));
        assert_eq!((state.selected, state.place()), (Some(2), Some(0)));
        state.handle_status(status(vec![worker(1, 99), worker(2, 30), worker(3, 50)]));
        assert_eq!((state.selected, state.place()), (Some(2), Some(2)));
        press(&mut state, "ssss");
        assert_eq!((state.sort, listed(&state)), (Sort::Seat, vec![1, 2, 3]));
    }

    #[test]
    fn when_the_selected_worker_is_gone_its_neighbour_is_selected() {
        let mut state = state();
        press(&mut state, "j");
        state.handle_status(status(vec![worker(1, 0), worker(3, 0)]));
        assert_eq!(state.selected, Some(3));
        state.handle_status(status(vec![worker(1, 0)]));
        assert_eq!(state.selected, Some(1));
        state.handle_status(status(Vec::new()));
        assert_eq!((state.selected, press(&mut state, "jkd")), (None, vec![]));
        state.handle_status(status(vec![worker(4, 0)]));
        assert_eq!(state.selected, Some(4));
    }

    #[test]
    fn a_worker_is_drained_after_a_yes_and_nothing_else() {
        let mut state = state();
        assert_eq!(press(&mut state, "jdn"), []);
        assert_eq!(press(&mut state, "d\x1b"), []);
        assert_eq!(press(&mut state, "y"), []);
        assert_eq!(press(&mut state, "dy"), [Act::Drain("worker-2".into(), 2)]);
        assert_eq!(state.question, None);
    }

    #[test]
    fn a_worker_that_has_gone_meanwhile_is_not_drained() {
        let mut state = state();
        press(&mut state, "jd");
        state.handle_status(status(vec![worker(1, 0), worker(3, 0)]));
        assert_eq!((state.question, state.notice.is_some()), (None, true));
        assert_eq!(press(&mut state, "y"), []);
        press(&mut state, "d");
        state.handle_gone("no broker".into());
        assert_eq!(press(&mut state, "yd"), []);
        assert!(state.question.is_none() && state.notice.is_some());
    }

    #[test]
    fn while_it_is_paused_nothing_changes_and_then_all_at_once() {
        let mut state = state();
        press(&mut state, "p");
        state.handle_status(status(vec![worker(5, 0)]));
        assert_eq!(listed(&state), [1, 2, 3]);
        press(&mut state, "p");
        assert_eq!((listed(&state), state.selected), (vec![5], Some(5)));
    }

    #[test]
    fn pools_are_picked_one_after_the_other_and_then_all() {
        let mut state = state();
        let mut other = status(vec![worker(1, 0), WorkerStatus { pool: "gpu".into(), ..worker(2, 0) }]);
        other.pools.push(PoolStatus { name: "gpu".into(), ring: vec![2], ..PoolStatus::default() });
        state.handle_status(other);
        press(&mut state, "\t");
        assert_eq!((state.pool.as_deref(), listed(&state)), (Some("compute"), vec![1]));
        press(&mut state, "\t");
        assert_eq!((state.pool.as_deref(), listed(&state), state.selected), (Some("gpu"), vec![2], Some(2)));
        press(&mut state, "\t");
        assert_eq!((state.pool.as_deref(), listed(&state)), (None, vec![1, 2]));
        state.handle_key(Key::Left);
        assert_eq!(state.pool.as_deref(), Some("gpu"));
        // A pool that is no more can't be the picked one.
        state.handle_status(status(vec![worker(1, 0)]));
        assert_eq!((state.pool.as_deref(), listed(&state)), (None, vec![1]));
    }

    #[test]
    fn keys_quit() {
        for key in [Key::Char('q'), Key::Escape, Key::Interrupt] {
            assert_eq!(state().handle_key(key), Some(Act::Quit), "{key:?}");
        }
        // Of what lies above the view, only Ctrl-C leaves everything.
        let mut state = state();
        assert_eq!(press(&mut state, "?q"), []);
        assert_eq!(press(&mut state, "dq"), []);
        press(&mut state, "d");
        assert_eq!(state.handle_key(Key::Interrupt), Some(Act::Quit));
    }
}
