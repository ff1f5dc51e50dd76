//! The live page in a real browser: what it shows of workers, also of those that are killed, and
//! that it shows it safely.
//!
//! Only where the machine has one (`giostra_tests::browser`); elsewhere these tests count as
//! ignored.

mod jobs;
mod many;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use giostra_tests::browser::{self, ENTER, TAB};
use giostra_tests::process::wait_for;
use giostra_tests::{Browser, Setup, System, test, trials};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use jobs::{
    a_job_is_shown_with_its_progress_until_it_ends, a_store_in_trouble_says_why_and_tells_it_to_screen_readers,
    jobs_are_sorted_and_found_by_keyboard_and_their_names_are_text,
};
use many::{
    a_phone_shows_a_thousand_workers_without_scrolling_sideways,
    hosts_are_listed_and_open_to_their_workers_and_a_search_finds_one,
    of_a_thousand_workers_each_has_a_cell_and_only_the_rows_in_sight_exist,
    the_pool_that_lost_a_worker_is_marked_and_opens_first_and_figures_are_its_own,
};

/// How late a kill may be seen, counted from the signal.
const SEEN: Duration = Duration::from_secs(1);

/// How often it is tried: the machine may be busy with something else.
const TRIES: usize = 3;

/// Browsers at once: each takes a core while it starts.
const AT_ONCE: usize = 2;

fn main() -> ExitCode {
    let tests = [
        test!(the_workers_sit_on_the_ring_and_stand_in_the_table needs browser::available),
        test!(a_killed_worker_is_seen_at_once_with_its_requests_moving_and_comes_back_at_the_tail needs browser::available),
        test!(a_kill_is_seen_within_a_second needs browser::available),
        test!(at_rest_the_turn_is_at_the_seat_where_the_status_has_it needs browser::available),
        test!(a_pool_that_has_lost_its_last_worker_is_still_shown needs browser::available),
        test!(a_page_that_nobody_sees_leaves_its_place needs browser::available),
        test!(a_worker_that_is_stuck_is_told_from_one_that_is_busy needs browser::available),
        test!(at_rest_the_figures_are_those_of_the_status needs browser::available),
        test!(whatever_peers_call_themselves_is_text needs browser::available),
        test!(a_broker_that_is_gone_is_told_and_its_successor_found needs browser::available),
        test!(each_pool_has_a_tab_and_the_arrow_keys_go_from_one_to_the_next needs browser::available),
        test!(the_tabulator_reaches_the_rows_and_one_sees_where_it_is needs browser::available),
        test!(who_wants_no_motion_or_a_dark_page_gets_it needs browser::available),
        test!(a_phone_shows_all_of_it_without_scrolling_sideways needs browser::available),
        test!(each_kind_of_event_has_its_shape needs browser::available),
        test!(a_job_is_shown_with_its_progress_until_it_ends needs browser::available),
        test!(jobs_are_sorted_and_found_by_keyboard_and_their_names_are_text needs browser::available),
        test!(a_store_in_trouble_says_why_and_tells_it_to_screen_readers needs browser::available),
        test!(of_a_thousand_workers_each_has_a_cell_and_only_the_rows_in_sight_exist needs browser::available),
        test!(hosts_are_listed_and_open_to_their_workers_and_a_search_finds_one needs browser::available),
        test!(the_pool_that_lost_a_worker_is_marked_and_opens_first_and_figures_are_its_own needs browser::available),
        test!(a_phone_shows_a_thousand_workers_without_scrolling_sideways needs browser::available),
    ];
    trials::run_at_once(AT_ONCE, &tests)
}

fn the_workers_sit_on_the_ring_and_stand_in_the_table() -> Result<()> {
    let system = Setup::workers(3).watched().start()?;
    let browser = open(&system)?;
    assert_eq!(seats(&browser)?, json!(["worker-1", "worker-2", "worker-3"]));
    assert_eq!(
        rows(&browser)?,
        json!([["worker-1", "1", "idle"], ["worker-2", "2", "idle"], ["worker-3", "3", "idle"]])
    );
    assert_eq!(browser.value("document.querySelector('#link').innerText")?, "Live");
    assert_eq!(browser.value("document.querySelector('#jobs').checkVisibility()")?, false, "there is no store");
    is_clean(&browser, &system)
}

