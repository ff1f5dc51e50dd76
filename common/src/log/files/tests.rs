use std::os::unix::fs::symlink;

use super::*;

fn files(directory: &Path, bytes: u64, files: usize) -> State {
    let opened = Files::open(directory, "x", Rotation { bytes, files }).unwrap();
    Arc::into_inner(opened.shared).unwrap().state.into_inner().unwrap()
}

fn say(state: &mut State, text: &str) {
    state.add(|waiting| waiting.write_all(text.as_bytes()));
}

fn read(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap_or_default()
}

#[test]
fn nothing_is_written_before_it_is_flushed_and_the_link_leads_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = files(folder.path(), 100, 1);
    say(&mut state, "one");
    assert_eq!(read(folder.path(), "x.log"), "");
    state.flush();
    assert_eq!(read(folder.path(), "x.log"), "one\n");
    assert_eq!(fs::read_link(folder.path().join("x.log")).unwrap(), Path::new("x_rCURRENT.log"));
}

#[test]
fn files_are_numbered_on_and_the_oldest_removed_also_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    for life in 0..2 {
        let mut state = files(folder.path(), 1, 2);
        for line in 0..3 {
            say(&mut state, &format!("{life}.{line}"));
            state.flush();
        }
    }
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["x.log", "x_r00003.log", "x_r00004.log", "x_rCURRENT.log"]);
    assert_eq!(read(folder.path(), "x_r00003.log"), "1.0\n");
    assert_eq!(read(folder.path(), "x.log"), "1.2\n");
}

#[test]
fn a_line_that_a_process_left_torn_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x_rCURRENT.log"), "tor").unwrap();
    let mut state = files(folder.path(), 100, 1);
    say(&mut state, "one");
    state.flush();
    assert_eq!(read(folder.path(), "x.log"), "tor\ttorn\none\n");
}

#[test]
fn a_torn_line_is_ended_in_its_own_file_also_if_that_is_full() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x_rCURRENT.log"), "tor").unwrap();
    let mut state = files(folder.path(), 1, 1);
    for line in ["one", "two"] {
        say(&mut state, line);
        state.flush();
    }
    assert_eq!(read(folder.path(), "x_r00000.log"), "tor\ttorn\none\n");
    assert_eq!(read(folder.path(), "x.log"), "two\n");
}

#[test]
fn the_last_whole_line_of_before_is_known_wherever_it_stands() {
    let predecessor = |texts: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        for (number, text) in texts.iter().enumerate() {
            let number = if number + 1 == texts.len() { "CURRENT".into() } else { format!("{number:05}") };
            fs::write(folder.path().join(format!("x_r{number}.log")), text).unwrap();
        }
        let opened = Files::open(folder.path(), "x", Rotation { bytes: 100, files: 9 }).unwrap();
        opened.shared.predecessor.clone()
    };
    let line = "2026-11-23T09:41:07.123456Z INFO  stopped";
    let known = Some(format!("2026-11-23T09:41:07.123456Z/{:08x}", crc32fast::hash(line.as_bytes())));
    let whole = format!("{line}\n");
    assert_eq!(predecessor(&["", ""]), None);
    assert_eq!(predecessor(&["torn"]), None);
    assert_eq!(predecessor(&[&whole]), known);
    assert_eq!(predecessor(&["older\n", &whole]), known);
    assert_eq!(predecessor(&[&format!("older\n{whole}torn")]), known);
    assert_eq!(predecessor(&[&format!("{whole}torn\ttorn\nagain\ttorn\n"), "torn\ttorn\n", ""]), known);
    // Longer than what is read at once, and than what is read the next time.
    let long = format!("{line} {}", "y".repeat(5 * 4096));
    let checksum = format!("/{:08x}", crc32fast::hash(long.as_bytes()));
    assert!(predecessor(&[&format!("older\n{long}\ntorn\ttorn\n")]).unwrap().ends_with(&checksum));
    assert_eq!(predecessor(&["\u{1b} \n"]).unwrap()[..2], *"?/");
}

