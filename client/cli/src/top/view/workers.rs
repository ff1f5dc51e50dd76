//! The table of workers in `giostra top`.

use giostra_protocol::{LostStatus, WorkerStatus};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{Look, REVERSED, STRONG, TURN, bar, first_shown, titled};
use crate::hosts::shown_name;
use crate::status;
use crate::table::{Cell, Column, Table, Tone, of_state};
use crate::top::state::State;
use crate::written::{grouped, millis, padded, shortened, width};

/// The width of the bars that show how full a window is.
const BAR: usize = 5;

/// From how long on the age of a worker's oldest request gets a column.
const LONG_MS: u64 = 10_000;

/// Draws the table, scrolled so that the selected worker is visible.
pub fn draw(frame: &mut Frame, area: Rect, state: &State, look: Look) {
    let (workers, lost) = (state.workers(), state.lost());
    let pool = state.pool.as_ref().map_or_else(String::new, |pool| format!(" of pool {pool}"));
    let host = state.host.as_ref().map_or_else(String::new, |host| format!(" on {}", shown_name(host)));
    let gone = if lost.is_empty() { String::new() } else { format!(", {} lost", grouped(lost.len() as u64)) };
    let left_out = match state.status.left_out.summary() {
        nothing if nothing.is_empty() => nothing,
        some => format!(", left out: {some}"),
    };
    let count = grouped(workers.len() as u64);
    let title = format!("workers{pool}{host}: {count}{gone}{left_out}, by {}", state.sort.name());
    let has_title = frame.area().height >= 14;
    let area = titled(frame, area, &title, has_title);
    if workers.is_empty() {
        let advice = " no workers: requests wait until one registers (just worker 1, or giostra-worker)";
        let mut lines = vec![Line::raw(shortened(advice, area.width.into()))];
        lines.extend(lost.iter().map(|lost| lost_line(lost, 1 + width(&lost.name), state, area.width.into(), look)));
        return frame.render_widget(Paragraph::new(lines), area);
    }
    let place = state.place().unwrap_or(0);
    let rows = usize::from(area.height).saturating_sub(1);
    // A quarter of the rows is for lost workers, even if the others would fill them.
    let height = rows - lost.len().min(rows / 4);
    let first = first_shown(place, workers.len(), height);
    let shown = &workers[first..(first + height).min(workers.len())];
    let several = state.status.pools.len() > 1 && state.pool.is_none();
    let rows = table(shown, state, several).fitted(Some(area.width.into()));
    let line = |(row, cells): (usize, Vec<Cell>)| {
        let selected = row > 0 && first + row - 1 == place;
        let spans = cells.into_iter().flat_map(|Cell { text, tone }| [Span::styled(text, look.of(tone)), "  ".into()]);
        let line = Line::from(spans.collect::<Vec<_>>());
        match row {
            0 => line.style(STRONG),
            _ if selected => line.style(REVERSED),
            _ => line,
        }
    };
    let names = rows[0].first().map_or(0, |cell| width(&cell.text));
    let mut lines: Vec<_> = rows.into_iter().enumerate().map(line).collect();
    let left = usize::from(area.height).saturating_sub(lines.len());
    lines.extend(lost.iter().take(left).map(|lost| lost_line(lost, names, state, area.width.into(), look)));
    if left > 0 && lost.len() > left {
        lines.pop();
        lines.push(Line::raw(format!(" … and {} more lost", grouped((lost.len() + 1 - left) as u64))));
    }
    if has_title {
        super::range(frame, area, (first, shown.len(), workers.len()));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// The line of a lost worker.
fn lost_line(lost: &LostStatus, names: usize, state: &State, room: usize, look: Look) -> Line<'static> {
    let LostStatus { name, at_ms, reason, returned, .. } = lost;
    let since = millis(state.status.uptime_ms.saturating_sub(*at_ms));
    let name = padded(&shortened(&format!(" {name}"), names), names);
    let fate = format!("{since} ago, {reason}; {returned} taken back");
    let fate = shortened(&fate, room.saturating_sub(names + 2 + "lost".len() + 2));
    vec![name.into(), "  ".into(), Span::styled("lost", look.of(of_state("lost"))), "  ".into(), fate.into()].into()
}

fn table(workers: &[&WorkerStatus], state: &State, several_pools: bool) -> Table {
    let name = |worker: &WorkerStatus| {
        let turn = if state.has_turn(worker) { TURN } else { " " };
        format!("{turn}{}", worker.name).into()
    };
    let lost = |worker: &WorkerStatus| match worker.redispatched_from {
        0 => "0".into(),
        count => Cell { text: grouped(count), tone: Tone::Notable },
    };
    let columns: [Column<WorkerStatus>; 15] = [
        (" WORKER", 0, &name),
        ("POOL", 2, &|worker| (&worker.pool).into()),
        ("STATE", 0, &status::state),
        ("IN FLIGHT", 0, &status::in_flight),
        ("", 3, &|worker| bar(worker.in_flight, worker.window, BAR).into()),
        ("OLDEST", 4, &status::oldest),
        ("RATE", 1, &|worker| grouped(worker.rate).into()),
        ("P50", 7, &|worker| status::time(worker.service_us.p50)),
        ("P99", 4, &|worker| status::time(worker.service_us.p99)),
        ("PONG", 6, &|worker| millis(worker.pong_age_ms).into()),
        ("RTT", 8, &|worker| status::time(worker.round_trip_us)),
        ("LOST", 5, &lost),
        ("ANSWERED", 10, &|worker| grouped(worker.answered).into()),
        ("HOST", 9, &|worker| shown_name(&worker.host).into()),
        ("ADDRESS", 11, &|worker| (&worker.address).into()),
    ];
    let mut table = Table::new(&columns, workers.iter().copied());
    if !several_pools {
        table.leave_out("POOL");
    }
    if workers.iter().all(|worker| worker.host.is_empty()) {
        table.leave_out("HOST");
    }
    // Where all requests are short there is no room for it, and nothing to show.
    if !state.status.workers.iter().any(|worker| worker.computing > 0 && worker.oldest_ms >= LONG_MS) {
        table.leave_out("OLDEST");
    }
    table
}
