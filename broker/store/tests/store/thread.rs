//! The store's thread: groups, order, and what happens when the store fails.

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use giostra_core::ids::JobNumber;
use giostra_core::store::{Done, Op, Read, Write};
use giostra_protocol::Bytes;
use giostra_store::{MAX_GROUP_BYTES, MAX_GROUP_WRITES, Store, StoreError, StoreThread};

use super::*;

/// A thread and what wakes the test.
struct Waited {
    thread: StoreThread,
    woken: Receiver<()>,
}

impl Waited {
    fn start(store: impl Store + 'static) -> Self {
        let (wake, woken) = mpsc::channel();
        let thread = StoreThread::start(store, move || wake.send(()).unwrap_or(())).unwrap();
        Self { thread, woken }
    }

    /// Waits for a number of answers.
    fn answers(&self, count: usize) -> Vec<Done> {
        let mut all = Vec::new();
        while all.len() < count {
            self.woken.recv().expect("the thread is there");
            all.extend(self.thread.completed());
        }
        assert_eq!(all.len(), count);
        all
    }
}

/// What a store was asked.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Commit(usize),
    Scan,
    Sweep,
}

/// A store that tells the test what it is asked, and waits for what it is to say.
struct Puppet {
    asked: Sender<Asked>,
    says: Mutex<Receiver<Result<bool, StoreError>>>,
}

impl Puppet {
    fn new() -> (Self, Receiver<Asked>, Sender<Result<bool, StoreError>>) {
        let (asked, questions) = mpsc::channel();
        let (say, says) = mpsc::channel();
        (Self { asked, says: Mutex::new(says) }, questions, say)
    }

    fn say(&self, asked: Asked) -> Result<bool, StoreError> {
        self.asked.send(asked).unwrap();
        self.says.lock().unwrap().recv().expect("the test says what happens")
    }
}

impl Store for Puppet {
    fn commit(&mut self, group: &[Write]) -> Result<Vec<Done>, StoreError> {
        self.say(Asked::Commit(group.len())).map(|_| vec![Done::Written; group.len()])
    }

    fn scan(&mut self, _: &Read) -> Result<Done, StoreError> {
        self.say(Asked::Scan).map(|_| Done::Jobs(vec![]))
    }

    fn sweep(&mut self) -> Result<bool, StoreError> {
        self.say(Asked::Sweep)
    }
}

fn cancel() -> Op {
    Op::Write(Write::Cancel(JobNumber(1)))
}

fn question() -> Op {
    Op::Read(Read::Job(JobNumber(1)))
}

#[test]
fn each_write_and_question_is_answered_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let waited = Waited::start(open(folder.path()));
    waited.thread.submit(Op::Write(create(1, "a")));
    for number in 0..200 {
        waited.thread.submit(Op::Write(append(1, number..number + 1, false)));
        waited.thread.submit(question());
    }
    let answers = waited.answers(401);
    assert!(matches!(answers[0], Done::Created(_)));
    for (number, pair) in answers[1..].chunks(2).enumerate() {
        let [Done::Written, Done::Jobs(jobs)] = pair else { panic!("{pair:?}") };
        assert_eq!(jobs[0].requests, number as u32 + 1, "a question finds all writes before it, and none after it");
    }
}

#[test]
fn what_was_submitted_is_committed_when_the_thread_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let waited = Waited::start(open(folder.path()));
    waited.thread.submit(Op::Write(create(1, "a")));
    (0..3000).for_each(|number| waited.thread.submit(Op::Write(append(1, number..number + 1, false))));
    drop(waited);
    assert_eq!(record(&mut open(folder.path()), 1).unwrap().requests, 3000);
}

#[test]
fn what_comes_during_a_commit_is_one_group_up_to_a_question() {
    let (store, asked, say) = Puppet::new();
    let waited = Waited::start(store);
    assert_eq!(asked.recv(), Ok(Asked::Sweep));
    for op in [cancel(), cancel(), question(), cancel(), cancel(), cancel()] {
        waited.thread.submit(op);
    }
    say.send(Ok(true)).unwrap();
    for expected in [Asked::Commit(2), Asked::Scan, Asked::Commit(3)] {
        assert_eq!(asked.recv(), Ok(expected));
        say.send(Ok(true)).unwrap();
    }
    let written = || Done::Written;
    let expected = [written(), written(), Done::Jobs(vec![]), written(), written(), written()];
    assert_eq!(waited.answers(6), expected);
    drop(say);
}

#[test]
fn a_group_is_bounded_in_writes_and_in_bytes() {
    let (store, asked, say) = Puppet::new();
    let waited = Waited::start(store);
    assert_eq!(asked.recv(), Ok(Asked::Sweep));
    (0..MAX_GROUP_WRITES + 1).for_each(|_| waited.thread.submit(cancel()));
    let bodies = vec![Bytes::from(vec![0; MAX_GROUP_BYTES / 2])];
    let append = Write::Append { job: JobNumber(1), first: 0, bodies, closes: false };
    (0..3).for_each(|_| waited.thread.submit(Op::Write(append.clone())));
    say.send(Ok(false)).unwrap();
    for count in [MAX_GROUP_WRITES, 3, 1] {
        assert_eq!(asked.recv(), Ok(Asked::Commit(count)));
        say.send(Ok(true)).unwrap();
    }
    waited.answers(MAX_GROUP_WRITES + 4);
    say.send(Ok(false)).unwrap();
}

