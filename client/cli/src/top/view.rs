//! Draws the state: all of it on 80x24 and larger terminals, the most important parts on smaller ones.

mod hosts;
mod jobs;
mod layout;
mod workers;

use giostra_protocol::PoolStatus;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, RenderDirection, Sparkline, Wrap};

use super::state::{State, turn_of};
use crate::events::{describe, notable, tone_of};
use crate::status::LONG_WAIT_MS;
use crate::table::Tone;
use crate::written::{grouped, micros, millis, shortened, width};
use layout::Areas;

/// The mark of the worker whose turn it is.
const TURN: &str = "▸";

const HELP: &str = "\
q Esc Ctrl-C     quit
↑ ↓ j k          select a worker
s                sort by seat, rate, in flight, p99, name
g                hosts instead of workers; Enter: the workers of one
Tab ← →          all pools, or one of them
d                drain the selected worker
p                pause
any key          back

▸        whose turn it is
IN FLIGHT and bar: requests it holds, of those it may
OLDEST   for how long it has been computing the oldest, from 10 s on
RATE     requests it answered in the last second
P50 P99  from dispatch to reply, of the last 10 to 20 seconds
PONG     since it last answered a ping
RTT      from that ping to its pong
LOST     requests it had when it was lost before, handed on to others
LEFT     of a job: the time for the rest, at the rate of the last seconds
stuck    it answers pings, but the oldest request does not end
unable   it can compute nothing for now: giostra status says why";

const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// The look of the view.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether colours are used; without, there are only bold and reversed letters.
    pub colours: bool,
}

impl Look {
    fn of(self, tone: Tone) -> Style {
        let (colour, modifier) = match tone {
            Tone::Plain => return Style::new(),
            Tone::Good => (Color::Green, Modifier::empty()),
            Tone::Notable => (Color::Yellow, Modifier::empty()),
            Tone::Bad => (Color::Red, Modifier::BOLD),
        };
        let style = Style::new().add_modifier(modifier);
        if self.colours { style.fg(colour) } else { style }
    }

    fn graph(self) -> Style {
        if self.colours { Style::new().fg(Color::Cyan) } else { Style::new() }
    }
}

/// Draws the whole screen.
pub fn draw(frame: &mut Frame, state: &State, look: Look) {
    let Areas { header, pools, workers, jobs, graphs, events, footer } = Areas::of(frame.area(), state);
    draw_header(frame, header, state, look);
    draw_pools(frame, pools, state, look);
    if state.by_host {
        hosts::draw(frame, workers, state, look);
    } else {
        workers::draw(frame, workers, state, look);
    }
    jobs::draw(frame, jobs, state, look);
    draw_graphs(frame, graphs, state, look);
    draw_events(frame, events, state, look);
    draw_footer(frame, footer, state);
    if state.help {
        draw_help(frame);
    }
}

