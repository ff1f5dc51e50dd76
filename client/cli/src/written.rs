//! Formatting of numbers, times and texts for terminals.

use std::time::Duration;

use indicatif::HumanCount;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The end of a text that was shortened.
const REST: char = '…';

/// Formats a number with a comma before each three digits.
pub fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Formats a number of things: `1 seat`, `2 seats`.
pub fn many(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Formats a duration in microseconds.
pub fn micros(us: u64) -> String {
    match us {
        0..1000 => format!("{us} us"),
        1000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => millis(us / 1000),
    }
}

/// Formats a duration in milliseconds, to a tenth of a second.
pub fn millis(ms: u64) -> String {
    match Duration::from_millis(ms).as_secs() {
        0..60 => format!("{:.1} s", ms as f64 / 1000.0),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Returns the number of columns that a text takes on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Returns the text, or as much of it as fits with a `…`.
pub fn shortened(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.into();
    }
    let mut left = room.saturating_sub(1);
    let fitting = text.chars().take_while(|c| {
        let taken = c.width().unwrap_or(0);
        let fits = taken <= left;
        left = left.saturating_sub(taken);
        fits
    });
    fitting.chain((room > 0).then_some(REST)).collect()
}

/// Pads the text with spaces to this width.
pub fn padded(text: &str, room: usize) -> String {
    format!("{text}{}", " ".repeat(room.saturating_sub(width(text))))
}

/// Wraps the text between words; all lines but the first are indented. A word that is too long is
/// shortened.
pub fn wrapped(text: &str, room: Option<usize>) -> Vec<String> {
    const INDENT: &str = "  ";
    let Some(room) = room else { return vec![text.into()] };
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a first line");
        let blank = last.trim().is_empty();
        let between = if blank { "" } else { " " };
        if blank || width(last) + between.len() + width(word) <= room {
            *last = format!("{last}{between}{word}");
        } else {
            lines.push(format!("{INDENT}{word}"));
        }
    }
    lines.iter().map(|line| shortened(line, room)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_long_as_they_are() {
        let written = [999, 1000, 1_234_567, 61_000_000].map(micros);
        assert_eq!(written, ["999 us", "1.0 ms", "1.2 s", "1 min 1 s"]);
        assert_eq!(millis(3_725_000), "1 h 2 min");
    }

    #[test]
    fn long_numbers_have_commas_and_one_thing_is_no_plural() {
        assert_eq!([0, 999, 1000, 50_000_000].map(grouped), ["0", "999", "1,000", "50,000,000"]);
        assert_eq!([0, 1, 2].map(|count| many(count, "seat")), ["0 seats", "1 seat", "2 seats"]);
    }

    #[test]
    fn what_is_too_long_ends_in_an_ellipsis_and_wide_letters_count_double() {
        assert_eq!([8, 7, 1, 0].map(|room| shortened("worker-1", room)), ["worker-1", "worker…", "…", ""]);
        assert_eq!([6, 5, 4].map(|room| shortened("回转木", room)), ["回转木", "回转…", "回…"]);
        assert_eq!(padded("回", 4), "回  ");
    }

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrapped("one two three", None), ["one two three"]);
        assert_eq!(wrapped("one two three", Some(8)), ["one two", "  three"]);
        assert_eq!(wrapped("one incomprehensible", Some(8)), ["one", "  incom…"]);
    }
}
