//! What a user looks for, at the sizes that terminals have.

use std::time::Duration;

use giostra_protocol::{
    EventStatus, History, JobId, JobsStatus, LiveJob, LostStatus, Percentiles, Status, StoreStatus, Totals,
    WorkerStatus,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::top::keys::Key;

fn worker(number: u64, state: &str, in_flight: u64) -> WorkerStatus {
    WorkerStatus {
        name: format!("worker-{number}"),
        number,
        pool: "compute".into(),
        state: state.into(),
        in_flight,
        window: 64,
        seat: Some(number - 1),
        pong_age_ms: 400,
        round_trip_us: 210,
        rate: 4321,
        service_us: Percentiles { p50: 310, p90: 800, p99: 1500 },
        ..WorkerStatus::default()
    }
}

fn event(at_ms: u64, text: &str, count: Option<u64>) -> EventStatus {
    let kind = text.split(' ').next().unwrap_or_default().into();
    EventStatus { at_ms, kind, text: text.into(), worker: Some(1), count, ..EventStatus::default() }
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        uptime_ms: 65_000,
        rotation: "strict".into(),
        pending: 1234,
        in_flight: 77,
        totals: Totals { answered: 50_000_000, redispatched: 12, poisoned: 1, ..Totals::default() },
        workers: vec![worker(1, "busy", 64), worker(2, "suspect", 13), worker(3, "idle", 0)],
        pools: vec![PoolStatus {
            name: "compute".into(),
            ring: vec![1, 2, 3],
            turn: 1,
            pending: 1234,
            oldest_ms: 800,
            rate: 12_963,
            ..PoolStatus::default()
        }],
        latency_us: Percentiles { p50: 700, p90: 900, p99: 2100 },
        history: History {
            step_ms: 1000,
            rate: (0..300).map(|second| second * 40).collect(),
            p50_us: vec![700; 300],
            p99_us: (0..300).map(|second| second % 17 * 100).collect(),
        },
        events: vec![
            event(1000, "joined worker-1 w1 pool=compute threads=2 window=64 seats=1", None),
            event(61_500, "dropped worker-4 w4 returned=12 c1#1..12 reason=connection broke", Some(12)),
            event(61_501, "redispatch worker-1 w1 t5 c1#5", Some(1)),
        ],
        ..Status::default()
    }
}

fn state() -> State {
    let mut state = State::new("tcp://127.0.0.1:5555");
    state.handle_status(status());
    state
}

fn drawn(state: &State, columns: u16, rows: u16, colours: bool) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a test's terminal never fails");
    terminal.draw(|frame| draw(frame, state, Look { colours })).expect("a test's terminal never fails");
    terminal.backend().clone()
}

/// What is on the screen.
fn screen(state: &State, columns: u16, rows: u16) -> String {
    drawn(state, columns, rows, true).to_string().replace('"', "")
}

#[track_caller]
fn shows(screen: &str, expected: &[&str]) {
    for text in expected {
        assert!(screen.contains(text), "no {text:?} in\n{screen}");
    }
}

#[test]
fn all_of_it_is_seen_on_80x24() {
    let screen = screen(&state(), 80, 24);
    shows(
        &screen,
        &[
            " giostra 0.1.0   up 1 min 5 s   strict rotation   tcp://127.0.0.1:5555",
            " 11,960/s   1,234 pending   77 in flight   p99 2.1 ms   p50 700 us",
            "12 re-dispatched   0 expired   1 poisoned   50,000,000 answered",
            "compute   1,234 pending for 0.8 s   12,963/s   worker-1 ▸worker-2  worker-3",
            " workers: 3, by seat ",
            " WORKER    STATE    IN FLIGHT         RATE   P50     P99     PONG   RTT     LOST",
            " worker-1  busy     64/64      █████  4,321  310 us  1.5 ms  0.4 s  210 us  0",
            "▸worker-2  suspect  13/64      ██░░░",
            " answered/s 11,960, peak 11,960, 40 s ",
            " p99 1.0 ms",
            "█",
            "      3.5 s  redispatch worker-1 w1, 1 request ",
            "      3.5 s  dropped worker-4 w4, connection broke, 12 requests ",
            "1 min 4 s  joined worker-1 w1",
            "q quit   ? help   s sort: seat   d drain   p pause   ↑↓ select",
        ],
    );
}

