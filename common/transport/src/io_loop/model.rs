//! A model of who runs the I/O loop, and of its signals, in all interleavings.
//!
//! `poller.cpp` and `mailbox.cpp` in `zmq-sys` as a state machine, one step for each access to what
//! threads share. Work arrives, a keeper and guests come and go, and guests may go for ever at any
//! time. Searched breadth-first:
//!
//! - never do two threads run the loop,
//! - no state is a dead end with work in it: somebody handles it, whoever computes or sleeps.

use std::collections::{HashSet, VecDeque};

/// Guests at most, and what each does.
const GUESTS: usize = 2;

/// Ticks after which the keeper rests. In `poller.cpp` it is 2, too.
const TICKS_BEFORE_REST: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Runner {
    Nobody,
    Keeper,
    Guest,
}

/// What all threads share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shared {
    runner: Runner,
    visits: u8,
    waiting: u8,
    followers: u8,
    resting: bool,
    recalled: bool,
    /// Whether somebody holds the mutex.
    is_locked: bool,
    /// Whether the keeper has been notified in its wait, and whether the guests have.
    keeper_notified: bool,
    bell: bool,
    /// The mailbox: its signal, whether its reader is armed, and whether the descriptor is readable.
    sent: bool,
    armed: bool,
    written: bool,
}

/// What is left out, to show that the search would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    EntersBesideTheKeeper,
    LeavesWithoutWakingTheKeeper,
    SleepsWithoutLookingAgain,
    TakesTheArmingAndDoesNotWrite,
}

/// What the one who runs the loop does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Running {
    /// `push`, before the sleep.
    Push,
    Arm,
    LookAfterArming,
    Sleep,
    Disarm,
    /// A sender has taken the arming, and writes.
    AwaitWrite,
    PushAfter,
}

/// What the keeper does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Keeper {
    Begin,
    Runs(Running),
    Leave,
    /// `await_absence`, from here on: with the lock, but in `Rest` and `Tick`.
    Lock,
    Look,
    BeginRest,
    Rest,
    Tick,
    Relock,
    Compare,
}

/// What a guest does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Guest {
    /// Works outside, and may end there.
    Outside,
    Enter,
    Ring,
    Await,
    EnterAfter,
    StopWaiting(bool),
    Runs(Running),
    Count,
    Leave,
    AskForFollowers,
    Wake(bool),
    /// Follows: the work that it waits for is handled by others.
    Follow,
    RecallAfterFollow,
    Recall,
    Following,
    Gone,
}

/// A thread that sends work to the loop's mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sender {
    Send,
    TakeArming,
    Write,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    fault: Option<Fault>,
    shared: Shared,
    keeper: Keeper,
    /// The keeper's memory in `await_absence`.
    seen: u8,
    quiet: u8,
    guests: [Guest; GUESTS],
    /// How often each guest enters yet.
    left: [u8; GUESTS],
    sender: Sender,
    /// Messages that are sent yet.
    to_send: u8,
}

impl State {
    fn new(entries: [u8; GUESTS], to_send: u8, fault: Option<Fault>) -> Self {
        Self {
            fault,
            shared: Shared {
                runner: Runner::Nobody,
                visits: 0,
                waiting: 0,
                followers: 0,
                resting: false,
                recalled: false,
                is_locked: false,
                keeper_notified: false,
                bell: false,
                sent: false,
                armed: false,
                written: false,
            },
            keeper: Keeper::Begin,
            seen: 0,
            quiet: 0,
            guests: [Guest::Outside; GUESTS],
            left: entries,
            sender: if to_send > 0 { Sender::Send } else { Sender::Done },
            to_send,
        }
    }

    /// Returns all states that one step of one thread leads to.
    fn next(&self) -> Vec<Self> {
        let mut next = Vec::new();
        self.keeper_steps(&mut next);
        for guest in 0..GUESTS {
            self.guest_steps(guest, &mut next);
        }
        self.sender_step(&mut next);
        next
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut state = *self;
        change(&mut state);
        state
    }

    fn keeper_steps(&self, next: &mut Vec<Self>) {
        use Keeper::*;
        match self.keeper {
            Lock | Look | BeginRest | Rest | Tick | Relock | Compare => self.absence_steps(next),
            _ => self.keeping_steps(next),
        }
    }

