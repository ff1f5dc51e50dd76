//! The state of the view, which keys and the broker's answers change. It touches neither the terminal
//! nor the broker.

use std::time::Duration;

use giostra_protocol::{History, HostStatus, LostStatus, PoolStatus, Status, WorkerStatus};

use super::keys::Key;
use super::sort::Sort;
use crate::hosts;

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
    /// Whether hosts are listed instead of workers.
    pub by_host: bool,
    /// The host whose workers are listed; `None` for all.
    pub host: Option<String>,
    /// The name of the selected host.
    pub selected_host: Option<String>,
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
        let listed = |worker: &&WorkerStatus| self.lists(&worker.pool, &worker.host);
        let mut workers: Vec<_> = self.status.workers.iter().filter(listed).collect();
        self.sort.apply(&mut workers);
        workers
    }

    /// Returns the workers of the listed pools that were dropped and have not come back, the latest
    /// first.
    pub fn lost(&self) -> Vec<&LostStatus> {
        self.status.lost.iter().rev().filter(|lost| self.lists(&lost.pool, &lost.host)).collect()
    }

    fn lists(&self, pool: &str, host: &str) -> bool {
        self.pool.as_ref().is_none_or(|listed| listed == pool) && self.host.as_ref().is_none_or(|listed| listed == host)
    }

    /// Returns the hosts of the listed pools, those in trouble first.
    pub fn hosts(&self) -> Vec<HostStatus> {
        hosts::of_workers(self.workers(), self.lost())
    }

    /// Returns the number of rows that there are to list.
    pub fn rows(&self) -> usize {
        if self.by_host { self.hosts().len() } else { self.workers().len() + self.lost().len() }
    }

    /// Returns the last seconds of the picked pool, or of all.
    pub fn history(&self) -> &History {
        let picked = self.status.pools.iter().find(|pool| Some(&pool.name) == self.pool.as_ref());
        picked.map(|pool| &pool.history).filter(|history| history.step_ms > 0).unwrap_or(&self.status.history)
    }

    /// Returns the index of the selected host in the list.
    pub fn host_place(&self) -> Option<usize> {
        self.hosts().iter().position(|host| Some(&host.name) == self.selected_host.as_ref())
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
        let place = self.row().unwrap_or(0);
        self.status = status;
        if self.pool.as_ref().is_some_and(|picked| self.status.pools.iter().all(|pool| pool.name != *picked)) {
            self.pool = None;
        }
        if self.host.is_some() && self.workers().is_empty() && self.lost().is_empty() {
            self.host = None;
        }
        if self.row().is_none() {
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
            Key::Up | Key::Char('k') => self.select(self.row().unwrap_or(0).saturating_sub(1)),
            Key::Down | Key::Char('j') => self.select(self.row().map_or(0, |place| place + 1)),
            Key::Home => self.select(0),
            Key::End => self.select(usize::MAX),
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Char('p') => self.pause(),
            Key::Char('g') => self.group(!self.by_host),
            Key::Enter if self.by_host => {
                self.host = self.selected_host.clone();
                self.group(false);
            }
            Key::Char('d') if self.by_host => self.notice = Some("g, or Enter, lists the workers to drain".into()),
            Key::Char('d') => self.ask_to_drain(),
            Key::Char('?' | 'h') => self.help = true,
            Key::Tab | Key::Right => self.pick_pool(1),
            Key::BackTab | Key::Left => self.pick_pool(-1),
            _ => {}
        }
        None
    }

    /// Lists hosts, all of them, or workers.
    fn group(&mut self, by_host: bool) {
        self.by_host = by_host;
        if by_host {
            self.host = None;
        }
        if self.row().is_none() {
            self.select(0);
        }
    }

    /// Returns the index of the selected row in the list.
    fn row(&self) -> Option<usize> {
        if self.by_host { self.host_place() } else { self.place() }
    }

    /// Selects the worker, or the host, at that index, or the last one.
    fn select(&mut self, place: usize) {
        if self.by_host {
            let hosts = self.hosts();
            self.selected_host = hosts.get(place).or(hosts.last()).map(|host| host.name.clone());
            return;
        }
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
        if self.row().is_none() {
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
