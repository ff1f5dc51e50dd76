//! The protocol's page lists the fields of the status as they travel.

use giostra_protocol::{
    ClientStatus, EventStatus, History, HostStatus, JobTotals, JobsStatus, LeftOut, LiveJob, LostStatus, Percentiles,
    PoolStatus, PoolTotals, Status, StoreStatus, Totals, WorkerStatus,
};
use serde::Serialize;

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// The names of a struct's fields, in the order in which they are written.
fn fields<T: Serialize + Default>() -> Vec<String> {
    let json = serde_json::to_string(&T::default()).unwrap();
    let (mut depth, mut fields) = (0, Vec::new());
    let mut rest = json.as_str();
    while let Some(at) = rest.find(['{', '}', '[', ']', '"']) {
        let (found, after) = (&rest[at..=at], &rest[at + 1..]);
        rest = after;
        match found {
            "{" | "[" => depth += 1,
            "}" | "]" => depth -= 1,
            _ => {
                // No default has a text with a quotation mark in it.
                let (text, after) = after.split_once('"').unwrap();
                rest = after;
                if depth == 1 && after.starts_with(':') {
                    fields.push(text.into());
                }
            }
        }
    }
    fields
}

#[test]
fn the_page_lists_the_fields_of_the_status_in_their_order() {
    let section = PAGE.split("\n## ").find(|section| section.starts_with("The status\n")).expect("a section");
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")).collect();
    let names: Vec<_> = rows.iter().map(|row| row.split(" | ").nth(1).unwrap().to_string()).collect();
    assert_eq!(names, fields::<Status>());
    for (within, expected) in [
        ("totals", fields::<Totals>()),
        ("clients", fields::<ClientStatus>()),
        ("pools", fields::<PoolStatus>()),
        ("latency_us", fields::<Percentiles>()),
        ("history", fields::<History>()),
        ("events", fields::<EventStatus>()),
        ("pool_totals", fields::<PoolTotals>()),
        ("lost", fields::<LostStatus>()),
        ("left_out", fields::<LeftOut>()),
        ("jobs", fields::<JobsStatus>()),
        ("hosts", fields::<HostStatus>()),
    ] {
        let row = rows.iter().find(|row| row.split(" | ").nth(1) == Some(within)).unwrap();
        assert!(row.contains(&format!("`[{}]`", expected.join(", "))), "{within}: {expected:?} is not in {row}");
    }
    let section = section.replace('\n', " ");
    for (what, expected) in [
        ("A worker is", fields::<WorkerStatus>()),
        ("each", fields::<LiveJob>()),
        ("The jobs' totals are", fields::<JobTotals>()),
        ("`store` is", fields::<StoreStatus>()),
    ] {
        let sentence = format!("{what} `[{}]`", expected.join(", "));
        assert!(section.contains(&sentence), "{sentence} is not in the page");
    }
}
