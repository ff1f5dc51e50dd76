//! Any program as a worker: a process for each request, or one for each thread that stays and is
//! asked line by line.
//!
//! Nothing in a request is ever interpreted: it becomes words of the command, which no shell reads,
//! or stdin. A request ends when its process does, and all of its process group ends with it.
//! [`guard`] ends what is left when the worker itself is killed. `docs/exec.md` is the page for
//! users.

pub mod args;
mod body;
mod child;
pub mod guard;
mod json;
mod lines;
mod msgpack;
mod process;
mod program;
mod reaper;
mod tail;
mod template;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use giostra_protocol::{Bytes, Failure};
use giostra_worker::{Job, Service, split_request};

pub use lines::{LineFormat, Lines};
pub use process::Format;
pub use program::{Limits, Program};
pub use template::{BadCommand, Template};

use msgpack::invalid;
use program::Stop;
use tail::Tail;

/// A [`Service`] of one operation, which a program computes. Clones share it.
#[derive(Clone, Debug)]
pub struct Exec(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    operation: String,
    program: Program,
    mode: Mode,
}

/// How a program is run.
#[derive(Debug)]
pub enum Mode {
    /// Once for each request.
    Process(Format),
    /// Once for each thread, and asked line by line.
    Lines(Lines),
}

impl Exec {
    /// Creates the service of this operation.
    pub fn new(operation: String, program: Program, mode: Mode) -> Self {
        Self(Arc::new(Inner { operation, program, mode }))
    }

    /// Ends all processes, also those that are computing, when the worker itself ends. Waits for
    /// that within bounds.
    pub fn close(&self) {
        let Inner { program, mode, .. } = &*self.0;
        program.closing.store(true, Ordering::Release);
        let grace = program.limits.grace;
        if let Mode::Lines(lines) = mode {
            lines.close(grace);
        }
        if !program.guard.wait(grace.saturating_add(Duration::from_secs(1))) {
            log::warn!("not all processes of {} have ended", program.name());
        }
        program.guard.dismiss();
    }
}

impl Service for Exec {
    fn operations(&self) -> Vec<String> {
        vec![self.0.operation.clone()]
    }

    fn is_able(&self) -> Result<(), String> {
        self.0.program.is_there()
    }

    fn compute(&self, body: &Bytes, job: &Job<'_>) -> Result<Bytes, Failure> {
        let Inner { operation, program, mode } = &*self.0;
        if program.closing.load(Ordering::Acquire) {
            return Err(program.stopped(Stop::Unwanted, &Tail::default()));
        }
        let (name, arguments) = split_request(body).ok_or_else(|| invalid("a request is [operation, arguments]"))?;
        if name != operation {
            return Err(invalid(format!("unknown operation '{name}'; this pool offers {operation}")));
        }
        let arguments = body.slice_ref(arguments);
        match mode {
            Mode::Process(format) => process::compute(program, *format, &arguments, job),
            Mode::Lines(lines) => lines.compute(program, &arguments, job),
        }
    }
}