fn a_killed_worker_is_seen_at_once_with_its_requests_moving_and_comes_back_at_the_tail() -> Result<()> {
    let mut system = Setup::workers(3).watched().start()?;
    let browser = open(&system)?;
    let batch = system.begin(&["random", "1000000", "--json"])?;
    browser.wait_until("document.querySelector('.seat.busy')")?;
    // Its window is full, so that it is certain to hold requests when it dies.
    system.worker(2).signal(Signal::SIGSTOP)?;
    wait_for("worker-2 holds requests", || {
        let worker = &system.snapshot().ok()?["workers"][1];
        (worker["in_flight"].as_u64() >= worker["window"].as_u64()).then_some(())
    })?;
    browser.run(
        "window.seen = {};
         const look = () => {
           const lost = document.querySelector('.seat.lost'), row = document.querySelector('#workers tr.lost');
           if (lost && row) seen.lost ??= true;
           if (lost && document.querySelector('.moves .move-head')) seen.moves ??= lost.textContent;
           if (document.querySelector('.seat.gains')) seen.gains ??= true;
         };
         new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });",
    )?;
    system.kill_worker(2)?;
    browser.wait_until("seen.lost && seen.moves && seen.gains")?;
    let seen = browser.value("seen")?;
    ensure!(seen["moves"].as_str().is_some_and(|text| text.contains("lost · 1,024 taken back")), "{seen}");

    let told = browser.value("[...document.querySelectorAll('#events li')].map((item) => item.innerText)")?.to_string();
    for part in ["dropped worker-2 w2, connection broke, 1,024 requests", "redispatch "] {
        ensure!(told.contains(part), "{part} in {told}");
    }
    ensure!(browser.value("document.querySelector('#said').textContent")?.to_string().contains("dropped worker-2"));
    let row = browser.value("document.querySelector('#workers tr.lost').innerText")?.to_string();
    ensure!(row.contains("connection broke. 1,024 requests of its were taken back"), "{row}");

    system.start_worker(2)?;
    browser.wait_until("!document.querySelector('.seat.lost') && document.querySelectorAll('.seat').length === 3")?;
    assert_eq!(seats(&browser)?, json!(["worker-1", "worker-3", "worker-2"]));
    browser.wait_until("!document.querySelector('#workers tr.lost')")?;
    batch.finish()?.all_well()?;
    is_clean(&browser, &system)
}

fn a_kill_is_seen_within_a_second() -> Result<()> {
    let mut system = Setup::workers(3).watched().start()?;
    let browser = open(&system)?;
    let _batch = system.begin(&["bench", "--duration", "300s"])?;
    browser.run(
        "window.look = () => {
           window.seen = {};
           new MutationObserver((_, observer) => {
             if (document.querySelector('.seat.lost')) seen.ring ??= Date.now();
             if (document.querySelector('#workers tr.lost')) seen.row ??= Date.now();
             if (seen.ring && seen.row) observer.disconnect();
           }).observe(document.body, { subtree: true, childList: true, attributes: true });
         };",
    )?;
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        browser.wait_until(
            "document.querySelectorAll('.seat').length === 3 && !document.querySelector('.lost:not(li)')",
        )?;
        browser.run("look()")?;
        let killed = SystemTime::now();
        system.worker(2).signal(Signal::SIGKILL)?;
        browser.wait_until("seen.ring && seen.row")?;
        let killed = killed.duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as u64;
        let seen = browser.value("Math.max(seen.ring, seen.row)")?.as_u64().context("a time")?;
        best = best.min(Duration::from_millis(seen.saturating_sub(killed)));
        eprintln!("a kill was seen after {} ms", seen.saturating_sub(killed));
        if best < SEEN {
            return is_clean(&browser, &system);
        }
        system.kill_worker(2)?;
        system.start_worker(2)?;
    }
    bail!("at best after {best:?}")
}

fn at_rest_the_turn_is_at_the_seat_where_the_status_has_it() -> Result<()> {
    let mut system = Setup::workers(3).watched().start()?;
    let browser = open(&system)?;
    for requests in ["1", "1", "2"] {
        system.random(&[requests])?;
        let pool = &system.status()?["pools"][0];
        let turn = pool["turn"].as_u64().context("a turn")? as usize;
        let number = pool["ring"][turn].as_u64().context("a seat")?;
        browser.wait_until(&format!(
            "!document.querySelector('.seat.busy') && document.querySelector('.seat.turn')?.number === {number}"
        ))?;
    }
    is_clean(&browser, &system)
}