    /// `keep`: the keeper takes the loop and runs it.
    fn keeping_steps(&self, next: &mut Vec<Self>) {
        let shared = &self.shared;
        let go = |keeper: Keeper| self.with(|state| state.keeper = keeper);
        match self.keeper {
            Keeper::Begin if shared.waiting > 0 || shared.runner != Runner::Nobody => next.push(go(Keeper::Lock)),
            Keeper::Begin => next.push(self.with(|state| {
                state.shared.runner = Runner::Keeper;
                state.keeper = Keeper::Runs(Running::Push);
            })),
            Keeper::Runs(Running::Sleep) if shared.bell || shared.written => next.push(self.with(|state| {
                state.shared.bell = false;
                state.keeper = Keeper::Runs(Running::Disarm);
            })),
            Keeper::Runs(Running::PushAfter) => next.push(self.with(|state| {
                state.shared.sent = false;
                state.keeper = if shared.waiting == 0 { Keeper::Runs(Running::Push) } else { Keeper::Leave };
            })),
            Keeper::Runs(at) => next.extend(self.running_step(at, |state, at| state.keeper = Keeper::Runs(at))),
            // Under the lock, which it gives back at once.
            Keeper::Leave if !shared.is_locked => next.push(self.with(|state| {
                state.shared.runner = Runner::Nobody;
                state.keeper = Keeper::Lock;
            })),
            _ => {}
        }
    }

    /// `await_absence`: the keeper sleeps until it is needed.
    fn absence_steps(&self, next: &mut Vec<Self>) {
        let shared = &self.shared;
        let is_free = !shared.is_locked;
        match self.keeper {
            Keeper::Lock if is_free => next.push(self.with(|state| {
                state.shared.is_locked = true;
                state.seen = shared.visits;
                state.quiet = 0;
                state.keeper = Keeper::Look;
            })),
            Keeper::Look if shared.recalled => next.push(self.with(|state| {
                state.shared.recalled = false;
                state.shared.is_locked = false;
                state.keeper = Keeper::Begin;
            })),
            Keeper::Look if self.quiet == TICKS_BEFORE_REST => next.push(self.with(|state| {
                state.shared.resting = true;
                state.keeper = Keeper::BeginRest;
            })),
            Keeper::Look => next.push(self.with(|state| {
                state.shared.is_locked = false;
                state.shared.keeper_notified = false;
                state.keeper = Keeper::Tick;
            })),
            Keeper::BeginRest if shared.runner == Runner::Guest => next.push(self.with(|state| {
                state.shared.is_locked = false;
                state.shared.keeper_notified = false;
                state.keeper = Keeper::Rest;
            })),
            Keeper::BeginRest => next.push(self.with(|state| {
                state.shared.resting = false;
                state.quiet = 0;
                state.keeper = Keeper::Look;
            })),
            // Sleeps without a limit: only a notice wakes it.
            Keeper::Rest if shared.keeper_notified && is_free && !shared.resting => next.push(self.with(|state| {
                state.shared.is_locked = true;
                state.quiet = 0;
                state.keeper = Keeper::Look;
            })),
            Keeper::Rest => {}
            // The time may be over at any moment.
            Keeper::Tick => next.push(self.with(|state| state.keeper = Keeper::Relock)),
            Keeper::Relock if is_free => next.push(self.with(|state| {
                state.shared.is_locked = true;
                state.keeper = Keeper::Compare;
            })),
            Keeper::Compare => next.push(self.with(|state| {
                let has_changed = shared.visits != self.seen;
                state.seen = shared.visits;
                if has_changed {
                    (state.quiet, state.keeper) = (0, Keeper::Look);
                } else if shared.runner == Runner::Guest {
                    (state.quiet, state.keeper) = (self.quiet + 1, Keeper::Look);
                } else {
                    state.shared.recalled = false;
                    state.shared.is_locked = false;
                    state.keeper = Keeper::Begin;
                }
            })),
            _ => {}
        }
    }

    fn guest_steps(&self, number: usize, next: &mut Vec<Self>) {
        use Guest::*;
        match self.guests[number] {
            Outside | Enter | Ring | Await | EnterAfter | StopWaiting(_) => self.entering_steps(number, next),
            Follow | RecallAfterFollow | Recall | Following => self.following_steps(number, next),
            Count | Leave | AskForFollowers | Wake(_) => self.leaving_steps(number, next),
            _ => self.inside_steps(number, next),
        }
    }

