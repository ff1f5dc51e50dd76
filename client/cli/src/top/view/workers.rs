//! The table of workers.

use giostra_protocol::{LostStatus, WorkerStatus};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{Look, TURN, bar, first_shown, titled};
use crate::table::{Cell, Table, Tone, of_state};
use crate::top::state::State;
use crate::written::{grouped, micros, millis, padded, shortened, width};

/// The width of the bars that show how full a window is.
const BAR: usize = 6;

/// From when on a request's time is worth a column.
const LONG_MS: u64 = 10_000;

/// Draws it, scrolled so that the selected worker is seen.
pub fn draw(frame: &mut Frame, area: Rect, state: &State, look: Look) {
    let (workers, lost) = (state.workers(), state.lost());
    let of = state.pool.as_ref().map_or_else(String::new, |pool| format!(" of pool {pool}"));
    let gone = if lost.is_empty() { String::new() } else { format!(", {} lost", lost.len()) };
    let left_out = match state.status.left_out.summary() {
        nothing if nothing.is_empty() => nothing,
        some => format!(", left out: {some}"),
    };
    let title = format!("workers{of}: {}{gone}{left_out}, by {}", workers.len(), state.sort.name());
    let has_title = frame.area().height >= 14;
    let area = titled(frame, area, &title, has_title, look);
    if workers.is_empty() {
        let advice = " no workers: requests wait until one registers (just worker 1, or giostra-worker)";
        let mut lines = vec![Line::raw(shortened(advice, area.width.into()))];
        lines.extend(lost.iter().map(|lost| lost_line(lost, 1 + width(&lost.name), state, area.width.into(), look)));
        return frame.render_widget(Paragraph::new(lines), area);
    }
    let place = state.place().unwrap_or(0);
    let rows = usize::from(area.height).saturating_sub(1);
    // Lost workers are seen also where the others would take all the room.
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
            0 => line.style(look.strong()),
            _ if selected => line.style(look.reversed()),
            _ => line,
        }
    };
    let names = rows[0].first().map_or(0, |cell| width(&cell.text));
    let mut lines: Vec<_> = rows.into_iter().enumerate().map(line).collect();
    let left = usize::from(area.height).saturating_sub(lines.len());
    lines.extend(lost.iter().take(left).map(|lost| lost_line(lost, names, state, area.width.into(), look)));
    if has_title && shown.len() < workers.len() {
        let range = format!(" {} to {} shown ", first + 1, first + shown.len());
        let row = Rect { y: area.y - 1, height: 1, ..area };
        frame.render_widget(Line::raw(range).right_aligned(), row);
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// A worker that was lost: of it there is no more to tell than a sentence.
fn lost_line(lost: &LostStatus, names: usize, state: &State, room: usize, look: Look) -> Line<'static> {
    let LostStatus { name, at_ms, reason, returned, .. } = lost;
    let since = millis(state.status.uptime_ms.saturating_sub(*at_ms));
    let name = padded(&shortened(&format!(" {name}"), names), names);
    let fate = format!("{since} ago, {reason}; {returned} taken back");
    let fate = shortened(&fate, room.saturating_sub(names + 2 + "lost".len() + 2));
    vec![name.into(), "  ".into(), Span::styled("lost", look.of(of_state("lost"))), "  ".into(), fate.into()].into()
}

fn table(workers: &[&WorkerStatus], state: &State, several_pools: bool) -> Table {
    let mut table = Table::new(&[
        (" WORKER", 0),
        ("POOL", 2),
        ("STATE", 0),
        ("IN FLIGHT", 0),
        ("", 3),
        ("OLDEST", 4),
        ("RATE", 1),
        ("P50", 7),
        ("P99", 4),
        ("PONG", 6),
        ("RTT", 8),
        ("LOST", 5),
    ]);
    if !several_pools {
        table.leave_out("POOL");
    }
    // Where all requests are short there is no room for it, and nothing to tell.
    if !state.status.workers.iter().any(|worker| worker.computing > 0 && worker.oldest_ms >= LONG_MS) {
        table.leave_out("OLDEST");
    }
    for worker in workers {
        let turn = if state.has_turn(worker) { TURN } else { " " };
        let time = |us: u64| Cell::from(if us > 0 { micros(us) } else { "-".into() });
        let lost = match worker.redispatched_from {
            0 => "0".into(),
            some => Cell { text: grouped(some), tone: Tone::Notable },
        };
        table.push([
            format!("{turn}{}", worker.name).into(),
            worker.pool.clone().into(),
            Cell { text: worker.state.clone(), tone: of_state(&worker.state) },
            format!("{}/{}", worker.in_flight, worker.window).into(),
            bar(worker.in_flight, worker.window, BAR).into(),
            if worker.computing > 0 { millis(worker.oldest_ms) } else { "-".into() }.into(),
            worker.rate.to_string().into(),
            time(worker.service_us.p50),
            time(worker.service_us.p99),
            millis(worker.pong_age_ms).into(),
            time(worker.round_trip_us),
            lost,
        ]);
    }
    table
}