fn a_pool_that_has_lost_its_last_worker_is_still_shown() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    let nightly = system.other_worker("nightly-1", "nightly")?;
    let browser = open(&system)?;
    browser.wait_until("document.querySelectorAll('[role=tab]').length === 2")?;
    browser.run("document.querySelectorAll('[role=tab]')[1].click()")?;
    browser.wait_until("document.querySelector('.seat')?.textContent.includes('nightly-1')")?;
    drop(nightly);
    browser.wait_until("document.querySelector('.seat.lost')?.textContent.includes('nightly-1')")?;
    browser.wait_until("document.querySelector('svg.ring').textContent.includes('No worker is left')")?;
    assert_eq!(
        browser.value("document.querySelector('[role=tab][aria-selected=true]').innerText")?,
        "nightly · 0 ⚠\u{fe0e}"
    );
    // Also for who comes only now.
    let late = open(&system)?;
    late.wait_until("document.querySelectorAll('[role=tab]').length === 2")?;
    late.run("document.querySelectorAll('[role=tab]')[1].click()")?;
    late.wait_until("document.querySelector('.seat.lost')?.textContent.includes('nightly-1')")?;
    let _again = system.other_worker("nightly-1", "nightly")?;
    browser.wait_until("document.querySelector('.seat:not(.lost)')?.textContent.includes('nightly-1')")?;
    is_clean(&browser, &system)
}

fn a_page_that_nobody_sees_leaves_its_place() -> Result<()> {
    let system = Setup::workers(1).watched().start()?;
    let browser = open(&system)?;
    // A minute passes as if it were a moment.
    browser.run(
        "const real = setTimeout;
         window.setTimeout = (then, after) => real(then, after / 1000);
         window.hide = (hidden) => {
           Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
           document.dispatchEvent(new Event('visibilitychange'));
         };
         hide(true);",
    )?;
    browser.wait_until("stream.source.readyState === EventSource.CLOSED")?;
    browser.run("window.before = stream.heardAt; hide(false)")?;
    browser.wait_until("stream.source.readyState === EventSource.OPEN && stream.heardAt > before")?;
    assert_eq!(browser.value("document.querySelector('#link').innerText")?, "Live");
    is_clean(&browser, &system)
}

fn a_worker_that_is_stuck_is_told_from_one_that_is_busy() -> Result<()> {
    let mut system =
        Setup::workers(1).watched().broker(&["--stuck-after", "500ms", "--ping-interval", "200ms"]).start()?;
    let browser = open(&system)?;
    let _sleeper = system.begin(&["send", "sleep", "60"])?;
    browser.wait_until("document.querySelector('.seat.stuck')?.textContent.includes('stuck ')")?;
    browser.wait_until("document.querySelector('#workers tr.stuck')?.innerText.includes('stuck')")?;
    let series = r#"giostra_workers{pool="compute",state="stuck"} 1"#;
    wait_for("it is in the metrics", || system.get("/metrics").ok()?.contains(series).then_some(()))?;
    wait_for("the terminal is told", || {
        let shown = system.run(&["status"]).ok()?.stdout;
        shown.lines().any(|line| line.starts_with("worker-1 ") && line.contains(" stuck ")).then_some(())
    })?;
    is_clean(&browser, &system)
}

