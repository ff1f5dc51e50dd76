//! What `up` shows: lines with names before them, written by a thread of its own, so that a reader
//! that does not read holds up nobody.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use giostra_common::stdio::Retrying;

use crate::printed::escaped;

/// The number of lines that wait for a reader. Further ones are not shown.
const MAX_WAITING: usize = 10_000;

/// How long the last lines wait for a reader.
const LAST: Duration = Duration::from_secs(1);

/// Where lines are shown.
pub struct Output {
    /// `None` once it was finished.
    lines: Option<SyncSender<String>>,
    done: Receiver<()>,
    /// The length of the longest name.
    width: usize,
}

impl Output {
    /// Starts to show lines on stdout, or on stderr if stdout is for an object.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(width: usize, to_stderr: bool) -> io::Result<Self> {
        let (lines, shown) = sync_channel::<String>(MAX_WAITING);
        let (is_done, done) = sync_channel(1);
        let show = move || {
            let mut stderr = Retrying(io::stderr());
            let mut stdout = Retrying(io::stdout());
            let out: &mut dyn Write = if to_stderr { &mut stderr } else { &mut stdout };
            for line in shown {
                // Nobody can be told that it can't be written.
                let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
            }
            let _ = is_done.send(());
        };
        thread::Builder::new().name("output".into()).spawn(show)?;
        Ok(Self { lines: Some(lines), done, width })
    }

    /// Shows a line of a process.
    pub fn line(&self, name: &str, text: &str) {
        let text = escaped(text.as_bytes());
        self.show(format!("{name:width$} | {}\n", String::from_utf8_lossy(&text), width = self.width));
    }

    /// Shows a line of `up` itself.
    pub fn say(&self, text: &str) {
        self.show(format!("{text}\n"));
    }

    fn show(&self, line: String) {
        if let Some(lines) = &self.lines {
            let _ = lines.try_send(line);
        }
    }
}

impl Drop for Output {
    /// Waits until all is shown, but not for ever.
    fn drop(&mut self) {
        drop(self.lines.take());
        let _ = self.done.recv_timeout(LAST);
    }
}
