//! The table of workers.

use giostra_common::protocol::WorkerStatus;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{Look, TURN, bar, first_shown, titled};
use crate::cli::table::{Cell, Table, Tone, of_state};
use crate::cli::top::state::State;
use crate::cli::written::{micros, millis, shortened};

/// The width of the bars that show how full a window is.
const BAR: usize = 6;

/// Draws it, scrolled so that the selected worker is seen.
pub fn draw(frame: &mut Frame, area: Rect, state: &State, look: Look) {
    let workers = state.workers();
    let of = state.pool.as_ref().map_or_else(String::new, |pool| format!(" of pool {pool}"));
    let title = format!("workers{of}: {}, by {}", workers.len(), state.sort.name());
    let area = titled(frame, area, &title, frame.area().height >= 14, look);
    if workers.is_empty() {
        let advice = " no workers: requests wait until one registers (just worker 1, or giostra-worker)";
        return frame.render_widget(Line::raw(shortened(advice, area.width.into())), area);
    }
    let place = state.place().unwrap_or(0);
    let height = usize::from(area.height).saturating_sub(1);
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
    frame.render_widget(Paragraph::new(rows.into_iter().enumerate().map(line).collect::<Vec<_>>()), area);
}

fn table(workers: &[&WorkerStatus], state: &State, several_pools: bool) -> Table {
    let mut table = Table::new(&[
        (" WORKER", 0),
        ("POOL", 2),
        ("STATE", 0),
        ("IN FLIGHT", 0),
        ("", 3),
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
    for worker in workers {
        let turn = if state.has_turn(worker) { TURN } else { " " };
        let time = |us: u64| Cell::from(if us > 0 { micros(us) } else { "-".into() });
        let lost = match worker.redispatched_from {
            0 => "0".into(),
            some => Cell { text: some.to_string(), tone: Tone::Notable },
        };
        table.push([
            format!("{turn}{}", worker.name).into(),
            worker.pool.clone().into(),
            Cell { text: worker.state.clone(), tone: of_state(&worker.state) },
            format!("{}/{}", worker.in_flight, worker.window).into(),
            bar(worker.in_flight, worker.window, BAR).into(),
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
