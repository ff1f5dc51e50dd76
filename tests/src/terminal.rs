//! A terminal of a test's own, and a program on it: what it draws, and what the terminal is like
//! when it has ended.
//!
//! Needs `setsid` of util-linux: the program is to find this terminal, not that of whoever runs the
//! tests.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, ttyname};

use crate::process::{binary, wait_for};

/// A terminal with a running program. That is killed when this is dropped.
pub struct Terminal {
    child: Child,
    /// The terminal's other side: what is written here are keys.
    keys: File,
    parser: Arc<Mutex<vt100::Parser>>,
    path: PathBuf,
    /// How it handled keys before the program began.
    before: LocalFlags,
}

impl Terminal {
    /// Starts a binary of the workspace on a terminal of this many columns and rows.
    pub fn start(columns: u16, rows: u16, program: &str, args: &[String]) -> Result<Self> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None)?;
        let (path, before) = (ttyname(&slave)?, tcgetattr(&slave)?.local_flags);
        let [stdin, stdout] = [slave.try_clone()?, slave.try_clone()?];
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(binary(program)?)
            .args(args)
            .env_clear()
            .envs(std::env::vars_os().filter(|(key, _)| !key.as_encoded_bytes().starts_with(b"GIOSTRA_")))
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(stdin)
            .stdout(stdout)
            .stderr(slave)
            .spawn()
            .context("there is no `setsid`, of util-linux")?;
        let parser = Arc::new(Mutex::new(vt100::Parser::new(at_least_one(rows), at_least_one(columns), 0)));
        draw(master.try_clone()?, Arc::clone(&parser))?;
        Ok(Self { child, keys: master.into(), parser, path, before })
    }

    /// Presses keys: letters are themselves, `\x1b` is Esc, `\x03` Ctrl-C.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        Ok(self.keys.write_all(keys.as_bytes())?)
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        self.with(vt100::Screen::contents)
    }

    /// Waits until this is on the screen.
    pub fn wait_to_see(&self, text: &str) -> Result<()> {
        self.wait_until(text, |screen| screen.contains(text))
    }

    /// Waits until the screen is so.
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<()> {
        let seen = wait_for(what, || is_so(&self.screen()).then_some(()));
        seen.with_context(|| format!("on the screen:\n{}", self.screen()))
    }

    /// Makes it larger or smaller, as the user of a window does.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let mut parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        parser.screen_mut().set_size(at_least_one(rows), at_least_one(columns));
        drop(parser);
        let [columns, rows] = [columns, rows].map(|length| length.to_string());
        let terminal = File::open(&self.path)?;
        let ended = Command::new("stty").args(["rows", &rows, "cols", &columns]).stdin(terminal).status()?;
        ensure!(ended.success(), "stty failed");
        Ok(())
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id() as i32), signal)?)
    }

    /// Waits until the program ends.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let what = format!("it ends; on the screen:\n{}", self.screen());
        let child = &mut self.child;
        wait_for(&what, || child.try_wait().transpose())?.map_err(Into::into)
    }

    /// Whether the terminal has a screen of the program's own.
    pub fn is_taken(&self) -> bool {
        self.with(vt100::Screen::alternate_screen)
    }

    /// Waits until the terminal is as it was before the program began, but for what is written on
    /// it.
    pub fn wait_until_restored(&self) -> Result<()> {
        wait_for("the terminal is restored", || {
            let drawn = self.with(|screen| !screen.alternate_screen() && !screen.hide_cursor());
            let keys = tcgetattr(&self.keys).ok()?.local_flags;
            (drawn && keys == self.before).then_some(())
        })
    }

    fn with<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.parser.lock().unwrap_or_else(PoisonError::into_inner).screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended, and have been waited for, already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn at_least_one(length: u16) -> NonZeroU16 {
    NonZeroU16::new(length).unwrap_or(NonZeroU16::MIN)
}

/// Draws, in a thread, what the program writes, until it has ended.
fn draw(output: OwnedFd, parser: Arc<Mutex<vt100::Parser>>) -> Result<()> {
    let mut output = File::from(output);
    let read = move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            parser.lock().unwrap_or_else(PoisonError::into_inner).process(&buffer[..count]);
        }
    };
    thread::Builder::new().name("terminal".into()).spawn(read)?;
    Ok(())
}
