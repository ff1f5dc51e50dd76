//! `--watch`: prints something again and again, in place on a terminal, until Ctrl-C.

use std::convert::Infallible;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use giostra_client::{Client, Error};
use giostra_common::stdio::stdout;
use log::LevelFilter;
use ratatui::crossterm::cursor::{MoveTo, MoveToColumn, MoveUp};
use ratatui::crossterm::queue;
use ratatui::crossterm::style::Print;
use ratatui::crossterm::terminal::{Clear, ClearType};
use serde_json::{Value, json};

use super::common::CommonArgs;
use super::exit::Exit;
use super::failure::report_error;
use super::live::ask;
use super::table::Room;
use super::written::shortened;

/// The size that is assumed of a terminal that doesn't know its own.
const SIZE: (usize, usize) = (80, 24);

/// Something that is watched.
pub trait Watched {
    /// What the broker says about it.
    type Seen;

    /// Asks the broker.
    fn ask(&mut self, client: &mut Client) -> Result<Self::Seen, Error>;

    /// Returns lines that fit.
    fn lines(seen: &Self::Seen, room: Room) -> Vec<String>;

    /// Returns lines of which those that do not fit are left out in the right places.
    fn fitted(seen: &Self::Seen, room: Room) -> Vec<String> {
        Self::lines(seen, room)
    }

    /// Returns an object of JSON.
    fn json(seen: &Self::Seen) -> serde_json::Result<Value>;

    /// Returns the object for one of several brokers.
    fn json_of(broker: &str, seen: &Self::Seen) -> serde_json::Result<Value> {
        Ok(json!({"broker": broker, "status": Self::json(seen)?}))
    }

    /// Asks once, and prints the answer.
    fn print(&mut self, client: &mut Client, common: &CommonArgs) -> anyhow::Result<Self::Seen> {
        let seen = self.ask(client)?;
        match common.json {
            true => writeln!(stdout(), "{}", Self::json(&seen)?)?,
            false => writeln!(stdout(), "{}", Self::lines(&seen, Room::of_stdout()).join("\n"))?,
        }
        Ok(seen)
    }

    /// Asks and prints until Ctrl-C ends it, which is success. An error if a lone broker never answers.
    fn watch(&mut self, client: &mut Client, interval: Duration, common: &CommonArgs) -> anyhow::Result<Exit> {
        let first = self.ask(client)?;
        // A missing broker is reported here, not by the client's log.
        log::set_max_level(LevelFilter::Error);
        let terminal = std::io::stdout().is_terminal();
        let mut view = match (common.json, terminal) {
            (true, _) => View::Json,
            (false, true) => View::InPlace { last: Vec::new(), drawn: None },
            (false, false) => View::Pages { first: true },
        };
        let Err(error) = follow(self, client, first, interval, common, &mut view);
        if !matches!(error.downcast_ref(), Some(Error::Interrupted)) {
            return Err(error);
        }
        if terminal {
            // The cursor is behind a ^C.
            writeln!(stdout())?;
        }
        Ok(Exit::Success)
    }
}

/// Shows it until there is an error, such as Ctrl-C.
fn follow<W: Watched + ?Sized>(
    watched: &mut W,
    client: &mut Client,
    mut seen: W::Seen,
    interval: Duration,
    common: &CommonArgs,
    view: &mut View,
) -> anyhow::Result<Infallible> {
    let mut reported = String::new();
    loop {
        view.show::<W>(&seen)?;
        // No reply can come: this is a sleep that Ctrl-C ends.
        client.next_reply(Some(interval))?;
        if client.without_broker_since().is_none() {
            reported.clear();
        }
        let gone = |why: String| {
            if reported != why {
                view.report(&why);
                reported = why;
            }
        };
        seen = ask(client, &common.broker, gone, |client| watched.ask(client))?;
    }
}

/// The ways to show it.
enum View {
    /// As an object per line.
    Json,
    /// One after the other, with an empty line between.
    Pages { first: bool },
    /// Each over the one before: the lines that were shown last, and the terminal's size and the number
    /// of rows above the cursor then.
    InPlace { last: Vec<String>, drawn: Option<((usize, usize), usize)> },
}

impl View {
    fn show<W: Watched + ?Sized>(&mut self, seen: &W::Seen) -> anyhow::Result<()> {
        match self {
            Self::Json => writeln!(stdout(), "{}", W::json(seen)?)?,
            Self::Pages { first } => {
                let between = if std::mem::take(first) { "" } else { "\n" };
                writeln!(stdout(), "{between}{}", W::lines(seen, Room::default()).join("\n"))?;
            }
            Self::InPlace { last, drawn } => {
                *last = W::fitted(seen, Room::of_stdout());
                draw(last, drawn)?;
            }
        }
        Ok(())
    }

    /// Reports why there is nothing to show.
    fn report(&mut self, why: &str) {
        let Self::InPlace { last, drawn } = self else { return report_error(why) };
        let (width, _) = Room::of_stdout().size.unwrap_or(SIZE);
        let lines: Vec<_> = [shortened(why, width), String::new()].into_iter().chain(last.iter().cloned()).collect();
        // On top, where it is visible however long the tables are. An error of stdout shows again with
        // the next answer.
        let _ = draw(&lines, drawn);
    }
}

/// Draws the lines over those that were drawn before.
fn draw(lines: &[String], drawn: &mut Option<((usize, usize), usize)>) -> anyhow::Result<()> {
    let size = Room::of_stdout().size.unwrap_or(SIZE);
    let lines = cut(lines.to_vec(), size.1);
    let mut out = Vec::new();
    match *drawn {
        Some((before, rows)) if before == size => {
            queue!(out, MoveToColumn(0))?;
            if rows > 0 {
                queue!(out, MoveUp(rows.try_into().unwrap_or(u16::MAX)))?;
            }
        }
        // The terminal has wrapped the old lines at other places.
        Some(_) => queue!(out, Clear(ClearType::All), MoveTo(0, 0))?,
        None => {}
    }
    for line in &lines {
        queue!(out, Print(line), Clear(ClearType::UntilNewLine), Print("\n"))?;
    }
    queue!(out, Clear(ClearType::FromCursorDown))?;
    *drawn = Some((size, lines.len()));
    Ok(stdout().write_all(&out)?)
}

/// Returns as many lines as fit above the cursor in a terminal of that height. The last of them says
/// how many are left out.
pub fn cut(mut lines: Vec<String>, height: usize) -> Vec<String> {
    let room = height.saturating_sub(1).max(1);
    if lines.len() > room {
        let left_out = lines.len() - (room - 1);
        lines.truncate(room - 1);
        lines.push(format!("… and {left_out} more lines"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_higher_than_the_terminal_is_cut() {
        let lines = || ["a", "b", "c"].map(String::from).to_vec();
        assert_eq!(cut(lines(), 4), ["a", "b", "c"]);
        assert_eq!(cut(lines(), 3), ["a", "… and 2 more lines"]);
        assert_eq!(cut(lines(), 0), ["… and 3 more lines"]);
    }
}
