//! Tables that fit into the terminal, with a colour where something deserves attention.
//!
//! On a narrow terminal the least important columns are left out, and long names shortened.

use std::io::{IsTerminal, stdout};

use clap::builder::styling::AnsiColor;
use ratatui::crossterm::terminal;

use super::written::{padded, shortened, width};

/// The space between two columns.
const GAP: &str = "  ";

/// The width to which names are shortened before a column is left out.
const NAME: usize = 24;

/// The room that there is for output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    /// The columns and rows of a terminal; `None` without a limit.
    pub size: Option<(usize, usize)>,
    /// Whether colours are used.
    pub colours: bool,
}

impl Room {
    /// Returns the room of stdout. A file or a pipe has no limit, and no colours.
    pub fn of_stdout() -> Self {
        if !stdout().is_terminal() {
            return Self::default();
        }
        // A terminal that doesn't know its size calls it 0.
        let size = terminal::size().ok().filter(|&(width, height)| width > 0 && height > 0);
        Self { size: size.map(|(width, height)| (width.into(), height.into())), colours: colours() }
    }

    /// The number of columns, if there is a limit.
    pub fn width(&self) -> Option<usize> {
        self.size.map(|(width, _)| width)
    }
}

/// Returns whether a terminal gets colours: not a dumb one, nor if
/// [`NO_COLOR`](https://no-color.org) is set.
pub fn colours() -> bool {
    let is = |name: &str, matches: fn(&str) -> bool| std::env::var(name).is_ok_and(|value| matches(&value));
    !is("NO_COLOR", |value| !value.is_empty()) && !is("TERM", |value| value == "dumb")
}

/// How much attention something deserves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// None.
    #[default]
    Plain,
    /// When all is well.
    Good,
    /// When it will pass.
    Notable,
    /// When something is wrong.
    Bad,
}

/// Returns the tone of a worker's state.
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
    pub text: String,
    pub tone: Tone,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

/// A column of a table of `T`: its head, its rank, and what it shows of an item. On a narrow terminal
/// the columns of the highest rank are left out first, those of rank 0 never.
pub type Column<'a, T> = (&'static str, u8, &'a dyn Fn(&T) -> Cell);

/// A table. The first column has names.
#[derive(Clone, Debug)]
pub struct Table {
    ranks: Vec<u8>,
    /// The head, and a row for each item.
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Makes a table with a row for each item.
    pub fn new<'a, T: 'a>(columns: &[Column<'_, T>], items: impl IntoIterator<Item = &'a T>) -> Self {
        let head = columns.iter().map(|&(head, ..)| head.into()).collect();
        let row = |item| columns.iter().map(|(.., cell)| cell(item)).collect();
        let rows = [head].into_iter().chain(items.into_iter().map(row)).collect();
        Self { ranks: columns.iter().map(|&(_, rank, _)| rank).collect(), rows }
    }

    /// Removes the column of that head.
    pub fn leave_out(&mut self, head: &str) {
        if let Some(column) = self.rows[0].iter().position(|cell| cell.text == head) {
            self.ranks.remove(column);
            self.rows.iter_mut().for_each(|row| drop(row.remove(column)));
        }
    }

    /// Returns the head and the rows, with the columns that fit into that width, the cells of a column
    /// equally wide.
    pub fn fitted(&self, room: Option<usize>) -> Vec<Vec<Cell>> {
        let widths = self.widths(room);
        let cut = |row: &Vec<Cell>| -> Vec<Cell> {
            let fitting = widths.iter().map(|&(column, room)| {
                let Cell { text, tone } = &row[column];
                Cell { text: padded(&shortened(text, room), room), tone: *tone }
            });
            fitting.collect()
        };
        self.rows.iter().map(cut).collect()
    }

    /// Returns the columns that are shown, by index, and their widths.
    fn widths(&self, room: Option<usize>) -> Vec<(usize, usize)> {
        let widest = |column: usize| self.rows.iter().map(|row| width(&row[column].text)).max().unwrap_or(0);
        let mut shown: Vec<_> = (0..self.ranks.len()).map(|column| (column, widest(column))).collect();
        let Some(room) = room else { return shown };
        let taken =
            |shown: &[(usize, usize)]| shown.iter().map(|(_, width)| width + GAP.len()).sum::<usize>() - GAP.len();
        if taken(&shown) > room {
            shown[0].1 = shown[0].1.min(NAME);
        }
        while taken(&shown) > room {
            let rank = |place: usize| self.ranks[shown[place].0];
            match (0..shown.len()).filter(|&place| rank(place) > 0).max_by_key(|&place| rank(place)) {
                Some(least) => drop(shown.remove(least)),
                None => break,
            }
        }
        // The names are cut further if that is not enough.
        shown[0].1 = shown[0].1.saturating_sub(taken(&shown).saturating_sub(room)).max(1);
        shown
    }

    /// Returns the lines of what fits.
    pub fn lines(&self, room: Room) -> Vec<String> {
        let line = |row: Vec<Cell>| {
            let cells: Vec<_> = row.iter().map(|cell| coloured(cell, room.colours)).collect();
            cells.join(GAP).trim_end().to_string()
        };
        self.fitted(room.width()).into_iter().map(line).collect()
    }
}

/// Returns the text between the codes for its colour.
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
        type Row<'a> = [&'a str; 5];
        let state = |row: &Row| Cell { text: row[2].into(), tone: of_state(row[2]) };
        let columns: [Column<Row>; 5] = [
            ("WORKER", 0, &|row| row[0].into()),
            ("ADDRESS", 3, &|row| row[1].into()),
            ("STATE", 0, &state),
            ("SHARE", 2, &|row| row[3].into()),
            ("RATE", 1, &|row| row[4].into()),
        ];
        let rows =
            [[name, "127.0.0.1:12345", "busy", "50.0 %", "1/s"], ["b", "127.0.0.1:12346", "suspect", "50.0 %", "20/s"]];
        Table::new(&columns, &rows)
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
