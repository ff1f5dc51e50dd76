//! `giostra status --watch`: the status again and again, in place on a terminal, until Ctrl-C.

use std::convert::Infallible;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use giostra_client::{Client, Error};
use giostra_common::stdio::stdout;
use giostra_protocol::Status;
use log::LevelFilter;
use ratatui::crossterm::cursor::{MoveTo, MoveToColumn, MoveUp};
use ratatui::crossterm::queue;
use ratatui::crossterm::style::Print;
use ratatui::crossterm::terminal::{Clear, ClearType};

use super::lines::lines;
use crate::common::CommonArgs;
use crate::exit::Exit;
use crate::failure::report_error;
use crate::live::ask;
use crate::table::Room;
use crate::written::shortened;

/// What a terminal that doesn't know its size is taken for.
const WIDTH: usize = 80;
const HEIGHT: usize = 24;

/// Prints the status until Ctrl-C ends it, which is success. An error if the broker never answers.
pub fn run(client: &mut Client, interval: Duration, common: &CommonArgs) -> anyhow::Result<Exit> {
    let first = client.status()?;
    // What there is to say about a missing broker is said here.
    log::set_max_level(LevelFilter::Error);
    let terminal = std::io::stdout().is_terminal();
    let Err(error) = if common.json {
        follow(client, first, interval, common, &mut Json)
    } else if terminal {
        follow(client, first, interval, common, &mut InPlace::default())
    } else {
        follow(client, first, interval, common, &mut Pages::default())
    };
    if !matches!(error.downcast_ref(), Some(Error::Interrupted)) {
        return Err(error);
    }
    if terminal {
        // The cursor stands behind a ^C.
        writeln!(stdout())?;
    }
    Ok(Exit::Success)
}

/// Where the status goes.
trait Show {
    /// Shows the newest one.
    fn status(&mut self, status: &Status) -> anyhow::Result<()>;

    /// Says why none comes.
    fn trouble(&mut self, why: &str) {
        report_error(why);
    }
}

/// Ends only with an error, of which Ctrl-C is one.
fn follow(
    client: &mut Client,
    mut status: Status,
    interval: Duration,
    common: &CommonArgs,
    show: &mut impl Show,
) -> anyhow::Result<Infallible> {
    loop {
        show.status(&status)?;
        // No reply can come: this is a sleep that Ctrl-C ends.
        client.next_reply(Some(interval))?;
        let mut said = String::new();
        status = ask(client, &common.broker, |why| {
            if said != why {
                show.trouble(&why);
                said = why;
            }
        })?;
    }
}

/// An object a line.
struct Json;

impl Show for Json {
    fn status(&mut self, status: &Status) -> anyhow::Result<()> {
        Ok(writeln!(stdout(), "{}", serde_json::to_string(status)?)?)
    }
}

/// One after the other, an empty line between them.
#[derive(Default)]
struct Pages {
    begun: bool,
}

impl Show for Pages {
    fn status(&mut self, status: &Status) -> anyhow::Result<()> {
        let between = if std::mem::replace(&mut self.begun, true) { "\n" } else { "" };
        Ok(writeln!(stdout(), "{between}{}", lines(status, Room::default()).join("\n"))?)
    }
}

/// Each in the place of the one before.
#[derive(Default)]
struct InPlace {
    /// What was shown last.
    last: Vec<String>,
    /// For a terminal of which size, and in how many rows above the cursor.
    drawn: Option<((usize, usize), usize)>,
}

impl InPlace {
    fn draw(&mut self, lines: Vec<String>) -> anyhow::Result<()> {
        let size = Room::of_stdout().size.unwrap_or((WIDTH, HEIGHT));
        let lines = cut(lines, size.1);
        let mut out = Vec::new();
        match self.drawn {
            Some((same, rows)) if same == size => {
                queue!(out, MoveToColumn(0))?;
                if rows > 0 {
                    queue!(out, MoveUp(rows.try_into().unwrap_or(u16::MAX)))?;
                }
            }
            // Its lines have been broken anew, nobody knows where.
            Some(_) => queue!(out, Clear(ClearType::All), MoveTo(0, 0))?,
            None => {}
        }
        for line in &lines {
            queue!(out, Print(line), Clear(ClearType::UntilNewLine), Print("\n"))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        self.drawn = Some((size, lines.len()));
        Ok(stdout().write_all(&out)?)
    }
}

impl Show for InPlace {
    fn status(&mut self, status: &Status) -> anyhow::Result<()> {
        self.last = lines(status, Room::of_stdout());
        self.draw(self.last.clone())
    }

    fn trouble(&mut self, why: &str) {
        let width = Room::of_stdout().width().unwrap_or(WIDTH);
        // On top, where it is seen however long the tables are. If stdout is gone, the next status finds
        // that out.
        let _ = self.draw([shortened(why, width), String::new()].into_iter().chain(self.last.clone()).collect());
    }
}

/// As many lines as a terminal of that height shows above its cursor, the last of them about those
/// that are left out.
fn cut(mut lines: Vec<String>, height: usize) -> Vec<String> {
    let most = height.saturating_sub(1).max(1);
    if lines.len() > most {
        let left_out = lines.len() - (most - 1);
        lines.truncate(most - 1);
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