fn at_rest_the_figures_are_those_of_the_status() -> Result<()> {
    let mut system = Setup::workers(3).watched().start()?;
    let browser = open(&system)?;
    system.random(&["30001"])?;
    browser.wait_until(
        "document.querySelectorAll('#clients tbody tr').length === 0 && !document.querySelector('.seat.busy')",
    )?;
    browser.wait_until("document.querySelector('#totals dl').innerText.includes('30,001')")?;
    let snapshot = system.snapshot()?;
    let shown = |expression: &str| -> Result<Vec<u64>> {
        let texts: Vec<String> = serde_json::from_value(browser.value(expression)?)?;
        texts.iter().map(|text| text.replace(',', "").parse().with_context(|| text.clone())).collect()
    };
    let column =
        "[...document.querySelectorAll('#workers thead th')].findIndex((head) => head.innerText === 'Answered')";
    let answered = shown(&format!(
        "((at) => [...document.querySelectorAll('#workers tbody tr')].map((row) => row.children[at].innerText))({column})"
    ))?;
    let of = |worker: &Value| worker["answered"].as_u64();
    let expected: Vec<_> = snapshot["workers"].as_array().into_iter().flatten().filter_map(of).collect();
    assert_eq!((answered.iter().sum::<u64>(), &answered), (30001, &expected));
    let totals = shown("[...document.querySelectorAll('#totals dd')].map((figure) => figure.innerText)")?;
    let names = [
        "accepted",
        "dispatched",
        "answered",
        "redispatched",
        "cancelled",
        "expired",
        "poisoned",
        "discarded",
        "refused",
        "rejected",
    ];
    let expected: Vec<_> = names.iter().filter_map(|name| snapshot["totals"][name].as_u64()).collect();
    assert_eq!(totals, expected, "{snapshot}");
    is_clean(&browser, &system)
}

fn whatever_peers_call_themselves_is_text() -> Result<()> {
    let mut system = Setup::workers(0).watched().start()?;
    let names = ["<img/src/onerror>", "\"'><script>alert(2)</script>", "&lt;b&gt;${1}`\\u0041", "<svg/onload>"];
    let mut workers = Vec::new();
    for name in names {
        workers.push(system.other_worker(name, "<b>pool\"'</b>")?);
    }
    workers.push(system.other_worker("fifth", "second&amp;")?);
    let browser = open(&system)?;
    browser.wait_until("document.querySelectorAll('#workers tbody tr').length === 5")?;
    let shown = browser.value("document.body.innerText")?;
    let shown = shown.as_str().context("text")?;
    for part in ["<img/src/onerror>", "<b>pool\"'</b>", "second&amp;"] {
        ensure!(shown.contains(part), "{part} in {shown}");
    }
    // Those lost are told, too.
    workers.clear();
    browser.wait_until("document.querySelectorAll('#workers tr.lost').length === 5")?;
    browser.run("document.querySelector('#workers tr.lost button').click()")?;
    browser.wait_until("document.querySelector('#readout').innerText.includes('connection broke')")?;
    let elements =
        "document.querySelectorAll('img, main script, main b:not([class]):not(.values b), [onerror], [onload]').length";
    assert_eq!(browser.value(elements)?, 0);
    is_clean(&browser, &system)
}

fn a_broker_that_is_gone_is_told_and_its_successor_found() -> Result<()> {
    let mut system = Setup::workers(2).watched().start()?;
    let browser = open(&system)?;
    system.random(&["5000"])?;
    browser.wait_until("document.querySelector('#totals dl').innerText.includes('5,000')")?;
    system.kill_broker()?;
    browser.wait_until("document.querySelector('body.stale')")?;
    let told = browser.value("document.querySelector('#link').innerText")?.to_string();
    ensure!(told.contains("No connection for ") && told.contains("Trying again."), "{told}");
    ensure!(browser.value("document.title")?.to_string().contains("no connection"));
    system.start_broker()?;
    browser.wait_until("!document.querySelector('body.stale') && document.querySelectorAll('.seat').length === 2")?;
    assert_eq!(browser.value("document.querySelector('#link').innerText")?, "Live");
    // Nothing is left of what the first one told.
    browser.wait_until("document.querySelector('#totals dd').innerText === '0'")?;
    let events = browser.value("[...document.querySelectorAll('#events li')].map((item) => item.innerText).join()")?;
    ensure!(!events.to_string().contains("client-"), "{events}");
    let refused = "net::ERR_CONNECTION_REFUSED";
    let other: Vec<_> = browser
        .complaints()?
        .into_iter()
        .filter(|complaint| {
            ![refused, "net::ERR_INCOMPLETE_CHUNKED_ENCODING"].iter().any(|usual| complaint.contains(usual))
        })
        .collect();
    ensure!(other.is_empty(), "{other:?}");
    is_clean(&browser, &system)
}

