//! The table of hosts in `giostra top`.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{Look, REVERSED, STRONG, first_shown, titled};
use crate::hosts::{table, troubled};
use crate::table::Cell;
use crate::top::state::State;

/// Draws the table, scrolled so that the selected host is visible.
pub fn draw(frame: &mut Frame, area: Rect, state: &State, look: Look) {
    let hosts = state.hosts();
    let in_trouble = hosts.iter().filter(|host| troubled(host) > 0).count();
    let of = state.pool.as_ref().map_or_else(String::new, |pool| format!(" of pool {pool}"));
    let trouble = if in_trouble > 0 { format!(", {in_trouble} in trouble") } else { String::new() };
    let has_title = frame.area().height >= 14;
    let area = titled(frame, area, &format!("hosts{of}: {}{trouble}", hosts.len()), has_title);
    let place = state.host_place().unwrap_or(0);
    let height = usize::from(area.height).saturating_sub(1);
    let first = first_shown(place, hosts.len(), height);
    let shown = &hosts[first..(first + height).min(hosts.len())];
    let rows = table(shown).fitted(Some(area.width.into()));
    let line = |(row, cells): (usize, Vec<Cell>)| {
        let spans = cells.into_iter().flat_map(|Cell { text, tone }| [Span::styled(text, look.of(tone)), "  ".into()]);
        let line = Line::from([Span::raw(" ")].into_iter().chain(spans).collect::<Vec<_>>());
        match row {
            0 => line.style(STRONG),
            _ if first + row - 1 == place => line.style(REVERSED),
            _ => line,
        }
    };
    frame.render_widget(Paragraph::new(rows.into_iter().enumerate().map(line).collect::<Vec<_>>()), area);
    if has_title {
        super::range(frame, area, (first, shown.len(), hosts.len()));
    }
}
