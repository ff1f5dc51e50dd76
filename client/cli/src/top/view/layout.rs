//! Where everything is on the screen: one below the other, or on a wide one in two columns.

use ratatui::layout::{Constraint, Layout, Rect};

use super::jobs;
use crate::top::state::State;

/// The width from which graphs and events stand beside the workers.
const WIDE: u16 = 150;

/// The least height for that.
const TALL: u16 = 20;

/// The areas of the screen.
pub struct Areas {
    pub header: Rect,
    pub pools: Rect,
    pub workers: Rect,
    pub jobs: Rect,
    pub graphs: Rect,
    pub events: Rect,
    pub footer: Rect,
}

impl Areas {
    /// Divides the screen.
    pub fn of(area: Rect, state: &State) -> Self {
        if area.width >= WIDE && area.height >= TALL {
            return Self::wide(area, state);
        }
        let heights = heights(area.height, state).map(Constraint::Length);
        let [header, pools, workers, jobs, graphs, events, footer] = Layout::vertical(heights).areas(area);
        Self { header, pools, workers, jobs, graphs, events, footer }
    }

    fn wide(area: Rect, state: &State) -> Self {
        let [header, middle, footer] =
            Layout::vertical([Constraint::Length(3), Constraint::Fill(1), Constraint::Length(1)]).areas(area);
        let [left, right] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).spacing(1).areas(middle);
        let pools = 1 + state.status.pools.len().clamp(1, 8) as u16;
        let jobs = jobs::height(state).min(left.height / 3);
        let [pools, workers, jobs] =
            Layout::vertical([Constraint::Length(pools), Constraint::Fill(1), Constraint::Length(jobs)]).areas(left);
        let graphs = (right.height / 2).min(20);
        let [graphs, events] = Layout::vertical([Constraint::Length(graphs), Constraint::Fill(1)]).areas(right);
        Self { header, pools, workers, jobs, graphs, events, footer }
    }
}

/// Returns the heights of header, pools, workers, jobs, graphs, events and footer.
fn heights(height: u16, state: &State) -> [u16; 7] {
    let at_least = |least: u16, rows: u16| if height >= least { rows } else { 0 };
    let header = 1 + at_least(8, 1) + at_least(14, 1);
    let footer = at_least(3, 1);
    let most_pools = if height >= 30 { 8 } else { 1 + at_least(20, 2) };
    let pools = state.status.pools.len().clamp(1, most_pools.into()) as u16;
    let pools = at_least(4, pools) + at_least(16, 1);
    let graphs = if height >= 32 { 7 } else { at_least(20, 4) };
    let fewest_events = if jobs::height(state) > 0 { at_least(14, 2) } else { at_least(14, 4) };
    let rest = height.saturating_sub(header + footer + pools + graphs);
    // On a small screen jobs are a line or two, in the place of events.
    let jobs = at_least(14, jobs::height(state).min(if height >= 32 { u16::MAX } else { 3 })).min(rest / 3);
    let rest = rest - jobs;
    let wanted = u16::try_from(state.rows().max(1)).unwrap_or(u16::MAX).saturating_add(1 + at_least(14, 1));
    let workers = if fewest_events > 0 { wanted.min(rest.saturating_sub(fewest_events)) } else { rest };
    [header, pools, workers, jobs, graphs, rest - workers, footer]
}
