//! Tables for people: as wide as their terminal, with a colour where something deserves a look.
//!
//! Where there is too little room, the columns that matter least are left out, and long names
//! shortened.

use std::io::{IsTerminal, stdout};

use clap::builder::styling::AnsiColor;
use ratatui::crossterm::terminal;

use super::written::{padded, shortened, width};

/// Between two columns.
const GAP: &str = "  ";

/// What a name is shortened to before a column is left out for it.
const NAME: usize = 24;

/// What stdout has room for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    /// Columns and rows, if it is a terminal.
    pub size: Option<(usize, usize)>,
    /// Whether it is to have colours.
    pub colours: bool,
}

impl Room {
    /// Looks at stdout. Whatever is no terminal has all the room, and no colours.
    pub fn of_stdout() -> Self {
        if !stdout().is_terminal() {
            return Self::default();
        }
        // A terminal that doesn't know its size calls it 0.
        let size = terminal::size().ok().filter(|&(width, height)| width > 0 && height > 0);
        Self { size: size.map(|(width, height)| (width.into(), height.into())), colours: colours() }
    }

    /// The columns, if there is a limit.
    pub fn width(&self) -> Option<usize> {
        self.size.map(|(width, _)| width)
    }
}

/// Whether a terminal is to have colours: not if it is a dumb one, nor if [`NO_COLOR`](https://no-color.org) is set.
pub fn colours() -> bool {
    let is = |name: &str, matches: fn(&str) -> bool| std::env::var(name).is_ok_and(|value| matches(&value));
    !is("NO_COLOR", |value| !value.is_empty()) && !is("TERM", |value| value == "dumb")
}

/// How much of a look something deserves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// When it is as ever.
    #[default]
    Plain,
    /// When it is as it should be.
    Good,
    /// When it will pass, and one may want to know.
    Notable,
    /// When something is wrong.
    Bad,
}

/// The tone of a worker's state.
pub fn of_state(state: &str) -> Tone {
    match state {
        "busy" => Tone::Good,
        "leaving" => Tone::Notable,
        "stuck" | "suspect" | "unable" | "lost" => Tone::Bad,
        _ => Tone::Plain,
    }
}

/// A text in a tone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The text.
    pub text: String,
    /// Its tone.
    pub tone: Tone,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// What it shows.
    pub head: &'static str,
    /// How soon it is left out: the highest rank first, 0 never.
    pub rank: u8,
}