fn each_pool_has_a_tab_and_the_arrow_keys_go_from_one_to_the_next() -> Result<()> {
    let mut system = Setup::workers(2).watched().start()?;
    let _nightly = system.other_worker("nightly-1", "nightly")?;
    let browser = open(&system)?;
    browser.wait_until("document.querySelectorAll('[role=tab]').length === 2")?;
    assert_eq!(seats(&browser)?, json!(["worker-1", "worker-2"]));
    browser.run("document.querySelector('[role=tab]').focus()")?;
    browser.press("\u{E014}")?;
    browser.wait_until("document.querySelectorAll('.seat').length === 1")?;
    assert_eq!(seats(&browser)?, json!(["nightly-1"]));
    assert_eq!(browser.value("document.activeElement.innerText")?, "nightly · 1");
    is_clean(&browser, &system)
}

fn the_tabulator_reaches_the_rows_and_one_sees_where_it_is() -> Result<()> {
    let system = Setup::workers(3).watched().start()?;
    let browser = open(&system)?;
    let mut reached = Vec::new();
    for _ in 0..40 {
        browser.press(TAB)?;
        let (what, outline) = (
            browser.value("document.activeElement.innerText || document.activeElement.getAttribute('aria-label') || document.activeElement.className")?,
            browser.value("getComputedStyle(document.activeElement).outlineStyle + parseFloat(getComputedStyle(document.activeElement).outlineWidth)")?,
        );
        ensure!(what == "" || outline == "solid2", "{what} has focus and outline {outline}");
        reached.push(what.as_str().unwrap_or_default().to_string());
        if reached.last().is_some_and(|what| what == "worker-3") {
            break;
        }
    }
    for wanted in ["Skip to the table of workers", "Seat", "worker-1", "worker-2", "worker-3"] {
        ensure!(reached.iter().any(|what| what.trim() == wanted), "{wanted} in {reached:?}");
    }
    // The seat is shown whose row it is, and chosen with the enter key.
    browser.wait_until("document.querySelector('.seat.chosen')?.textContent.includes('worker-3')")?;
    browser.press(ENTER)?;
    browser.wait_until("document.activeElement.getAttribute('aria-pressed') === 'true'")?;
    browser.wait_until("document.querySelector('#readout').innerText.includes('worker-3 w3 · idle.')")?;
    is_clean(&browser, &system)
}

fn who_wants_no_motion_or_a_dark_page_gets_it() -> Result<()> {
    let mut system = Setup::workers(3).watched().start()?;
    let browser = open(&system)?;
    let ground = || browser.value("getComputedStyle(document.body).backgroundColor");
    let light = ground()?;
    let _batch = system.begin(&["bench", "--duration", "30s"])?;
    browser.wait_until("document.querySelector('.hand.flows')")?;
    ensure!(browser.value("document.getAnimations().length")? != 0, "it moves");
    for (feature, value) in
        [("prefers-reduced-motion", "reduce"), ("prefers-color-scheme", "dark"), ("forced-colors", "active")]
    {
        browser.prefer(feature, value)?;
        browser.wait_until(&format!("matchMedia('({feature}: {value})').matches"))?;
        if feature == "prefers-reduced-motion" {
            browser.wait_until("document.getAnimations().length === 0")?;
        }
        if feature == "prefers-color-scheme" {
            ensure!(ground()? != light, "{light}");
        }
        let worth = "document.querySelector('#totals dd').innerText";
        let before = browser.value(worth)?;
        browser.wait_until(&format!("{worth} !== {before}"))?;
        let cut = "[...document.querySelectorAll('.plot text')].filter((text) =>
             text.getBoundingClientRect().left < text.closest('svg').getBoundingClientRect().left - 1).map((text) => text.textContent)";
        assert_eq!(browser.value(cut)?, json!([]));
    }
    is_clean(&browser, &system)
}

fn a_phone_shows_all_of_it_without_scrolling_sideways() -> Result<()> {
    let mut system = Setup::workers(12).watched().start()?;
    let long = "x".repeat(64);
    let _long = system.other_worker(&long, &"y".repeat(64))?;
    let browser = open(&system)?;
    browser.set_size(390, 844, true)?;
    browser.wait_until("innerWidth === 390 && document.querySelectorAll('#workers tbody tr').length === 13")?;
    let _batch = system.begin(&["bench", "--duration", "30s"])?;
    for tab in 0..2 {
        browser.run(&format!("document.querySelectorAll('[role=tab]')[{tab}].click()"))?;
        browser.wait_until("document.querySelectorAll('.seat').length > 0")?;
        fits_a_phone(&browser)?;
    }
    is_clean(&browser, &system)
}