    fn entering_steps(&self, number: usize, next: &mut Vec<Self>) {
        let shared = &self.shared;
        let go = |guest: Guest| self.with(|state| state.guests[number] = guest);
        match self.guests[number] {
            Guest::Outside if self.left[number] == 0 => next.push(go(Guest::Gone)),
            Guest::Outside => next.push(self.with(|state| {
                state.left[number] -= 1;
                state.guests[number] = Guest::Enter;
            })),
            Guest::Enter => match shared.runner {
                Runner::Keeper if self.has(Fault::EntersBesideTheKeeper) => next.push(go(Guest::Runs(Running::Push))),
                Runner::Nobody => next.push(self.with(|state| {
                    state.shared.runner = Runner::Guest;
                    state.guests[number] = Guest::Runs(Running::Push);
                })),
                Runner::Guest => next.push(go(Guest::Follow)),
                Runner::Keeper => next.push(self.with(|state| {
                    state.shared.waiting += 1;
                    state.guests[number] = Guest::Ring;
                })),
            },
            Guest::Ring => next.push(self.with(|state| {
                state.shared.bell = true;
                state.guests[number] = Guest::Await;
            })),
            // The keeper has stepped aside, or the time is over.
            Guest::Await => next.push(go(Guest::EnterAfter)),
            Guest::EnterAfter => next.push(self.with(|state| {
                let entered = shared.runner == Runner::Nobody;
                if entered {
                    state.shared.runner = Runner::Guest;
                }
                state.guests[number] = Guest::StopWaiting(entered);
            })),
            Guest::StopWaiting(entered) => next.push(self.with(|state| {
                state.shared.waiting -= 1;
                state.guests[number] = if entered { Guest::Runs(Running::Push) } else { Guest::Follow };
            })),
            _ => {}
        }
    }

    fn inside_steps(&self, number: usize, next: &mut Vec<Self>) {
        let shared = &self.shared;
        let go = |guest: Guest| self.with(|state| state.guests[number] = guest);
        match self.guests[number] {
            // What else it waits for may come at any time, except that somebody may sleep for ever on an
            // idle connection: the last of all does.
            Guest::Runs(Running::Sleep) if shared.written || self.left[number] > 0 => {
                next.push(go(Guest::Runs(Running::Disarm)));
            }
            Guest::Runs(Running::PushAfter) => {
                next.push(self.with(|state| {
                    state.shared.sent = false;
                    state.guests[number] = Guest::Count;
                }));
                // `run_io` and `push` leave without a look.
                next.push(go(Guest::Count));
            }
            Guest::Runs(at) => {
                next.extend(self.running_step(at, |state, at| state.guests[number] = Guest::Runs(at)));
            }
            _ => {}
        }
    }

    /// The steps that are the same for all who run the loop.
    fn running_step(&self, at: Running, go: impl Fn(&mut Self, Running)) -> Option<Self> {
        let mut state = *self;
        let shared = &mut state.shared;
        let then = match at {
            Running::Push => {
                shared.sent = false;
                Running::Arm
            }
            Running::Arm => {
                shared.armed = true;
                Running::LookAfterArming
            }
            Running::LookAfterArming if shared.sent && !self.has(Fault::SleepsWithoutLookingAgain) => Running::Disarm,
            Running::LookAfterArming => Running::Sleep,
            Running::Disarm if std::mem::replace(&mut shared.armed, false) => Running::PushAfter,
            Running::Disarm => Running::AwaitWrite,
            Running::AwaitWrite if shared.written => {
                shared.written = false;
                Running::PushAfter
            }
            Running::AwaitWrite | Running::Sleep | Running::PushAfter => return None,
        };
        go(&mut state, then);
        Some(state)
    }

    fn leaving_steps(&self, number: usize, next: &mut Vec<Self>) {
        let shared = &self.shared;
        match self.guests[number] {
            Guest::Count => next.push(self.with(|state| {
                state.shared.visits = shared.visits.wrapping_add(1);
                state.guests[number] = Guest::Leave;
            })),
            Guest::Leave => next.push(self.with(|state| {
                state.shared.runner = Runner::Nobody;
                state.guests[number] = Guest::AskForFollowers;
            })),
            Guest::AskForFollowers => {
                let followed = shared.followers > 0;
                let wakes = (followed || shared.resting) && !self.has(Fault::LeavesWithoutWakingTheKeeper);
                next.push(self.with(|state| {
                    state.guests[number] = if wakes { Guest::Wake(followed) } else { Guest::Outside };
                }));
            }
            // Under the lock, which it gives back at once.
            Guest::Wake(recall) if !shared.is_locked => next.push(self.with(|state| {
                state.wake_keeper(recall);
                state.guests[number] = Guest::Outside;
            })),
            _ => {}
        }
    }

