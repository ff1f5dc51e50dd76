//! Log lines of the native part on their way to Python's `logging`.
//!
//! A thread of Python's fetches them: threads of the native part never wait for the interpreter, which
//! an operation may hold for minutes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;

/// The most lines that wait. Later ones are dropped.
const MOST: usize = 10_000;

/// The lines that wait: the level as Python counts it, the target, the text.
#[derive(Default)]
struct Lines {
    waiting: VecDeque<(u32, String, String)>,
    is_closed: bool,
}

struct Queue {
    lines: Mutex<Lines>,
    some: Condvar,
}

static QUEUE: Queue =
    Queue { lines: Mutex::new(Lines { waiting: VecDeque::new(), is_closed: false }), some: Condvar::new() };

impl Queue {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Queue {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            log::Level::Error => 40,
            log::Level::Warn => 30,
            log::Level::Info => 20,
            log::Level::Debug => 10,
            log::Level::Trace => 5,
        };
        let mut lines = self.lines();
        if lines.waiting.len() < MOST {
            lines.waiting.push_back((level, record.target().replace("::", "."), record.args().to_string()));
            self.some.notify_one();
        }
    }

    fn flush(&self) {}
}

/// Has lines from this level of Python's on kept for `log_lines`.
#[pyfunction]
pub fn log_level(level: u32) {
    // The first call is by the import of the package; nobody else in this library sets a logger.
    let _ = log::set_logger(&QUEUE);
    log::set_max_level(match level {
        0..=9 => LevelFilter::Trace,
        10..=19 => LevelFilter::Debug,
        20..=29 => LevelFilter::Info,
        30..=39 => LevelFilter::Warn,
        _ => LevelFilter::Error,
    });
}

/// Waits for lines, and takes them: the level as Python counts it, the target, the text. `None` once
/// they were closed and taken.
#[pyfunction]
pub fn log_lines(py: Python<'_>) -> Option<Vec<(u32, String, String)>> {
    py.detach(|| {
        let is_idle = |lines: &mut Lines| lines.waiting.is_empty() && !lines.is_closed;
        let mut lines = QUEUE.some.wait_while(QUEUE.lines(), is_idle).unwrap_or_else(PoisonError::into_inner);
        (!lines.waiting.is_empty()).then(|| lines.waiting.drain(..).collect())
    })
}

/// Has `log_lines` return what there is, and then `None`.
#[pyfunction]
pub fn log_close() {
    QUEUE.lines().is_closed = true;
    QUEUE.some.notify_all();
}