#[test]
fn a_lost_worker_is_told_below_those_that_are_there_and_a_stuck_one_is_seen() {
    let mut state = state();
    let lost = |number: u64| LostStatus {
        name: format!("worker-{number}"),
        number,
        pool: "compute".into(),
        at_ms: 61_500,
        reason: "connection broke".into(),
        returned: 12,
        ..LostStatus::default()
    };
    let stuck = WorkerStatus { computing: 1, oldest_ms: 400_000, ..worker(1, "stuck", 3) };
    state.handle_status(Status { workers: vec![stuck, worker(3, "idle", 0)], lost: vec![lost(4)], ..status() });
    shows(
        &screen(&state, 80, 24),
        &[
            " workers: 2, 1 lost, by seat ",
            " worker-1  stuck  3/64       █░░░░  6 min 40 s  4,321 ",
            " worker-4  lost  3.5 s ago, connection broke; 12 taken back",
        ],
    );
    shows(&screen(&state, 80, 24), &["  OLDEST      RATE "]);
    shows(&screen(&state, 120, 30), &["  OLDEST      RATE ", "RTT"]);
    // When nobody is there, they are what there is to tell; where there is no room, their number is.
    state.handle_status(Status { workers: vec![], lost: vec![lost(4), lost(5)], ..status() });
    shows(&screen(&state, 80, 24), &["no workers: requests wait", " worker-5  lost", " worker-4  lost"]);
    let workers = (1..=300).map(|number| worker(number, "busy", 1)).collect();
    state.handle_status(Status { workers, lost: vec![lost(4)], ..status() });
    let screen = screen(&state, 80, 24);
    shows(&screen, &[" workers: 300, 1 lost, by seat ", " 1 to 7, 293 more below ", " worker-4  lost  3.5 s ago"]);
}

#[test]
fn a_small_terminal_has_what_matters_most() {
    let screen = screen(&state(), 40, 10);
    shows(
        &screen,
        &["/s   1,234 pending   77 in flight", "▸worker-2", "worker-1  busy", "suspect  13/64", "idle", "q quit"],
    );
}

#[test]
fn a_large_terminal_has_more_of_each() {
    let screen = screen(&state(), 120, 40);
    shows(&screen, &["210 us", "peak 11,960, 60 s", "joined worker-1 w1 pool=compute threads=2 window=64 seats=1"]);
}

#[test]
fn no_size_is_too_small_or_too_large() {
    let mut asking = state();
    asking.handle_key(Key::Char('d'));
    let mut helping = state();
    helping.handle_key(Key::Char('?'));
    let mut gone = state();
    gone.handle_gone("no broker at tcp://127.0.0.1:5555, trying again".into());
    gone.silence = Some(Duration::from_secs(3));
    let mut many = state();
    let workers = (1..=300).map(|number| worker(number, "busy", number)).collect();
    let pool =
        |name: &str| PoolStatus { name: name.into(), ring: (1..=300).collect(), turn: 150, ..PoolStatus::default() };
    let pools = (1..=20).map(|number| pool(&format!("pool-{number}"))).collect();
    many.handle_status(Status { workers, pools, ..status() });
    let empty = State::new("tcp://127.0.0.1:5555");
    // The panes change with every row up to 32.
    let rows = || (1..=33).chain([60]);
    for (columns, rows) in (1..=200).flat_map(|columns| rows().map(move |rows| (columns, rows))) {
        drawn(&state(), columns, rows, true);
    }
    for state in [asking, helping, gone, many, empty] {
        for (columns, rows) in (1..=200).step_by(19).flat_map(|columns| rows().map(move |rows| (columns, rows))) {
            drawn(&state, columns, rows, true);
        }
    }
}

