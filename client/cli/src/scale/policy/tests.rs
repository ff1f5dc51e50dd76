//! Scenarios.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Scene {
    policy: Policy,
    now: Instant,
    units: Vec<Unit>,
}

impl Scene {
    fn new(min: u32, max: u32) -> Self {
        let (horizon, cool_down, listed_within) = (60 * SECOND, 60 * SECOND, 60 * SECOND);
        let limits = Limits { min, max, threads: 2, horizon, cool_down, listed_within };
        Self { policy: Policy::new(limits), now: Instant::now(), units: Vec::new() }
    }

    /// Time passes, and the policy sees so many requests of unknown cost.
    fn after(&mut self, seconds: u64, requests: u64) -> Vec<Decision> {
        self.now += Duration::from_secs(seconds);
        self.policy.handle(demand(requests, None), &self.units, self.now)
    }

    /// The engine accepts these.
    fn accept(&mut self, ids: &[&str]) {
        self.policy.handle_started(Ok(ids.iter().map(ToString::to_string).collect()), self.now);
        let unit = |id: &&str| Unit { id: id.to_string(), stage: Stage::Queued, seats: Vec::new() };
        self.units.extend(ids.iter().map(unit));
    }

    fn unit(&mut self, id: &str) -> &mut Unit {
        self.units.iter_mut().find(|unit| unit.id == id).unwrap()
    }

    fn runs(&mut self, id: &str) {
        self.unit(id).stage = Stage::Running;
    }

    fn registers(&mut self, id: &str, in_flight: u64) {
        self.runs(id);
        self.unit(id).seats = vec![Seat { name: id.into(), number: 1, in_flight, leaving: false }];
    }

    fn gone(&mut self, id: &str) {
        self.units.retain(|unit| unit.id != id);
    }
}

fn demand(requests: u64, seconds_each: Option<f64>) -> Demand {
    Demand { requests, seconds_each, is_settled: true }
}

#[test]
fn nothing_is_decided_until_the_cost_of_a_request_is_known() {
    let mut scene = Scene::new(0, 4);
    let unsettled = Demand { is_settled: false, ..demand(100, None) };
    assert_eq!(scene.policy.handle(unsettled, &[], scene.now), []);
    assert_eq!(scene.after(3, 100), [Decision::Start(4)]);
}

#[test]
fn as_many_are_wanted_as_requests_keep_busy_or_as_the_horizon_needs() {
    let Scene { policy, .. } = Scene::new(1, 10);
    let wanted = |requests, seconds_each| policy.wanted(demand(requests, seconds_each));
    assert_eq!([0, 1, 2, 3, 1000].map(|requests| wanted(requests, None)), [1, 1, 1, 2, 10]);
    // Two threads for a minute are 120 s.
    assert_eq!([100, 121, 300, u64::MAX].map(|requests| wanted(requests, Some(1.0))), [1, 2, 3, 10]);
    // Long ones: not more than there are.
    assert_eq!(wanted(6, Some(3600.0)), 3);
    assert_eq!(wanted(5, Some(f64::NAN)), 1);
}

#[test]
fn what_was_accepted_is_not_asked_for_twice_while_the_engine_does_not_list_it_yet() {
    let mut scene = Scene::new(0, 4);
    assert_eq!(scene.after(0, 100), [Decision::Start(4)]);
    scene.accept(&["a", "b", "c", "d"]);
    let listed = std::mem::take(&mut scene.units);
    assert_eq!(scene.after(5, 100), []);
    scene.units = listed;
    assert_eq!(scene.after(50, 100), []);
    assert_eq!(scene.after(50, 100), []);
}

#[test]
fn fewer_are_kept_only_after_fewer_were_wanted_for_the_whole_cool_down() {
    let mut scene = Scene::new(0, 4);
    scene.after(0, 8);
    scene.accept(&["a", "b", "c", "d"]);
    scene.registers("a", 0);
    scene.registers("b", 5);
    scene.runs("c");
    assert_eq!(scene.after(30, 2), []);
    // Enough for a while: the minute begins anew.
    assert_eq!(scene.after(25, 8), []);
    assert_eq!(scene.after(55, 2), []);
    let seat = |name: &str| vec![Seat { name: name.into(), number: 1, in_flight: 0, leaving: false }];
    // The queued one first, the idle one next, then the one that has not come yet.
    let expected = [Decision::Stop(vec!["d".into(), "c".into()]), Decision::Drain(seat("a"))];
    assert_eq!(scene.after(10, 2), expected);
    // Said once.
    assert_eq!(scene.after(5, 2), []);
}

#[test]
fn one_that_leaves_is_replaced_but_never_beyond_the_most() {
    let mut scene = Scene::new(0, 2);
    scene.after(0, 8);
    scene.accept(&["a", "b"]);
    scene.registers("a", 1);
    scene.registers("b", 1);
    scene.unit("a").seats[0].leaving = true;
    assert_eq!(scene.after(5, 8), []);
    scene.unit("a").stage = Stage::Ending;
    assert_eq!(scene.after(5, 8), [Decision::Start(1)]);
}

#[test]
fn starts_that_fail_pause_for_longer_each_time_until_a_worker_registers() {
    let mut scene = Scene::new(0, 2);
    assert_eq!(scene.after(0, 8), [Decision::Start(2)]);
    let told = scene.policy.handle_started(Err("sbatch: no such partition".into()), scene.now);
    assert_eq!(told.unwrap(), "sbatch: no such partition; no start for 10s");
    assert_eq!(scene.after(9, 8), []);
    assert_eq!(scene.after(1, 8), [Decision::Start(2)]);
    scene.accept(&["a", "b"]);
    scene.runs("a");
    scene.after(5, 8);
    scene.gone("a");
    let told = "a ended without a worker having been at the broker; no start for 20s";
    assert_eq!(scene.after(5, 8), [Decision::Tell(told.into())]);
    assert_eq!(scene.after(10, 8), []);
    scene.registers("b", 1);
    assert_eq!(scene.after(1, 8), [Decision::Start(1)]);
    // One that has computed and ends is no failed start.
    scene.gone("b");
    assert_eq!(scene.after(1, 8), [Decision::Start(2)]);
}

#[test]
fn the_fewest_are_kept_and_what_an_earlier_life_has_started_counts() {
    let mut scene = Scene::new(2, 4);
    let unit = |id: &str, stage| Unit { id: id.into(), stage, seats: Vec::new() };
    scene.units = vec![unit("a", Stage::Queued), unit("b", Stage::Running), unit("c", Stage::Ending)];
    assert_eq!(scene.after(0, 0), []);
    assert_eq!(scene.after(0, 6), [Decision::Start(1)]);
}

#[test]
fn one_that_runs_without_a_worker_at_the_broker_is_told_once() {
    let mut scene = Scene::new(0, 1);
    scene.after(0, 8);
    scene.accept(&["a"]);
    scene.runs("a");
    scene.after(10, 8);
    let text = "a has been running for 120s without a worker at the broker";
    assert_eq!(scene.after(121, 8), [Decision::Tell(text.into())]);
    assert_eq!(scene.after(121, 8), []);
}

#[test]
fn what_could_not_be_ended_is_ended_the_next_time() {
    let mut scene = Scene::new(0, 1);
    scene.after(0, 8);
    scene.accept(&["a"]);
    scene.after(1, 0);
    assert_eq!(scene.after(70, 0), [Decision::Stop(vec!["a".into()])]);
    assert_eq!(scene.after(5, 0), []);
    scene.policy.handle_not_ended("a");
    assert_eq!(scene.after(5, 0), [Decision::Stop(vec!["a".into()])]);
}
