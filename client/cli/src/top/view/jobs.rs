//! The durable jobs in `giostra top`: a row for each that is open or running.

use giostra_protocol::{JobsStatus, LiveJob};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{Look, STRONG, bar, titled};
use crate::status::{done, jobs_table};
use crate::table::{Cell, Tone};
use crate::top::state::State;
use crate::written::{padded, width};

/// The most rows of jobs.
const MAX_ROWS: usize = 8;

/// The width of the bars that show how much is done.
const BAR: usize = 10;

/// The jobs that are listed: those of the picked pool.
fn listed(state: &State) -> Vec<&LiveJob> {
    let jobs = state.status.jobs.iter().flat_map(|jobs| &jobs.live);
    jobs.filter(|job| state.pool.as_ref().is_none_or(|pool| *pool == job.pool)).collect()
}

/// Why the store takes nothing, if so.
fn trouble(jobs: &JobsStatus) -> Option<&str> {
    [&*jobs.store.failed, &*jobs.store.full].into_iter().find(|why| !why.is_empty())
}

/// The number of lines that the jobs take, with a title: none if there is nothing to tell.
pub fn height(state: &State) -> u16 {
    let trouble = state.status.jobs.as_ref().and_then(trouble);
    match listed(state).len().min(MAX_ROWS) {
        0 => u16::from(trouble.is_some()),
        rows => rows as u16 + 2,
    }
}

/// Draws a title, and a table below it.
pub fn draw(frame: &mut Frame, area: Rect, state: &State, look: Look) {
    let Some(jobs) = state.status.jobs.as_ref().filter(|_| area.height > 0) else { return };
    let listed = listed(state);
    let title = match (trouble(jobs), jobs.left_out) {
        (Some(why), _) => format!("jobs: the store takes no more: {why}"),
        (None, 0) => format!("jobs: {}", listed.len()),
        (None, left_out) => format!("jobs: {}, left out: {left_out}", listed.len()),
    };
    let area = titled(frame, area, &title, true);
    let room = usize::from(area.width);
    let table = jobs_table(listed.iter().copied());
    let rows = table.fitted(Some(room.saturating_sub(1)));
    let taken = rows[0].iter().map(|cell| width(&cell.text) + 2).sum::<usize>() + 1;
    let line = |(row, cells): (usize, Vec<Cell>)| {
        let cells = cells.into_iter().flat_map(|Cell { text, tone }| [Span::styled(text, look.of(tone)), "  ".into()]);
        let mut spans: Vec<_> = [Span::raw(" ")].into_iter().chain(cells).collect();
        if taken + BAR <= room {
            let bar = row.checked_sub(1).map(|place| bar(done(listed[place]), listed[place].requests, BAR));
            spans.push(Span::styled(bar.unwrap_or_else(|| padded("", BAR)), look.of(Tone::Plain)));
        }
        let line = Line::from(spans);
        if row == 0 { line.style(STRONG) } else { line }
    };
    let lines: Vec<_> = rows.into_iter().enumerate().take(usize::from(area.height)).map(line).collect();
    if !listed.is_empty() {
        frame.render_widget(Paragraph::new(lines), area);
    }
}