/// Rows of as many cells as there are columns. The first column is of names.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    /// Columns that are not shown at all.
    hidden: Vec<usize>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// One without rows, of these columns: what they show, and their rank.
    pub fn new(columns: &[(&'static str, u8)]) -> Self {
        let columns = columns.iter().map(|&(head, rank)| Column { head, rank }).collect();
        Self { columns, hidden: Vec::new(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push<const N: usize>(&mut self, row: [Cell; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(row.into());
    }

    /// Takes a column away.
    pub fn leave_out(&mut self, head: &str) {
        self.hidden.extend(self.columns.iter().position(|column| column.head == head));
    }

    /// The head and the rows of what fits into so many columns of a terminal, the cells of a column
    /// equally wide.
    pub fn fitted(&self, room: Option<usize>) -> Vec<Vec<Cell>> {
        let head: Vec<Cell> = self.columns.iter().map(|column| column.head.into()).collect();
        let all: Vec<&Vec<Cell>> = [&head].into_iter().chain(&self.rows).collect();
        let widest = |column: usize| all.iter().map(|row| width(&row[column].text)).max().unwrap_or(0);
        let widths = self.widths((0..self.columns.len()).map(widest).collect(), room);
        let cut = |row: &Vec<Cell>| -> Vec<Cell> {
            let fitting = widths.iter().map(|&(column, room)| {
                let Cell { text, tone } = &row[column];
                Cell { text: padded(&shortened(text, room), room), tone: *tone }
            });
            fitting.collect()
        };
        all.into_iter().map(cut).collect()
    }

    /// The columns that are shown, and how wide they are.
    fn widths(&self, widest: Vec<usize>, room: Option<usize>) -> Vec<(usize, usize)> {
        let all = widest.into_iter().enumerate();
        let mut shown: Vec<_> = all.filter(|(column, _)| !self.hidden.contains(column)).collect();
        let Some(room) = room else { return shown };
        let taken =
            |shown: &[(usize, usize)]| shown.iter().map(|(_, width)| width + GAP.len()).sum::<usize>() - GAP.len();
        if taken(&shown) > room {
            shown[0].1 = shown[0].1.min(NAME);
        }
        while taken(&shown) > room {
            let rank = |place: usize| self.columns[shown[place].0].rank;
            match (0..shown.len()).filter(|&place| rank(place) > 0).max_by_key(|&place| rank(place)) {
                Some(least) => drop(shown.remove(least)),
                None => break,
            }
        }
        // What is left over is the last to be cut.
        shown[0].1 = shown[0].1.saturating_sub(taken(&shown).saturating_sub(room)).max(1);
        shown
    }

    /// The lines of what fits.
    pub fn lines(&self, room: Room) -> Vec<String> {
        let line = |row: Vec<Cell>| {
            let cells: Vec<_> = row.iter().map(|cell| coloured(cell, room.colours)).collect();
            cells.join(GAP).trim_end().to_string()
        };
        self.fitted(room.width()).into_iter().map(line).collect()
    }
}

/// The text with the codes for its colour around it.
fn coloured(Cell { text, tone }: &Cell, colours: bool) -> String {
    let colour = match tone {
        Tone::Good => AnsiColor::Green,
        Tone::Notable => AnsiColor::Yellow,
        Tone::Bad => AnsiColor::Red,
        Tone::Plain => return text.clone(),
    };
    let style = colour.on_default();
    if colours { format!("{style}{text}{style:#}") } else { text.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> Table {
        let mut table = Table::new(&[("WORKER", 0), ("ADDRESS", 3), ("STATE", 0), ("SHARE", 2), ("RATE", 1)]);
        let state = |state: &str| Cell { text: state.into(), tone: of_state(state) };
        table.push([name.into(), "127.0.0.1:12345".into(), state("busy"), "50.0 %".into(), "1/s".into()]);
        table.push(["b".into(), "127.0.0.1:12346".into(), state("suspect"), "50.0 %".into(), "20/s".into()]);
        table
    }

    fn lines(name: &str, width: Option<usize>) -> Vec<String> {
        table(name).lines(Room { size: width.map(|width| (width, 24)), colours: false })
    }

    #[test]
    fn without_a_terminal_everything_is_there() {
        let name = "n".repeat(64);
        let lines = lines(&name, None);
        assert!(lines[1].starts_with(&format!("{name}  127.0.0.1:12345  busy     50.0 %  1/s")), "{lines:?}");
    }

    #[test]
    fn on_a_narrow_terminal_columns_go_in_the_order_of_their_rank() {
        let heads = [51, 45, 31, 20, 11].map(|width| lines("worker-1", Some(width))[0].clone());
        let words: Vec<Vec<&str>> = heads.iter().map(|head| head.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["WORKER", "ADDRESS", "STATE", "SHARE", "RATE"]);
        assert_eq!(words[1], ["WORKER", "STATE", "SHARE", "RATE"]);
        assert_eq!(words[2], ["WORKER", "STATE", "SHARE", "RATE"]);
        assert_eq!(words[3], ["WORKER", "STATE"]);
        assert_eq!(words[4], ["W…", "STATE"]);
    }

    #[test]
    fn long_names_are_shortened_before_a_column_is_left_out_for_them() {
        let lines = lines(&"n".repeat(64), Some(64));
        assert!(
            lines[0].contains("ADDRESS") && lines[1].starts_with(&format!("{}…  127", "n".repeat(23))),
            "{lines:?}"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_however_narrow_it_is() {
        for width in 10..80 {
            let lines = lines("a-rather-long-name", Some(width));
            assert!(lines.iter().all(|line| super::width(line) <= width), "{width}: {lines:?}");
        }
    }

    #[test]
    fn only_states_have_colours_and_those_take_no_room() {
        let room = Room { size: None, colours: true };
        let lines = table("a").lines(room);
        assert!(lines[1].contains("\u{1b}[32mbusy   \u{1b}[0m  50.0 %"), "{lines:?}");
        assert!(lines[2].contains("\u{1b}[31msuspect\u{1b}[0m  50.0 %"), "{lines:?}");
        assert!(!lines[0].contains('\u{1b}'));
    }
}