/// Nothing is wider than the window of 390, except what has bars of its own, and what is cut off.
fn fits_a_phone(browser: &Browser) -> Result<()> {
    assert_eq!(browser.value("[document.documentElement.scrollWidth, visualViewport.width]")?, json!([390, 390]));
    let wide = browser.value(
        "[...document.querySelectorAll('main *')].filter((node) => node.getBoundingClientRect().right > 391 &&
           !node.closest('.scroll, [role=tablist], svg, .unseen')).map((node) => node.outerHTML.slice(0, 100))",
    )?;
    assert_eq!(wide, json!([]));
    Ok(())
}

fn each_kind_of_event_has_its_shape() -> Result<()> {
    let mut system = Setup::workers(2).watched().broker(&["--max-pending", "1000", "--grace", "60s"]).start()?;
    let browser = open(&system)?;
    let shapes =
        |kind: &str| format!("document.querySelector('#events li[data-kind={kind}] use')?.getAttribute('href')");
    // rejected, discard and expire: the client wants them no more while they are computed, or still
    // wait.
    let mut sleeper = system.begin(&["send", "sleep", "1", "--timeout", "300ms"])?;
    sleeper.process().wait()?;
    system.run(&["random", "1", "--pool", "nobody", "--timeout", "100ms"])?;
    system.random(&["20000"])?;
    system.run(&["drain", "worker-2"])?;
    for (kind, shape) in [
        ("joined", "joined"),
        ("client-joined", "client"),
        ("client-left", "client"),
        ("rejected", "suspect"),
        ("discard", "discarded"),
        ("expire", "suspect"),
        ("leaving", "leaving"),
        ("left", "leaving"),
    ] {
        browser.wait_until(&format!("{} === '#s-{shape}'", shapes(kind)))?;
    }
    // closing: as long as something is in flight.
    let _sleeper = system.begin(&["send", "sleep", "20"])?;
    wait_for("it is computed", || (system.snapshot().ok()?["in_flight"] == 1).then_some(()))?;
    system.broker().signal(Signal::SIGTERM)?;
    browser.wait_until(&format!("{} === '#s-leaving'", shapes("closing")))?;
    is_clean(&browser, &system)
}

/// Opens the page, and waits until it shows something.
fn open(system: &System) -> Result<Browser> {
    let browser = Browser::start(1280, 800)?;
    browser.open(&format!("http://{}/", system.http()))?;
    browser.wait_until("document.querySelector('.seat, #workers tbody tr') && document.querySelector('#about').innerText.includes('up ')")?;
    Ok(browser)
}

/// Nothing was complained about, and nobody else was asked for anything.
fn is_clean(browser: &Browser, system: &System) -> Result<()> {
    let complaints = browser.complaints()?;
    ensure!(complaints.is_empty(), "{complaints:?}");
    let own = [format!("http://{}/", system.http()), format!("http://{}/events", system.http())];
    let requests = browser.requests()?;
    ensure!(requests.contains(&own[1]), "{requests:?}");
    // The browser's own first page is of its own making, and pictures in the page itself come from
    // nowhere.
    let from_nowhere = |url: &str| ["chrome:", "data:"].iter().any(|scheme| url.starts_with(scheme));
    let others: Vec<_> = requests.iter().filter(|url| !own.contains(url) && !from_nowhere(url)).collect();
    ensure!(others.is_empty(), "{others:?}");
    Ok(())
}

/// The names of the seats, clockwise.
fn seats(browser: &Browser) -> Result<Value> {
    browser.value(
        "[...document.querySelectorAll('.seat')].map((seat) => [parseFloat(seat.style.transform.slice(7)), seat.querySelector('.name').textContent])
           .sort(([a], [b]) => a - b).map(([, name]) => name)",
    )
}

/// Name, seat and state of the table's rows.
fn rows(browser: &Browser) -> Result<Value> {
    browser.value("[...document.querySelectorAll('#workers tbody tr')].map((row) => [0, 1, 3].map((at) => row.children[at].innerText.trim()))")
}
