//! What has been answered and not been taken yet, and how its taker is woken.

use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;
use std::{io, mem};

use giostra_transport::wake::{self, Alarm};

/// The numbers of tasks that may have been answered. Any thread adds some, and one takes them: it waits
/// for them here, or at a descriptor in an event loop.
pub struct Ready {
    state: Mutex<State>,
    some: Condvar,
    alarm: Mutex<Alarm>,
    waker: wake::Waker,
    /// Whether anybody looks at the descriptor.
    is_watched: AtomicBool,
}

#[derive(Default)]
struct State {
    tokens: Vec<u64>,
    is_closed: bool,
}

impl Ready {
    /// Nothing so far.
    pub fn new() -> io::Result<Arc<Self>> {
        let (waker, alarm) = wake::alarm()?;
        let (state, some) = (Mutex::default(), Condvar::new());
        Ok(Arc::new(Self { state, some, alarm: Mutex::new(alarm), waker, is_watched: AtomicBool::new(false) }))
    }

    /// Returns a waker for the task with this number.
    pub fn waker(self: &Arc<Self>, token: u64) -> Waker {
        Waker::from(Arc::new(Notify { token, ready: Arc::clone(self) }))
    }

    /// Adds a task.
    pub fn add(&self, token: u64) {
        let mut state = self.state();
        state.tokens.push(token);
        let is_first = state.tokens.len() == 1;
        drop(state);
        if is_first {
            self.some.notify_all();
            if self.is_watched.load(Ordering::Acquire) {
                self.waker.wake();
            }
        }
    }

    /// Returns the descriptor that is readable while there are some.
    pub fn descriptor(&self) -> RawFd {
        self.is_watched.store(true, Ordering::Release);
        // There may have been some before.
        self.waker.wake();
        self.alarm.lock().unwrap_or_else(PoisonError::into_inner).as_fd().as_raw_fd()
    }

    /// Takes all. `None` once it is closed.
    pub fn take(&self) -> Option<Vec<u64>> {
        if self.is_watched.load(Ordering::Acquire) {
            self.alarm.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let mut state = self.state();
        (!state.is_closed).then(|| mem::take(&mut state.tokens))
    }

    /// Waits until there are some or it is closed, for this long at most if it is given.
    pub fn wait(&self, at_most: Option<Duration>) {
        let is_idle = |state: &mut State| state.tokens.is_empty() && !state.is_closed;
        let state = self.state();
        match at_most {
            Some(time) => drop(self.some.wait_timeout_while(state, time, is_idle)),
            None => drop(self.some.wait_while(state, is_idle)),
        }
    }

    /// Ends all waiting, now and later.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.some.notify_all();
        self.waker.wake();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a task when it is woken.
struct Notify {
    token: u64,
    ready: Arc<Ready>,
}

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        self.ready.add(self.token);
    }
}