#[test]
fn the_seat_whose_turn_it_is_is_seen_in_a_ring_of_any_length() {
    let mut state = state();
    let workers: Vec<_> = (1..=300).map(|number| worker(number, "busy", 1)).collect();
    let mut pool = PoolStatus { name: "compute".into(), ring: (1..=300).collect(), ..PoolStatus::default() };
    for turn in 0..300 {
        pool.turn = turn;
        state.handle_status(Status { workers: workers.clone(), pools: vec![pool.clone()], ..status() });
        let screen = screen(&state, 80, 24);
        let line = screen.lines().nth(4).unwrap_or_default();
        assert!(format!("{line} ").contains(&format!("▸worker-{} ", turn + 1)), "{turn}: {line}");
    }
    assert!(screen(&state, 80, 24).contains("0 pending   0/s  … "));
}

#[test]
fn the_selected_worker_is_seen_however_many_there_are() {
    let mut state = state();
    let workers = (1..=300).map(|number| worker(number, "busy", 1)).collect();
    state.handle_status(Status { workers, ..status() });
    for number in [1, 2, 150, 299, 300] {
        state.selected = Some(number);
        shows(&screen(&state, 80, 24), &[&format!("worker-{number}  busy")]);
    }
}

#[test]
fn a_broker_that_is_gone_is_said_where_it_is_seen() {
    let mut state = state();
    state.handle_gone("no broker at tcp://127.0.0.1:5555, trying again".into());
    state.silence = Some(Duration::from_millis(3200));
    for (columns, rows) in [(80, 24), (40, 10), (40, 2)] {
        shows(&screen(&state, columns, rows), &["no broker at tcp://127.0.0.1:5555"]);
    }
    shows(&screen(&state, 80, 24), &["trying again (for 3.2 s)"]);
    state.handle_status(status());
    shows(&screen(&state, 80, 24), &["the broker has not answered for 3.2 s"]);
}

#[test]
fn a_drain_is_asked_for_and_answered_at_the_bottom() {
    let mut state = state();
    state.handle_key(Key::Down);
    state.handle_key(Key::Char('d'));
    shows(&screen(&state, 80, 24), &[" drain worker-2 (w2)? y/n   it finishes its 13 and gets no more"]);
    shows(&screen(&state, 40, 10), &[" drain worker-2 (w2)? y/n"]);
    state.handle_key(Key::Char('n'));
    state.notice = Some("the broker refused: no role 'admin'".into());
    shows(&screen(&state, 80, 24), &["the broker refused: no role 'admin'", "q quit"]);
}

#[test]
fn several_pools_are_shown_and_one_can_be_picked() {
    let mut state = state();
    let mut two = status();
    two.workers[2].pool = "gpu".into();
    two.pools[0].ring = vec![1, 2];
    two.pools.push(PoolStatus { name: "gpu".into(), ring: vec![3], ..PoolStatus::default() });
    state.handle_status(two);
    let all = screen(&state, 80, 24);
    shows(&all, &["pools: 2, all picked", "gpu   0 pending", "▸worker-3", "POOL", "Tab pool"]);
    state.handle_key(Key::BackTab);
    let one = screen(&state, 80, 24);
    shows(&one, &["pools: 2, gpu picked", "workers of pool gpu: 1"]);
    assert!(!one.contains("worker-1  busy"), "{one}");
}

#[test]
fn help_and_pause_are_seen() {
    let mut state = state();
    state.handle_key(Key::Char('p'));
    shows(&screen(&state, 80, 24), &["giostra 0.1.0  PAUSED", "p go on"]);
    state.handle_key(Key::Char('?'));
    shows(&screen(&state, 80, 24), &["select a worker", "whose turn it is"]);
    shows(&screen(&state, 40, 10), &["q Esc Ctrl-C"]);
}

#[test]
fn without_colours_there_are_none() {
    let coloured = |colours| {
        let backend = drawn(&state(), 80, 24, colours);
        let cells = &backend.buffer().content;
        cells.iter().filter(|cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset)).count()
    };
    assert_eq!(coloured(false), 0);
    assert!(coloured(true) > 0);
}

#[test]
fn a_bar_is_empty_only_if_there_is_nothing() {
    assert_eq!(
        [(0, 64), (1, 64), (32, 64), (64, 64), (70, 64), (0, 0)].map(|(part, whole)| bar(part, whole, 4)),
        ["░░░░", "█░░░", "██░░", "████", "████", "░░░░"]
    );
}

