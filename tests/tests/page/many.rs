//! The page of a broker with many workers: cells, hosts, search.

use anyhow::{Result, ensure};
use giostra_tests::{Browser, Crowd, Setup};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{fits_a_phone, is_clean, open, seats};

/// Stand-ins, and how many of them are on a host.
const MANY: usize = 1000;
const PER_HOST: usize = 50;

/// The longest time in milliseconds that drawing one snapshot of a thousand workers may take, on a
/// machine that does other things besides: four come a second.
const DRAWN_MS: f64 = 150.0;

pub fn of_a_thousand_workers_each_has_a_cell_and_only_the_rows_in_sight_exist() -> Result<()> {
    let mut system = Setup::workers(0).watched().start()?;
    let _crowd = Crowd::on_hosts(system.backend(), "compute", MANY, PER_HOST);
    let browser = open(&system)?;
    browser.wait_until("document.querySelectorAll('.heat .cell[role=option]').length === 1000")?;
    ensure!(browser.value("document.querySelectorAll('.seat').length")? == 0, "there is no ring besides");
    let cells = "[...document.querySelectorAll('.heat .cell[role=option]')]";
    let inside = browser.value(&format!(
        "((stage) => {cells}.every((cell) => {{ const it = cell.getBoundingClientRect();
           return it.width >= 8 && it.right <= stage.right + 1 && it.bottom <= stage.bottom + 1; }}))(document.querySelector('#rings').getBoundingClientRect())"
    ))?;
    ensure!(inside == true, "the cells are large enough to be told apart, and inside their panel");
    let rows = browser.value("document.querySelectorAll('#workers tbody tr').length")?;
    ensure!(rows.as_u64().is_some_and(|rows| rows < 100), "{rows} rows");
    assert_eq!(browser.value("document.querySelector('#workers table').getAttribute('aria-rowcount')")?, "1001");
    browser.run("workers.scroller.scrollTop = workers.scroller.scrollHeight")?;
    browser.wait_until(
        "[...document.querySelectorAll('#workers tr[aria-rowindex]')].some((row) => row.children[1].innerText === '1,000')",
    )?;

    // So many that come at one time are one event.
    let told = "[...document.querySelectorAll('#events li[data-kind=joined] p')].map((line) => line.innerText)";
    browser.wait_until(&format!("{told}.some((line) => /^joined [0-9,]+ workers, node-/.test(line))"))?;

    // A cell tells of its worker when it is pointed at, by the mouse or the keyboard.
    browser.run(&format!("{cells}[3].dispatchEvent(new PointerEvent('pointerover', {{ bubbles: true }}))"))?;
    browser.wait_until("document.querySelector('#readout').innerText.startsWith('stand-in-')")?;
    browser.run("point(null); document.querySelector('.heat [role=listbox]').focus()")?;
    browser.press("\u{E014}")?;
    browser.press("\u{E014}")?;
    browser.wait_until(&format!("{cells}[1].classList.contains('chosen')"))?;
    let active = "document.querySelector('.heat [role=listbox]').getAttribute('aria-activedescendant')";
    assert_eq!(browser.value(&format!("{active} === {cells}[1].id"))?, true);

    let _load = system.begin(&["bench", "--duration", "300s", "--size", "64", "--window", "20000"])?;
    browser.wait_until("document.querySelectorAll('.heat .cell.l4').length > 500")?;
    let drawn = browser.run(
        "const took = []; for (let round = 0; round < 20; round++) { const begun = performance.now(); render(true); document.body.offsetHeight; took.push(performance.now() - begun); }
         return took.sort((a, b) => a - b)[10];",
    )?;
    eprintln!("a snapshot of {MANY} workers is drawn in {drawn} ms (median of 20, layout included)");
    ensure!(drawn.as_f64().is_some_and(|drawn| drawn < DRAWN_MS), "{drawn} ms");
    is_clean(&browser, &system)
}