#[test]
fn an_idle_thread_sweeps_until_there_is_nothing_left_and_then_waits() {
    let (store, asked, say) = Puppet::new();
    let waited = Waited::start(store);
    for more in [true, true, false] {
        assert_eq!(asked.recv(), Ok(Asked::Sweep));
        say.send(Ok(more)).unwrap();
    }
    waited.thread.submit(question());
    assert_eq!(asked.recv(), Ok(Asked::Scan));
    say.send(Ok(true)).unwrap();
    waited.answers(1);
    waited.thread.submit(cancel());
    for expected in [Asked::Commit(1), Asked::Sweep] {
        assert_eq!(asked.recv(), Ok(expected));
        say.send(Ok(false)).unwrap();
    }
    drop(waited);
    assert!(asked.recv().is_err());
}

#[test]
fn after_a_failed_commit_nothing_is_acknowledged_any_more() {
    for error in [StoreError::Misuse("why".into()), StoreError::Full("here".into())] {
        let reason = error.to_string();
        let (store, asked, say) = Puppet::new();
        let waited = Waited::start(store);
        assert_eq!(asked.recv(), Ok(Asked::Sweep));
        [cancel(), cancel(), question(), cancel()].into_iter().for_each(|op| waited.thread.submit(op));
        say.send(Ok(false)).unwrap();
        assert_eq!(asked.recv(), Ok(Asked::Commit(2)));
        say.send(Err(error)).unwrap();
        assert_eq!(waited.answers(4), vec![Done::Failed(reason.as_str().into()); 4]);
        waited.thread.submit(question());
        assert_eq!(waited.answers(1), [Done::Failed(reason.as_str().into())]);
        drop(waited);
        assert!(asked.recv().is_err(), "the store is not asked again");
    }
}

#[test]
fn a_full_disk_stops_the_sweeping_but_not_the_reading() {
    let (store, asked, say) = Puppet::new();
    let waited = Waited::start(store);
    assert_eq!(asked.recv(), Ok(Asked::Sweep));
    say.send(Err(StoreError::Full("here".into()))).unwrap();
    waited.thread.submit(question());
    assert_eq!(asked.recv(), Ok(Asked::Scan));
    say.send(Ok(true)).unwrap();
    assert_eq!(waited.answers(1), [Done::Jobs(vec![])]);
    // Later it is tried again, though nothing was submitted.
    assert_eq!(asked.recv(), Ok(Asked::Sweep));
    say.send(Ok(false)).unwrap();
}

/// A store that is full until it has been looked at some times.
struct Full(u32);

impl Store for Full {
    fn commit(&mut self, group: &[Write]) -> Result<Vec<Done>, StoreError> {
        Ok(vec![Done::Written; group.len()])
    }

    fn scan(&mut self, _: &Read) -> Result<Done, StoreError> {
        Ok(Done::Jobs(vec![]))
    }

    fn sweep(&mut self) -> Result<bool, StoreError> {
        self.0 = self.0.saturating_sub(1);
        Ok(false)
    }

    fn full(&self) -> Option<Arc<str>> {
        (self.0 > 0).then(|| "no space".into())
    }

    fn bytes(&self) -> u64 {
        4711
    }
}

#[test]
fn the_figures_say_that_the_store_is_full_until_it_has_room_again_though_nothing_is_submitted() {
    let waited = Waited::start(Full(2));
    assert_eq!(waited.thread.figures().full, "no space");
    let has_room = (0..1500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        waited.thread.figures().full.is_empty()
    });
    assert!(has_room, "nobody has looked");
}

#[test]
fn the_figures_count_commits_their_time_and_the_size_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let waited = Waited::start(open(folder.path()));
    let before = waited.thread.figures();
    assert_eq!((before.commits, before.longest_us), (0, 0));
    assert!(before.bytes > 8 << 20, "the reserve counts: {before:?}");
    waited.thread.submit(Op::Write(create(1, "a")));
    waited.answers(1);
    waited.thread.submit(Op::Write(append(1, 0..9, true)));
    waited.answers(1);
    let after = waited.thread.figures();
    assert!(after.commits == 2 && after.full.is_empty(), "{after:?}");
    assert!(after.longest_us > 0 && after.longest_us < after.commits_us, "{after:?}");
    let next = waited.thread.figures();
    assert_eq!((next.longest_us, next.commits_us), (after.longest_us, after.commits_us), "a look changes nothing");
}

#[test]
fn a_thread_that_panics_leaves_nobody_waiting() {
    let (store, asked, say) = Puppet::new();
    let waited = Waited::start(store);
    assert_eq!(asked.recv(), Ok(Asked::Sweep));
    [cancel(), question()].into_iter().for_each(|op| waited.thread.submit(op));
    drop(say);
    let answers = waited.answers(2);
    assert!(answers.iter().all(|done| matches!(done, Done::Failed(_))), "{answers:?}");
    waited.thread.submit(cancel());
    assert!(matches!(waited.thread.completed().next(), Some(Done::Failed(_))));
    assert!(waited.thread.completed().next().is_none());
}
