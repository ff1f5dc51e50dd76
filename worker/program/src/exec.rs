//! Any program as a worker: a process for each request, or a long-lived one for each thread that is
//! asked line by line.
//!
//! What comes from a request is never interpreted: it becomes words of the command, which no shell
//! reads, or stdin. A request ends when its process does, and with it all of its process group.
//! [`guard`] sees to what is left when the worker itself is killed. `docs/exec.md` tells it for
//! users.

pub mod args;
mod body;
mod child;
pub mod guard;
mod lines;
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

pub use lines::LineFormat;
pub use process::Format;
pub use program::{Limits, Program};
pub use template::{BadCommand, Template};

use body::invalid;
use lines::Lines;
use program::Stop;
use tail::Tail;

/// A [`Service`] of one operation: a program. A handle, of which there may be several.
#[derive(Clone, Debug)]
pub struct Exec(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    operation: String,
    program: Program,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Process(Format),
    Lines(Lines),
}

impl Exec {
    /// A process for each request.
    pub fn each(operation: String, program: Program, format: Format) -> Self {
        Self(Arc::new(Inner { operation, program, way: Way::Process(format) }))
    }

    /// A process for each of so many threads, with which it talks line by line.
    pub fn lines(operation: String, program: Program, threads: usize, format: LineFormat) -> Self {
        Self(Arc::new(Inner { operation, program, way: Way::Lines(Lines::new(threads, format)) }))
    }

    /// Ends all processes, those included that are computing: for when the worker itself ends.
    /// Waits for that, within bounds.
    pub fn close(&self) {
        let Inner { program, way, .. } = &*self.0;
        program.closing.store(true, Ordering::Release);
        let grace = program.limits.grace;
        if let Way::Lines(lines) = way {
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
        let Inner { operation, program, way } = &*self.0;
        if program.closing.load(Ordering::Acquire) {
            return Err(program.stopped(Stop::Unwanted, &Tail::default()));
        }
        let (name, arguments) = split_request(body).ok_or_else(|| invalid("a request is [operation, arguments]"))?;
        if name != operation {
            return Err(invalid(format!("unknown operation '{name}'; this pool offers {operation}")));
        }
        let arguments = body.slice_ref(arguments);
        match way {
            Way::Process(format) => process::compute(program, *format, &arguments, job),
            Way::Lines(lines) => lines.compute(program, &arguments, job),
        }
    }
}