pub fn hosts_are_listed_and_open_to_their_workers_and_a_search_finds_one() -> Result<()> {
    let mut system = Setup::workers(2).watched().worker(&["--host", "lonely"]).start()?;
    let _crowd = Crowd::on_hosts(system.backend(), "compute", 200, 50);
    let browser = open(&system)?;
    browser.wait_until("document.querySelector('#workers-title').innerText === 'Workers · 202'")?;
    browser.run("document.querySelector('.choice [value=hosts]').click()")?;
    let hosts = "[...document.querySelectorAll('#hosts tbody tr')].map((row) => [row.children[0].innerText, row.children[1].innerText, row.children[2].innerText])";
    browser.wait_until(&format!("{hosts}.length === 5"))?;
    system.worker(2).signal(Signal::SIGKILL)?;
    browser.wait_until(&format!("JSON.stringify({hosts}[0]) === '[\"lonely\",\"1 lost\",\"1\"]'"))?;
    browser.run("document.querySelector('#hosts tbody tr button').click()")?;
    let names = "[...document.querySelectorAll('#workers tr[aria-rowindex]')].filter((row) => row.checkVisibility()).map((row) => row.children[0].innerText)";
    browser.wait_until(&format!("JSON.stringify({names}) === '[\"worker-2\",\"worker-1\"]'"))?;
    assert_eq!(browser.value("document.querySelector('.tools .host').innerText.trim()")?, "lonely ✕");
    browser.run("document.querySelector('.tools .host').click()")?;

    for (text, found) in [("stand-in-77", "1 of 202"), ("NODE-3", "50 of 202"), ("node-3 stand-in-14", "10 of 202")] {
        browser.run(&format!(
            "const input = document.querySelector('.tools input'); input.value = '{text}'; input.dispatchEvent(new Event('input'))"
        ))?;
        browser.wait_until(&format!("document.querySelector('.tools output').innerText === '{found}'"))?;
    }
    browser.run(
        "const input = document.querySelector('.tools input'); input.value = 'nobody'; input.dispatchEvent(new Event('input'))",
    )?;
    browser.wait_until("document.querySelector('#workers > .empty').checkVisibility()")?;
    browser.run(
        "const input = document.querySelector('.tools input'); input.value = ''; input.dispatchEvent(new Event('input'));
         const select = document.querySelector('.tools select'); select.value = 'trouble'; select.dispatchEvent(new Event('change'))",
    )?;
    browser.wait_until(&format!("JSON.stringify({names}) === '[\"worker-2\"]'"))?;
    is_clean(&browser, &system)
}

pub fn the_pool_that_lost_a_worker_is_marked_and_opens_first_and_figures_are_its_own() -> Result<()> {
    let mut system = Setup::workers(1).watched().start()?;
    let nightly = [system.other_worker("nightly-1", "nightly")?, system.other_worker("nightly-2", "nightly")?];
    system.random(&["3000"])?;
    system.random(&["100", "--pool", "nightly"])?;
    let [gone, _stays] = nightly;
    drop(gone);
    system.wait_for_line(&["dropped nightly-1"])?;
    let browser = open(&system)?;
    browser.wait_until("document.querySelectorAll('[role=tab]').length === 2")?;
    assert_eq!(
        browser.value("document.querySelector('[role=tab][aria-selected=true]').innerText")?,
        "nightly · 1 ⚠\u{fe0e}"
    );
    let figures = |at: usize| format!("document.querySelectorAll('#totals dd')[{at}].innerText");
    browser.wait_until(&format!("{} === '100'", figures(2)))?;
    browser.wait_until(
        "[...document.querySelectorAll('.tile')].some((tile) => tile.innerText.includes('1 lost, 1 idle'))",
    )?;
    browser.run("document.querySelector('[role=tab]').click()")?;
    browser.wait_until(&format!("{} === '3,000'", figures(2)))?;
    assert_eq!(seats(&browser)?, json!(["worker-1"]));
    // A young broker's time axis begins where it does.
    browser.wait_until("!document.querySelector('#plot-rate').textContent.includes('−5 min')")?;
    let long = "[...document.querySelectorAll('#events li p')].filter((line) => line.offsetHeight > 24 || line.title !== line.textContent).length";
    assert_eq!(browser.value(long)?, 0, "each event is one line, and whole on hover");
    is_clean(&browser, &system)
}

pub fn a_phone_shows_a_thousand_workers_without_scrolling_sideways() -> Result<()> {
    let system = Setup::workers(0).watched().start()?;
    let _crowd = Crowd::on_hosts(system.backend(), "compute", MANY, PER_HOST);
    let browser: Browser = open(&system)?;
    browser.set_size(390, 844, true)?;
    browser
        .wait_until("innerWidth === 390 && document.querySelectorAll('.heat .cell[role=option]').length === 1000")?;
    fits_a_phone(&browser)?;
    is_clean(&browser, &system)
}