fn with_jobs(count: u64) -> State {
    let job = |number| LiveJob {
        id: JobId { home: 0x5f3a_9c01, number },
        name: format!("night-{number}"),
        pool: "compute".into(),
        closed: true,
        requests: 20_000,
        succeeded: 4_990,
        failed: 10,
        rate: 250,
        left_ms: Some(60_000),
        ..LiveJob::default()
    };
    let mut state = state();
    let live = (1..=count).map(job).collect();
    state.status.jobs = Some(JobsStatus { live, ..JobsStatus::default() });
    state
}

#[test]
fn a_job_that_runs_is_seen_with_its_rate_and_the_time_that_is_left() {
    let small = screen(&with_jobs(1), 80, 24);
    shows(
        &small,
        &[
            " jobs: 1 ",
            "JOB ",
            "5f3a9c01-1  night-1",
            "5000/20000",
            "250/s",
            "1 min 0 s",
            " worker-3  idle",
            "dropped worker-4",
        ],
    );
    let large = screen(&with_jobs(30), 120, 50);
    shows(&large, &[" jobs: 30 ", "5f3a9c01-8   night-8", "███░░░░░░░", " worker-3  idle", " answered/s "]);
    assert!(!large.contains("night-9 "), "{large}");
    assert!(!screen(&with_jobs(0), 80, 24).contains("jobs"));
}

#[test]
fn jobs_of_other_pools_are_not_listed_and_a_store_that_is_full_says_so() {
    let mut state = with_jobs(2);
    state.pool = Some("gpu".into());
    assert!(!screen(&state, 80, 24).contains("night-1"));
    let store = StoreStatus { full: "no space left on device".into(), ..StoreStatus::default() };
    state.status.jobs = Some(JobsStatus { store, ..JobsStatus::default() });
    shows(&screen(&state, 80, 24), &["the store takes no more: no space left on device"]);
}

/// 1,000 workers on 20 hosts, and 30 that were lost on one of them.
fn crowd() -> State {
    let host = |number: u64| format!("node-{}", number % 20);
    let workers = (1..=1000).map(|number| WorkerStatus { host: host(number), ..worker(number, "busy", 1) });
    let lost = |number| LostStatus {
        name: format!("gone-{number}"),
        number,
        pool: "compute".into(),
        at_ms: 60_000,
        reason: "connection broke".into(),
        host: "node-7".into(),
        ..LostStatus::default()
    };
    let mut state = state();
    state.handle_status(Status { workers: workers.collect(), lost: (2000..2030).map(lost).collect(), ..status() });
    state
}

#[test]
fn a_wide_screen_has_the_graphs_and_the_events_beside_the_workers() {
    let wide = screen(&crowd(), 200, 50);
    let line = wide.lines().find(|line| line.contains("workers: 1,000, 30 lost")).unwrap_or_else(|| panic!("{wide}"));
    assert!(line.contains("more below"), "{line}");
    shows(&wide, &["HOST", "ANSWERED", "ADDRESS", "node-7", " … and ", " more lost", "p99 1.0 ms", "dropped worker-4"]);
    let beside = wide.lines().filter(|line| line.contains(" busy ") && line.trim_end().chars().count() > 125).count();
    assert!(beside > 15, "both halves are used:\n{wide}");
}

#[test]
fn hosts_are_listed_with_the_troubled_one_first_and_one_opens_to_its_workers() {
    let mut state = crowd();
    state.handle_key(Key::Char('g'));
    for (columns, rows) in [(80, 24), (200, 50)] {
        let hosts = screen(&state, columns, rows);
        shows(&hosts, &["hosts: 20, 1 in trouble", "HOST", "LOST", "g workers"]);
        let first = hosts.lines().skip_while(|line| !line.contains("HOST ")).nth(1).unwrap_or_default();
        assert!(first.starts_with(" node-7 ") && first.contains("30"), "{hosts}");
    }
    state.handle_key(Key::Enter);
    shows(&screen(&state, 80, 24), &["workers on node-7: 50, 30 lost", "gone-2029"]);
    state.handle_key(Key::Char('g'));
    shows(&screen(&state, 80, 24), &["hosts: 20"]);
    state.handle_key(Key::Char('d'));
    shows(&screen(&state, 80, 24), &["lists the workers to drain"]);
}