fn draw_header(frame: &mut Frame, area: Rect, state: &State, look: Look) {
    let status = &state.status;
    let room = usize::from(area.width);
    let paused = if state.paused { "  PAUSED" } else { "" };
    let known = [
        format!(" giostra {}{paused}", status.version),
        format!("up {}", millis(status.uptime_ms)),
        format!("{} rotation", status.rotation),
        state.endpoint.clone(),
    ];
    let title = Line::from(fitting(known.iter().map(|text| vec![Span::raw(text)]), room)).style(REVERSED);

    let rate = status.history.rate.last().copied().unwrap_or(0);
    let totals = &status.totals;
    let count = |count: u64, what: &str, tone: Tone| {
        let style = if count > 0 { look.of(tone).patch(STRONG) } else { STRONG };
        vec![Span::styled(grouped(count), style), Span::raw(format!(" {what}"))]
    };
    let time = |us: u64, what: &str| {
        vec![Span::raw(format!("{what} ")), Span::styled(if us > 0 { micros(us) } else { "-".into() }, STRONG)]
    };
    let now = [
        vec![Span::styled(format!(" {}", grouped(rate)), STRONG), Span::raw("/s")],
        count(status.pending, "pending", Tone::Notable),
        count(status.in_flight, "in flight", Tone::Plain),
        time(status.latency_us.p99, "p99"),
        time(status.latency_us.p50, "p50"),
    ];
    let since = [
        vec![Span::raw(" in all")],
        count(totals.redispatched, "re-dispatched", Tone::Notable),
        count(totals.expired, "expired", Tone::Bad),
        count(totals.poisoned, "poisoned", Tone::Bad),
        count(totals.answered, "answered", Tone::Plain),
    ];
    let mut lines = vec![title, fitting(now, room).into(), fitting(since, room).into()];
    if let Some(trouble) = trouble(state) {
        // It is the only line if there is no second one.
        let place = usize::from(area.height > 1);
        lines[place] = Line::styled(shortened(&trouble, room), look.of(Tone::Bad).patch(REVERSED));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// Returns what is wrong with the connection, if anything.
fn trouble(state: &State) -> Option<String> {
    let since = state.silence.map(|silence| millis(silence.as_millis().try_into().unwrap_or(u64::MAX)));
    match (&state.gone, since) {
        (Some(why), Some(since)) => Some(format!(" {why} (for {since})")),
        (Some(why), None) => Some(format!(" {why}")),
        (None, Some(since)) => Some(format!(" the broker has not answered for {since}")),
        (None, None) => None,
    }
}

/// Draws a line for each pool: its pending requests, and its ring with the turn.
fn draw_pools(frame: &mut Frame, area: Rect, state: &State, look: Look) {
    let pools = &state.status.pools;
    let picked = state.pool.as_deref();
    let title = match pools.len() {
        0 | 1 => "pool".into(),
        more => format!("pools: {more}, {} picked", picked.unwrap_or("all")),
    };
    let area = titled(frame, area, &title, area.height > 1 && frame.area().height >= 16);
    let place = pools.iter().position(|pool| Some(&*pool.name) == picked).unwrap_or(0);
    let height = usize::from(area.height);
    let shown = pools.iter().skip(first_shown(place, pools.len(), height)).take(height);
    let mut lines: Vec<_> = shown.map(|pool| pool_line(pool, state, area.width.into(), look)).collect();
    if pools.is_empty() {
        lines.push(Line::raw(shortened(" no pool has workers or requests", area.width.into())));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn pool_line<'a>(pool: &'a PoolStatus, state: &State, room: usize, look: Look) -> Line<'a> {
    let picked = state.pool.as_ref() == Some(&pool.name);
    let name = Span::styled(shortened(&pool.name, 16), if picked { REVERSED } else { STRONG });
    let pending = match pool.oldest_ms {
        0..100 => format!("{} pending", grouped(pool.pending)),
        long => format!("{} pending for {}", grouped(pool.pending), millis(long)),
    };
    let rate = format!("{}/s", grouped(pool.rate));
    let mut facts = vec![vec![Span::raw(" "), name], vec![Span::raw(pending)], vec![Span::raw(rate)]];
    if pool.waits_for.is_some() && pool.waits_ms >= LONG_WAIT_MS {
        let waits = format!("turn waits for {}", millis(pool.waits_ms));
        facts.insert(1, vec![Span::styled(waits, look.of(Tone::Notable))]);
    }
    // The ring has the first claim on the room. A long one does not fit anyway.
    let whole: usize = pool.ring.iter().take(room).map(|&number| width(&name_of(number, state)) + 2).sum();
    let mut spans = fitting(facts, room.saturating_sub(whole + 4).max(room / 3));
    spans.push("  ".into());
    let taken: usize = spans.iter().map(|span| width(&span.content)).sum();
    spans.extend(ring(pool, state, room.saturating_sub(taken), look));
    spans.into()
}

/// Returns the part of the ring that fits, around the seat whose turn it is.
fn ring<'a>(pool: &PoolStatus, state: &State, room: usize, look: Look) -> Vec<Span<'a>> {
    const MORE: &str = " …";
    if pool.ring.is_empty() {
        return vec![Span::styled(shortened("no workers: requests wait", room), look.of(Tone::Bad))];
    }
    let turn = (pool.turn as usize).min(pool.ring.len() - 1);
    let seat = |place: usize| match place == turn {
        true => format!("{TURN}{}", name_of(pool.ring[place], state)),
        false => format!(" {}", name_of(pool.ring[place], state)),
    };
    let (mut from, mut to) = (turn, turn + 1);
    let mut left = room.saturating_sub(width(&seat(turn)) + 2 * width(MORE));
    loop {
        // The next seats matter more than the previous ones.
        let after = (to < pool.ring.len()).then(|| width(&seat(to)) + 1).filter(|taken| *taken <= left);
        let before = (from > 0).then(|| width(&seat(from - 1)) + 1).filter(|taken| *taken <= left);
        match (after, before) {
            (Some(taken), _) => (to, left) = (to + 1, left - taken),
            (None, Some(taken)) => (from, left) = (from - 1, left - taken),
            (None, None) => break,
        }
    }
    let mut spans = Vec::new();
    if from > 0 {
        spans.push("… ".into());
    }
    for place in from..to {
        let style = if Some(pool.ring[place]) == turn_of(pool) { STRONG } else { Style::new() };
        spans.push(Span::styled(shortened(&seat(place), room), style));
        spans.push(" ".into());
    }
    if to < pool.ring.len() {
        spans.push(MORE.trim_start().into());
    }
    spans
}

fn name_of(number: u64, state: &State) -> String {
    state.worker(number).map_or_else(|| format!("w{number}"), |worker| worker.name.clone())
}

/// Draws throughput and latency of the last minutes, the latest second on the right.
fn draw_graphs(frame: &mut Frame, area: Rect, state: &State, look: Look) {
    let history = state.history();
    let parts = match area {
        Rect { height: 12.., .. } => Layout::vertical([Constraint::Fill(1); 2]).split(area),
        Rect { width: 60.., .. } => Layout::horizontal([Constraint::Fill(1); 2]).spacing(1).split(area),
        _ => Layout::horizontal([Constraint::Fill(1)]).split(area),
    };
    draw_graph(frame, parts[0], ("answered/s", &history.rate), grouped, look);
    if let Some(&part) = parts.get(1) {
        let written = |us| if us > 0 { micros(us) } else { "-".into() };
        draw_graph(frame, part, ("p99", &history.p99_us), written, look);
    }
}

fn draw_graph(
    frame: &mut Frame,
    area: Rect,
    (what, values): (&str, &[u64]),
    written: impl Fn(u64) -> String,
    look: Look,
) {
    let shown = &values[values.len().saturating_sub(area.width.into())..];
    let [last, most] = [shown.last(), shown.iter().max()].map(|value| written(value.copied().unwrap_or(0)));
    let inner = titled(frame, area, &format!("{what} {last}, peak {most}, {} s", shown.len()), true);
    let graph = Sparkline::default().data(shown.iter().rev()).direction(RenderDirection::RightToLeft);
    frame.render_widget(graph.style(look.graph()), inner);
}

/// Draws the events, the latest first.
fn draw_events(frame: &mut Frame, area: Rect, state: &State, look: Look) {
    let area = titled(frame, area, "events", true);
    let uptime = state.status.uptime_ms;
    let lines = notable(&state.status.events).take(area.height.into()).map(|event| {
        let age = millis(uptime.saturating_sub(event.at_ms));
        Line::from(vec![
            Span::raw(format!("{age:>11}  ")),
            Span::styled(event.kind.clone(), look.of(tone_of(event))),
            Span::raw(format!(" {}", describe(event))),
        ])
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

/// Draws a question, or the outcome of an order and the keys.
fn draw_footer(frame: &mut Frame, area: Rect, state: &State) {
    let room = usize::from(area.width);
    if let Some(worker) = state.question.and_then(|number| state.worker(number)) {
        let alike = state.status.workers.iter().filter(|other| other.name == worker.name).count();
        let who = match alike {
            1 => format!("{} (w{})", worker.name, worker.number),
            more => format!("the {more} workers called {}", worker.name),
        };
        let question = format!(" drain {}? y/n", shortened(&who, room.saturating_sub(12)));
        let explained = format!("{question}   it finishes its {} and gets no more", worker.in_flight);
        let text = if width(&explained) <= room { explained } else { question };
        return frame.render_widget(Line::styled(text, REVERSED.patch(STRONG)), area);
    }
    let mut parts = Vec::new();
    if let Some(notice) = &state.notice {
        parts.push(vec![Span::styled(shortened(&format!(" {notice} "), room), REVERSED)]);
    }
    let sort = format!("sort: {}", state.sort.name());
    let groups = if state.by_host { "workers" } else { "hosts" };
    let pause = if state.paused { "go on" } else { "pause" };
    let keys = [(" q", "quit"), ("?", "help"), ("s", &sort), ("d", "drain"), ("p", pause), ("↑↓", "select")];
    let pools = (state.status.pools.len() > 1).then_some(("Tab", "pool"));
    let keys = keys.into_iter().chain(pools).chain([("g", groups)]);
    parts.extend(keys.map(|(key, does)| vec![Span::styled(key, STRONG), Span::raw(format!(" {does}"))]));
    frame.render_widget(Line::from(fitting(parts, room)), area);
}

fn draw_help(frame: &mut Frame) {
    let [width, height] = [HELP.lines().map(width).max(), Some(HELP.lines().count())].map(Option::unwrap_or_default);
    let area = frame.area().centered(Constraint::Length(width as u16 + 4), Constraint::Length(height as u16 + 2));
    let block = Block::bordered().title(Span::styled(" giostra top ", STRONG));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(HELP).wrap(Wrap { trim: false }).block(block), area);
}

/// Draws a title line if `shown`. Returns the area below it.
fn titled(frame: &mut Frame, area: Rect, title: &str, shown: bool) -> Rect {
    if !shown {
        return area;
    }
    let title = shortened(&format!(" {title} "), usize::from(area.width).saturating_sub(2));
    let line = Style::new().add_modifier(Modifier::DIM);
    let block = Block::new().borders(Borders::TOP).border_style(line).title(Span::styled(title, STRONG));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    inner
}

/// Returns the parts that fit, with a gap between them. Earlier ones have precedence; the first is
/// always included.
fn fitting<'a>(parts: impl IntoIterator<Item = Vec<Span<'a>>>, room: usize) -> Vec<Span<'a>> {
    const GAP: &str = "   ";
    let mut all = Vec::new();
    let mut left = room;
    for part in parts {
        let gap = if all.is_empty() { "" } else { GAP };
        let taken = gap.len() + part.iter().map(|span| width(&span.content)).sum::<usize>();
        if taken <= left || all.is_empty() {
            left = left.saturating_sub(taken);
            all.push(Span::raw(gap));
            all.extend(part);
        }
    }
    all
}

/// Says on the line above an area which of its rows are shown, unless that is all: the first, how many,
/// and of how many.
fn range(frame: &mut Frame, area: Rect, (first, shown, all): (usize, usize, usize)) {
    if shown == all {
        return;
    }
    let below = match grouped((all - first - shown) as u64) {
        none if none == "0" => String::new(),
        more => format!(", {more} more below"),
    };
    let text = format!(" {} to {}{below} ", grouped(first as u64 + 1), grouped((first + shown) as u64));
    frame.render_widget(Line::raw(text).right_aligned(), Rect { y: area.y - 1, height: 1, ..area });
}

/// Returns the first row to show, so that the selected one is visible.
fn first_shown(picked: usize, rows: usize, height: usize) -> usize {
    picked.saturating_sub(height / 2).min(rows.saturating_sub(height))
}

/// Returns a bar that is filled as `part` of `whole`.
fn bar(part: u64, whole: u64, width: usize) -> String {
    let full = (part.min(whole) as usize * width).div_ceil(whole.max(1) as usize);
    format!("{}{}", "█".repeat(full), "░".repeat(width - full))
}

#[cfg(test)]
mod tests;
