//! Durable jobs and their store on the page.

use anyhow::{Result, ensure};
use giostra_client::{JobOptions, Priority, body};
use giostra_tests::browser::{Browser, ENTER, TAB};
use giostra_tests::{Setup, System};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{is_clean, open};

pub fn a_job_is_shown_with_its_progress_until_it_ends() -> Result<()> {
    let store = TempDir::new()?;
    let mut system = with_store(&store)?;
    let browser = open(&system)?;
    browser.wait_until("document.querySelector('#jobs').checkVisibility()")?;
    assert_eq!(browser.value("document.querySelector('#jobs-title').innerText")?, "Jobs · none");
    ensure!(
        browser.value("document.querySelector('#jobs .empty').checkVisibility()")? == true,
        "that there is none is said"
    );

    let mut client = system.client_of("late")?;
    let urgent = JobOptions::default().name("night").priority(Priority::High);
    let id = client.submit_job(urgent, [body("sleep", &[0.1])?])?.to_string();
    let failing = client.submit_job(JobOptions::default().retries(1000), [body("div", &[1, 0])?])?;
    browser.wait_until("document.querySelectorAll('#jobs tbody tr').length === 2")?;
    // The last is open for a moment.
    browser.wait_until("document.querySelector('#jobs-title').innerText === 'Jobs · 2 running'")?;
    assert_eq!(
        job_rows(&browser)?[0],
        json!([id, "night", "late", "high", "running", "0 / 1 · 0 %", "0 /s", "–", "0", "0"])
    );
    let _worker = system.other_worker("late-1", "late")?;
    browser.wait_until(&format!("{} === '{failing}'", "document.querySelector('#jobs tbody td').innerText"))?;
    browser.wait_until("document.querySelector('#jobs td.warns')?.innerText === '1'")?;
    assert_eq!(job_rows(&browser)?[0][9], "1", "it waits to be computed again");
    browser.wait_until("document.querySelector('#jobs-totals').innerText.includes('2 submitted, 1 finished')")?;
    ensure!(system.run(&["cancel", &failing.to_string()])?.code == Some(0));
    browser.wait_until("document.querySelector('#jobs-title').innerText === 'Jobs · none'")?;
    browser.wait_until("document.querySelector('#jobs .empty').checkVisibility()")?;
    for (kind, shape) in [("job", "joined"), ("finished", "busy"), ("cancelled-job", "discarded")] {
        let used = format!("document.querySelector('#events li[data-kind={kind}] use')?.getAttribute('href')");
        browser.wait_until(&format!("{used} === '#s-{shape}'"))?;
    }
    is_clean(&browser, &system)
}

pub fn jobs_are_sorted_and_found_by_keyboard_and_their_names_are_text() -> Result<()> {
    let store = TempDir::new()?;
    let mut system = with_store(&store)?;
    let names = ["<img/src/onerror>", "b", "a"];
    for name in names {
        submit(&mut system, &["add", "1", "2", "--pool", "nobody", "--name", name])?;
    }
    let browser = open(&system)?;
    browser.wait_until("document.querySelectorAll('#jobs tbody tr').length === 3")?;
    let named =
        || browser.value("[...document.querySelectorAll('#jobs tbody tr')].map((row) => row.children[1].innerText)");
    assert_eq!(named()?, json!(names), "the oldest is the first");
    browser.run("document.querySelectorAll('#jobs th button')[0].focus()")?;
    browser.press(TAB)?;
    browser.press(ENTER)?;
    browser.wait_until("document.querySelector('#jobs th[aria-sort=ascending]')?.innerText.startsWith('Name')")?;
    assert_eq!(named()?, json!(["<img/src/onerror>", "a", "b"]));
    assert_eq!(browser.value("document.querySelectorAll('#jobs img, [onerror]').length")?, 0);
    for (width, phone) in [(1280, false), (390, true)] {
        browser.set_size(width, 844, phone)?;
        browser.wait_until(&format!("innerWidth === {width}"))?;
        let wide = browser.value(
            "[...document.querySelectorAll('#jobs *')].filter((node) => node.getBoundingClientRect().right > innerWidth + 1 &&
               !node.closest('.scroll')).map((node) => node.outerHTML.slice(0, 100))",
        )?;
        assert_eq!((wide, browser.value("document.documentElement.scrollWidth")?), (json!([]), json!(width)));
    }
    is_clean(&browser, &system)
}

pub fn a_store_in_trouble_says_why_and_tells_it_to_screen_readers() -> Result<()> {
    let store = TempDir::new()?;
    let system = with_store(&store)?;
    let browser = open(&system)?;
    browser.wait_until("document.querySelector('#store').innerText.startsWith('Store: ')")?;
    // Snapshots as of a broker whose disk is full, whose disk has room again, and whose disk fails.
    browser.run(
        "stream.source.close();
         window.with_store = (store) => {
           const { jobs, ...rest } = structuredClone(model.snapshot);
           stream.hear(JSON.stringify({ ...rest, jobs: { ...jobs, store: { ...jobs.store, ...store } } }));
           return ['#store span', '#said'].map((what) => document.querySelector(what).textContent.split(' Store: ')[0].trim())
             .concat(document.querySelector('#store').className, document.querySelector('#store use').getAttribute('href'));
         };",
    )?;
    let full = "The store has no room for new requests: <b>no space</b>.";
    assert_eq!(browser.value("with_store({ full: '<b>no space</b>' })")?, json!([full, full, "suspect", "#s-suspect"]));
    let again = browser.value("with_store({ full: '' })")?;
    ensure!(again[0].as_str().is_some_and(|said| said.starts_with("Store: ")), "{again}");
    assert_eq!((&again[1], &again[2]), (&json!("The store has room again."), &json!("hint")));
    let failed = "The store is out of order until the broker is restarted: it broke.";
    assert_eq!(browser.value("with_store({ failed: 'it broke' })")?, json!([failed, failed, "lost", "#s-lost"]));
    is_clean(&browser, &system)
}

/// Starts a system whose broker serves its page, and keeps jobs in this folder.
fn with_store(folder: &TempDir) -> Result<System> {
    let store = folder.path().join("store").display().to_string();
    Setup::workers(1).watched().broker(&["--store", &store]).start()
}

/// Submits a job; returns its id.
fn submit(system: &mut System, args: &[&str]) -> Result<String> {
    let submitted = system.run(&[&["submit"], args].concat())?;
    ensure!(submitted.code == Some(0), "{submitted:?}");
    Ok(submitted.stdout.trim().into())
}

/// The cells of the jobs' rows.
fn job_rows(browser: &Browser) -> Result<Value> {
    browser.value(
        "[...document.querySelectorAll('#jobs tbody tr')].map((row) => [...row.children].filter((cell) => !cell.hidden).map((cell) => cell.innerText))",
    )
}