    fn following_steps(&self, number: usize, next: &mut Vec<Self>) {
        let shared = &self.shared;
        match self.guests[number] {
            Guest::Follow => next.push(self.with(|state| {
                state.shared.followers += 1;
                state.guests[number] = Guest::RecallAfterFollow;
            })),
            Guest::RecallAfterFollow => {
                let alone = shared.runner == Runner::Nobody;
                next.push(self.with(|state| {
                    state.guests[number] = if alone { Guest::Recall } else { Guest::Following };
                }));
            }
            Guest::Recall if !shared.is_locked => next.push(self.with(|state| {
                state.wake_keeper(true);
                state.guests[number] = Guest::Following;
            })),
            // What it waits for may come at any time.
            Guest::Following => next.push(self.with(|state| {
                state.shared.followers -= 1;
                state.guests[number] = Guest::Outside;
            })),
            _ => {}
        }
    }

    fn wake_keeper(&mut self, recall: bool) {
        self.shared.resting = false;
        self.shared.recalled |= recall;
        self.shared.keeper_notified = true;
    }

    fn sender_step(&self, next: &mut Vec<Self>) {
        match self.sender {
            // A mailbox signals only once its reader has found it empty.
            Sender::Send if self.shared.sent => {}
            Sender::Send => next.push(self.with(|state| {
                state.shared.sent = true;
                state.to_send -= 1;
                state.sender = Sender::TakeArming;
            })),
            Sender::TakeArming => next.push(self.with(|state| {
                let armed = std::mem::replace(&mut state.shared.armed, false);
                let writes = armed && !self.has(Fault::TakesTheArmingAndDoesNotWrite);
                state.sender = if writes { Sender::Write } else { state.sent() };
            })),
            Sender::Write => next.push(self.with(|state| {
                state.shared.written = true;
                state.sender = state.sent();
            })),
            Sender::Done => {}
        }
    }

    fn sent(&self) -> Sender {
        if self.to_send > 0 { Sender::Send } else { Sender::Done }
    }

    /// How many threads run the loop.
    fn runners(&self) -> usize {
        let keeps = matches!(self.keeper, Keeper::Runs(_) | Keeper::Leave);
        let is_inside =
            |guest: &&Guest| matches!(guest, Guest::StopWaiting(true) | Guest::Runs(_) | Guest::Count | Guest::Leave);
        usize::from(keeps) + self.guests.iter().filter(is_inside).count()
    }
}

/// Visits all states that can be reached. Returns how many there are, or what is wrong with one.
fn search(begin: State) -> Result<usize, String> {
    let (mut seen, mut queue) = (HashSet::from([begin]), VecDeque::from([begin]));
    while let Some(state) = queue.pop_front() {
        if state.runners() > 1 {
            return Err(format!("two threads run the loop: {state:?}"));
        }
        let next = state.next();
        if next.is_empty() && state.shared.sent {
            return Err(format!("work is left, and everybody sleeps: {state:?}"));
        }
        queue.extend(next.into_iter().filter(|next| seen.insert(*next)));
    }
    Ok(seen.len())
}

/// How often each guest enters, and how many messages are sent.
const CASES: [([u8; GUESTS], u8); 5] = [([0, 0], 2), ([2, 0], 2), ([3, 0], 1), ([1, 1], 2), ([2, 1], 1)];

#[test]
fn in_no_interleaving_is_work_left_or_the_loop_run_twice() {
    let search = |(entries, to_send)| search(State::new(entries, to_send, None)).unwrap();
    let states: usize = CASES.into_iter().map(search).sum();
    assert!(states > 10_000, "{states} states only");
}

#[test]
fn the_search_notices_each_step_that_is_left_out() {
    use Fault::*;
    let faults =
        [EntersBesideTheKeeper, LeavesWithoutWakingTheKeeper, SleepsWithoutLookingAgain, TakesTheArmingAndDoesNotWrite];
    for fault in faults {
        let mut cases = CASES.into_iter();
        let noticed = cases.any(|(entries, to_send)| search(State::new(entries, to_send, Some(fault))).is_err());
        assert!(noticed, "{fault:?} was not noticed");
    }
}