#[test]
fn what_memory_cannot_hold_is_counted_and_told_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    // A device that is always full.
    symlink("/dev/full", folder.path().join("x_rCURRENT.log")).unwrap();
    let mut state = files(folder.path(), u64::MAX, 1);
    let line = "y".repeat(BUFFER_BYTES / 4 - 1);
    for _ in 0..4 {
        say(&mut state, &line);
        state.flush();
    }
    say(&mut state, "lost");
    say(&mut state, "lost");
    assert!(state.failing && state.lost == 2);

    // As if there were room again.
    fs::remove_file(folder.path().join("x_rCURRENT.log")).unwrap();
    state.file = open_current(folder.path(), "x").unwrap().0;
    state.flush();
    say(&mut state, "after");
    state.flush();
    let log = read(folder.path(), "x.log");
    let lines: Vec<_> = log.lines().collect();
    assert!(lines[..4].iter().all(|kept| *kept == line) && !state.failing);
    assert!(lines[4].ends_with(" WARN  log-gap lost=2"), "{}", lines[4]);
    assert_eq!(lines[5..], ["after"]);
}

#[test]
fn a_folder_that_was_taken_away_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("log");
    let mut state = files(&directory, 100, 1);
    say(&mut state, "one");
    state.flush();
    fs::remove_dir_all(&directory).unwrap();
    say(&mut state, "two");
    state.checked = None;
    state.flush();
    let log = read(&directory, "x.log");
    let lines: Vec<_> = log.lines().collect();
    let follows = format!(" INFO  log-continues after={}", line_id(b"one"));
    assert!(lines.len() == 3 && lines[0].ends_with(&follows), "{log}");
    assert!(lines[1].ends_with(" WARN  log-gap lost=1") && lines[2] == "two", "{log}");
}

#[test]
fn a_file_that_was_moved_away_loses_no_line_and_its_last_one_is_named_in_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = files(folder.path(), u64::MAX, 1);
    for round in ["one", "two", "three"] {
        say(&mut state, round);
        state.flush();
        say(&mut state, "meanwhile");
        fs::rename(folder.path().join("x_rCURRENT.log"), folder.path().join(round)).unwrap();
        state.checked = None;
        state.flush();
    }
    assert_eq!(read(folder.path(), "one"), "one\n");
    for (file, last, lines) in [("two", "one", "meanwhile\ntwo\n"), ("x.log", "three", "meanwhile\n")] {
        let log = read(folder.path(), file);
        let (first, rest) = log.split_once('\n').unwrap();
        assert!(first.ends_with(&format!(" INFO  log-continues after={}", line_id(last.as_bytes()))), "{log}");
        assert_eq!(rest, lines);
    }
    assert_eq!(state.total, 6);
}

#[test]
fn the_time_of_a_line_is_found_in_both_formats() {
    let time = "2026-11-23T09:41:07.123456Z";
    for line in [format!("{time} INFO  x"), format!("{{\"time\":\"{time}\",\"level\":\"INFO\"}}")] {
        assert_eq!(line_id(line.as_bytes()).split_once('/').unwrap().0, time);
    }
}

#[test]
fn a_process_whose_lockfile_was_removed_keeps_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut state = files(folder.path(), 100, 1);
    fs::remove_file(folder.path().join("x.lock")).unwrap();
    let second = || Files::open(folder.path(), "x", Rotation { bytes: 100, files: 1 });
    assert!(matches!(second(), Err(Error::Io(_))), "the current file is locked itself");
    say(&mut state, "one");
    state.flush();
    let refused = second().err().expect("the lock was taken again").to_string();
    assert!(refused.contains("x.lock is in use by process "), "{refused}");
    assert_eq!(read(folder.path(), "x.log"), "one\n");
}

#[test]
fn a_process_whose_folder_another_has_made_anew_writes_nothing_there_until_that_one_ends() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("log");
    let mut first = files(&directory, 1, 9);
    fs::remove_dir_all(&directory).unwrap();
    let mut second = files(&directory, 1, 9);
    for line in 0..3 {
        // Each would begin a new file, and so rename the other's.
        for (state, name) in [(&mut first, "first"), (&mut second, "second")] {
            state.checked = None;
            say(state, &format!("{name} {line}"));
            state.flush();
        }
    }
    assert_eq!(
        (read(&directory, "x_r00000.log"), read(&directory, "x_r00001.log")),
        ("second 0\n".into(), "second 1\n".into())
    );
    assert_eq!(read(&directory, "x.log"), "second 2\n");
    drop(second);
    first.flush();
    let after = read(&directory, "x.log");
    assert!(!first.failing && after.ends_with("first 0\nfirst 1\nfirst 2\n"), "{after}");
}
