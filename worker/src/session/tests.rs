//! The conversation, scenario by scenario: what the broker says, and what the worker does.

use giostra_protocol::{Bytes, Priority, Progress, VERSION, code};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Scene {
    session: Session,
    now: Instant,
    /// What the service manager was told.
    service: Vec<String>,
}

impl Scene {
    /// A worker that has not been welcomed yet.
    fn new() -> Self {
        let (broker, name) = ("tcp://b:1".into(), "w".into());
        Self::with(&Options { broker, name, grace: 30 * SECOND, ..Options::default() })
    }

    fn with(options: &Options) -> Self {
        let now = Instant::now();
        let brokers: Vec<_> = options.broker.split(',').map(Into::into).collect();
        Self { session: Session::new(options, &brokers, &["add".into()], 7, now), now, service: Vec::new() }
    }

    /// A worker of two brokers, with four threads and this window.
    fn of_two(window: u32) -> Self {
        let (broker, name) = ("tcp://a:1,tcp://b:1".into(), "w".into());
        Self::with(&Options { broker, name, threads: 4, window, ..Options::default() })
    }

    fn registered() -> Self {
        let mut scene = Self::new();
        assert_eq!(scene.welcome()[0], "answered");
        scene
    }

    /// Handles a message from the broker, and returns what the worker does then.
    fn handle(&mut self, message: ToWorker) -> Vec<String> {
        self.handle_of(0, message)
    }

    fn handle_of(&mut self, link: usize, message: ToWorker) -> Vec<String> {
        self.session.handle(link, message, self.now);
        self.actions()
    }

    fn welcome(&mut self) -> Vec<String> {
        self.welcome_of(0)
    }

    fn welcome_of(&mut self, link: usize) -> Vec<String> {
        self.handle_of(
            link,
            ToWorker::Welcome {
                version: VERSION,
                worker: 3,
                ping_interval_ms: 1000,
                ping_max_out: 3,
                max_message_bytes: 1000,
            },
        )
    }

    fn dispatch(&mut self, tickets: &[u64]) -> Vec<String> {
        self.dispatch_of(0, tickets)
    }

    fn dispatch_of(&mut self, link: usize, tickets: &[u64]) -> Vec<String> {
        let requests = tickets.iter().map(|&ticket| (Ticket(ticket), Bytes::new())).collect();
        self.handle_of(link, ToWorker::Dispatch { priority: Priority::Low, requests })
    }

    /// The threads have computed a request.
    fn reply(&mut self, ticket: u64, outcome: Outcome) -> Vec<String> {
        self.session.handle_replies(Vec::new(), vec![(claim(0, ticket), outcome)], self.now);
        self.actions()
    }

    /// An operation is unable to compute, and this request goes back.
    fn unable(&mut self, ticket: u64) -> Vec<String> {
        let unable = Unable { reason: "no program".into(), claims: vec![claim(0, ticket)] };
        self.session.handle_unable(unable, self.now);
        self.actions()
    }

    fn able(&mut self, able: Result<(), &str>) -> Vec<String> {
        self.session.handle_ability(able.map_err(Into::into), self.now);
        self.actions()
    }

    fn shut_down(&mut self, waiting: u32) -> Vec<String> {
        self.session.handle_shutdown(Load { waiting, ..Load::default() }, self.now);
        self.actions()
    }

    /// Time passes until something is due. Returns how many seconds that took, and what is done.
    fn wait(&mut self) -> (u64, Vec<String>) {
        let due = self.session.poll_timeout().expect("something is due");
        let passed = due.saturating_duration_since(self.now);
        self.now += passed;
        self.session.handle_timeout(Load { computing: 2, ..Load::default() }, self.now);
        (passed.as_secs(), self.actions())
    }

    fn actions(&mut self) -> Vec<String> {
        let actions: Vec<_> = std::iter::from_fn(|| self.session.poll_action()).collect();
        let (service, others): (Vec<_>, Vec<_>) =
            actions.into_iter().map(told).partition(|told| told.starts_with("service "));
        self.service.extend(service);
        others
    }
}

fn claim(link: usize, ticket: u64) -> Claim {
    Claim { link, ticket: Ticket(ticket) }
}

/// An action in short, with a `/` and the link before it if that is not the first one.
fn told(action: Action) -> String {
    let link = match &action {
        Action::Send(link, _) | Action::Pong { link, .. } | Action::Assign(link, ..) | Action::Cancel(link, _) => *link,
        Action::Discard(link) | Action::Answered(link) | Action::Lost(link) | Action::Broke(link) => *link,
        _ => 0,
    };
    if link == 0 { in_short(action) } else { format!("/{link} {}", in_short(action)) }
}

fn in_short(action: Action) -> String {
    let list = |tickets: &[Ticket]| tickets.iter().map(|ticket| format!(" {}", ticket.0)).collect::<String>();
    match action {
        Action::Send(_, FromWorker::Register { instance, .. }) => format!("register {instance}"),
        Action::Send(_, FromWorker::Replies(replies)) => {
            let word = |outcome: &Outcome| if matches!(outcome, Outcome::Ok(_)) { "ok" } else { "error" };
            let replies = replies.iter().map(|(ticket, outcome)| format!(" {} {}", ticket.0, word(outcome)));
            format!("replies{}", replies.collect::<String>())
        }
        Action::Send(_, FromWorker::Unable { reason, tickets }) => format!("unable ({reason}){}", list(&tickets)),
        Action::Send(_, FromWorker::Share { threads, window }) => format!("share {threads} {window}"),
        Action::Send(_, message) => format!("{message:?}").to_lowercase(),
        Action::Pong { sequence, .. } => format!("pong {sequence}"),
        Action::Assign(_, priority, requests) => {
            assert_eq!(priority, Priority::Low);
            format!("assign{}", list(&requests.iter().map(|it| it.0).collect::<Vec<_>>()))
        }
        Action::Cancel(_, tickets) => format!("cancel{}", list(&tickets)),
        Action::Log(level, line) => format!("{}: {line}", level.as_str().to_lowercase()),
        Action::Discard(_) => "discard".into(),
        Action::CheckAbility => "check ability".into(),
        Action::Answered(_) => "answered".into(),
        Action::Lost(_) => "lost".into(),
        Action::Broke(_) => "broke".into(),
        Action::End => "end".into(),
        Action::Refused(reason) => format!("refused: {reason}"),
        Action::Ready(status) => format!("service ready: {status}"),
        Action::Status(status) => format!("service {status}"),
        Action::Stopping(grace) => format!("service stopping within {grace:?}"),
    }
}

fn ok(bytes: usize) -> Outcome {
    Outcome::Ok(Bytes::from(vec![0; bytes]))
}

#[test]
fn a_welcomed_worker_is_registered_and_nothing_is_due() {
    let mut scene = Scene::new();
    let line = "info: registered as w3 in pool compute; dropped after 3s of silence";
    assert_eq!(scene.welcome(), ["answered", line]);
    assert_eq!(scene.session.poll_timeout(), None);
}

#[test]
fn the_service_manager_learns_whether_there_is_a_broker_and_when_the_worker_ends() {
    let mut scene = Scene::registered();
    scene.handle(ToWorker::Hiccup);
    scene.welcome();
    scene.shut_down(1);
    let ready = "service ready: registered as w (w3) at tcp://b:1";
    let lost = "service reconnecting to tcp://b:1";
    assert_eq!(scene.service, [ready, lost, ready, "service stopping within 30s"]);
    // A worker without a registration ends at once, and so does one that is drained.
    for end in [|scene: &mut Scene| scene.shut_down(0), |scene: &mut Scene| scene.handle(ToWorker::Goodbye)] {
        let mut scene = Scene::new();
        end(&mut scene);
        assert_eq!(scene.service, ["service stopping within 0ns"]);
    }
}

#[test]
fn a_missing_broker_is_told_once_each_time_that_it_is_gone() {
    let mut scene = Scene::new();
    let warning = || vec!["warn: no broker at tcp://b:1; still trying".to_string()];
    assert_eq!(scene.wait(), (2, warning()));
    assert_eq!(scene.session.poll_timeout(), None);
    scene.welcome();
    scene.handle(ToWorker::Hiccup);
    assert_eq!(scene.wait(), (2, warning()));
}

#[test]
fn requests_cancellations_and_pings_go_to_the_threads_and_outcomes_to_the_broker() {
    let mut scene = Scene::registered();
    assert_eq!(scene.dispatch(&[1, 2]), ["assign 1 2"]);
    assert_eq!(scene.handle(ToWorker::Cancel(vec![Ticket(2)])), ["cancel 2"]);
    assert_eq!(scene.handle(ToWorker::Ping { sequence: 9 }), ["pong 9"]);
    let report = (claim(0, 1), Progress { done: 1, total: 2 });
    scene.session.handle_replies(vec![report], vec![(claim(0, 1), ok(1)), (claim(0, 2), ok(1))], scene.now);
    let actions = scene.actions();
    assert!(actions[0].starts_with("progress") && actions[1..] == ["replies 1 ok 2 ok"], "{actions:?}");
}

#[test]
fn a_result_that_no_message_can_hold_becomes_an_error() {
    let mut scene = Scene::new();
    // Before the broker has named its limit, it is the protocol's.
    assert_eq!(scene.reply(1, ok(1001)), ["replies 1 ok"]);
    scene.welcome();
    assert_eq!(scene.reply(2, ok(1000)), ["replies 2 ok"]);
    assert_eq!(scene.reply(3, ok(1001)), ["replies 3 error"]);
    let Outcome::Error(failure) = sendable(ok(1001), 1000) else { panic!() };
    assert_eq!(failure.to_string(), "failed: the result has 1001 bytes, and 1000 is the most that can be sent");
}

#[test]
fn a_dropped_worker_registers_again_as_the_same_instance_and_forgets_what_it_held() {
    let mut scene = Scene::registered();
    let line = "warn: the broker has dropped this worker; registering again";
    assert_eq!(scene.handle(ToWorker::RegisterAgain), [line, "discard", "lost", "register 7"]);
    assert_eq!(told(Action::Send(0, scene.session.register(0).clone())), "register 7");
    assert_eq!(scene.welcome()[0], "answered");
}

#[test]
fn over_a_new_connection_libzmq_registers_by_itself() {
    let mut scene = Scene::registered();
    let line = "warn: the connection to the broker broke; reconnecting";
    assert_eq!(scene.handle(ToWorker::Hiccup), [line, "discard", "broke"]);
    assert_eq!(scene.handle(ToWorker::Hiccup), [line, "discard", "broke"]);
}

#[test]
fn a_refused_registration_ends_the_worker_and_a_refused_message_does_not() {
    let refused = || ToWorker::Refused { reason: "no".into() };
    assert_eq!(Scene::new().handle(refused()), ["refused: no"]);
    let mut scene = Scene::registered();
    assert_eq!(scene.handle(refused()), ["error: the broker refused a message: no"]);
    scene.handle(ToWorker::RegisterAgain);
    assert_eq!(scene.handle(refused()), ["refused: no"]);
}

#[test]
fn a_worker_that_is_asked_to_finish_leaves_when_the_broker_lets_it() {
    let mut scene = Scene::registered();
    assert!(!scene.session.is_leaving());
    assert_eq!(scene.shut_down(5), ["info: leaving; 5 requests to finish first", "leave"]);
    assert!(scene.session.is_leaving());
    assert_eq!(scene.reply(1, ok(1)), ["replies 1 ok"]);
    assert_eq!(scene.handle(ToWorker::Goodbye), ["info: left", "end"]);
}

#[test]
fn a_worker_that_is_drained_ends_by_the_brokers_goodbye() {
    assert_eq!(Scene::registered().handle(ToWorker::Goodbye), ["info: left", "end"]);
}

#[test]
fn a_leaving_worker_gives_up_after_its_grace() {
    let mut scene = Scene::registered();
    scene.shut_down(5);
    let line = "warn: leaving 2 requests unfinished after 30s; the broker hands them to others";
    assert_eq!(scene.wait(), (30, vec![line.into(), "end".into()]));
}

#[test]
fn a_worker_leaves_at_the_end_of_its_lifetime_or_somewhat_before() {
    // The instance is 7: seven thousandths of the stagger.
    for (lifetime_stagger, age) in [(Duration::ZERO, 1000), (SECOND * 1000, 993), (SECOND * 5000, 993)] {
        let lifetime = Some(1000 * SECOND);
        let mut scene = Scene::with(&Options { lifetime, lifetime_stagger, ..Options::default() });
        scene.welcome();
        let line = "info: at the end of a lifetime of 1000s: leaving; 2 requests to finish first";
        assert_eq!(scene.wait(), (age, vec![line.into(), "leave".into()]));
        // Nothing of that is due a second time.
        assert_eq!(scene.wait().0, 30);
    }
}

#[test]
fn a_worker_leaves_when_it_has_held_no_request_for_its_idle_timeout() {
    let mut scene = Scene::with(&Options { idle_timeout: Some(60 * SECOND), ..Options::default() });
    scene.welcome();
    scene.now += 59 * SECOND;
    scene.dispatch(&[1]);
    // Two are being computed, for longer than the timeout.
    assert_eq!(scene.wait(), (60, vec![]));
    scene.now += 50 * SECOND;
    scene.reply(1, ok(1));
    scene.now = scene.session.poll_timeout().unwrap();
    scene.session.handle_timeout(Load::default(), scene.now);
    assert_eq!(scene.actions(), ["info: no request for 60s: leaving; 0 requests to finish first", "leave"]);
    assert_eq!(scene.handle(ToWorker::Goodbye), ["info: left", "end"]);
}

#[test]
fn an_idle_worker_also_leaves_without_a_broker() {
    let mut scene = Scene::with(&Options { idle_timeout: Some(60 * SECOND), ..Options::default() });
    scene.welcome();
    scene.handle(ToWorker::Hiccup);
    scene.session.handle_timeout(Load::default(), scene.now + 60 * SECOND);
    let actions = scene.actions();
    assert!(actions.ends_with(&["leave".into(), "end".into()]), "{actions:?}");
}

#[test]
fn a_worker_without_a_registration_leaves_at_once() {
    assert_eq!(Scene::new().shut_down(0), ["leave", "end"]);
    for (message, lost) in [(ToWorker::Hiccup, "broke"), (ToWorker::RegisterAgain, "lost")] {
        let mut scene = Scene::registered();
        scene.shut_down(1);
        assert_eq!(scene.handle(message)[1..], ["discard", lost, "leave", "end"]);
    }
}

#[test]
fn a_worker_waits_for_the_next_broker_when_one_closes() {
    let mut scene = Scene::registered();
    assert_eq!(scene.handle(ToWorker::Closing), ["info: the broker is closing; waiting for the next one"]);
    assert_eq!(scene.dispatch(&[1]), ["assign 1"]);
}

#[test]
fn an_unable_worker_hands_requests_back_until_it_is_able() {
    let mut scene = Scene::registered();
    let line = "error: no program; taking no requests for 1s at least";
    assert_eq!(scene.unable(1), [line, "unable (no program) 1"]);
    assert_eq!(scene.dispatch(&[2, 3]), ["unable (no program) 2 3"]);
    assert_eq!(scene.wait(), (1, vec!["check ability".into()]));
    assert!(scene.able(Err("no program")).is_empty());
    assert_eq!(scene.wait(), (1, vec!["check ability".into()]));
    assert_eq!(scene.able(Err("no interpreter")), ["unable (no interpreter)"]);
    scene.wait();
    assert_eq!(scene.able(Ok(())), ["info: taking requests again", "able"]);
    assert_eq!(scene.session.poll_timeout(), None);
    assert_eq!(scene.dispatch(&[4]), ["assign 4"]);
}

#[test]
fn pauses_double_until_something_has_been_computed() {
    let mut scene = Scene::registered();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        scene.unable(1);
        pauses.push(scene.wait().0);
        scene.able(Ok(()));
        scene.reply(2, Outcome::Error(Failure::new(code::FAILED, "an error is no result")));
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    scene.reply(3, ok(1));
    scene.unable(4);
    assert_eq!(scene.wait().0, 1);
}

#[test]
fn a_broker_that_welcomes_the_worker_again_learns_whether_it_is_able() {
    let mut scene = Scene::registered();
    scene.unable(1);
    scene.handle(ToWorker::Hiccup);
    assert!(scene.dispatch(&[2]).contains(&"unable (no program) 2".into()));
    assert_eq!(scene.welcome().last().unwrap(), "unable (no program)");
    scene.handle(ToWorker::Hiccup);
    assert_eq!(scene.able(Ok(())), ["info: taking requests again"]);
    assert_eq!(scene.welcome().last().unwrap(), "able");
    assert_eq!(scene.handle(ToWorker::Hiccup).len() + scene.welcome().len(), 5, "it is told once");
}

#[test]
fn a_leaving_worker_does_not_try_again() {
    let mut scene = Scene::registered();
    scene.unable(1);
    scene.shut_down(0);
    assert_eq!(scene.wait().0, 30);
}

#[test]
fn many_requests_are_handed_back_in_messages_that_the_broker_accepts() {
    let mut scene = Scene::registered();
    let tickets: Vec<_> = (0..=MAX_BATCH as u64).collect();
    scene.unable(0);
    let sizes: Vec<_> = scene.dispatch(&tickets).iter().map(|sent| sent.split(' ').count() - 3).collect();
    assert_eq!(sizes, [MAX_BATCH, 1]);
}

#[test]
fn an_unreadable_message_may_have_been_requests_so_the_worker_registers_again() {
    let mut scene = Scene::registered();
    let unreadable = |scene: &mut Scene| {
        scene.session.handle_unreadable(0, &"nonsense", scene.now);
        scene.actions()
    };
    let line = "error: what speaks at tcp://b:1 is not Giostra's backend: nonsense";
    assert_eq!(unreadable(&mut scene), [line, "discard", "lost", "register 7"]);
    assert!(unreadable(&mut scene).is_empty());
    scene.welcome();
    assert_eq!(unreadable(&mut scene)[0], line);
}

#[test]
fn failed_attempts_to_connect_are_told_once_each() {
    let mut scene = Scene::new();
    let fail = |scene: &mut Scene, why: &str| {
        scene.session.handle_trouble(0, why.into());
        scene.actions().len()
    };
    assert_eq!([fail(&mut scene, "a"), fail(&mut scene, "a"), fail(&mut scene, "b")], [1, 0, 1]);
    scene.welcome();
    assert_eq!(fail(&mut scene, "b"), 1);
}

#[test]
fn each_broker_is_registered_with_as_another_instance_and_served_by_itself() {
    let mut scene = Scene::of_two(0);
    assert_eq!(told(Action::Send(1, scene.session.register(1).clone())), "/1 register 8");
    scene.welcome();
    assert_eq!(scene.welcome_of(1)[0], "/1 answered");
    scene.dispatch(&[1]);
    assert!(scene.dispatch_of(1, &[1]).contains(&"/1 assign 1".into()));
    // The same ticket of two brokers is two requests.
    scene.session.handle_replies(vec![], vec![(claim(1, 1), ok(1)), (claim(0, 1), ok(1))], scene.now);
    assert_eq!(scene.actions(), ["/1 replies 1 ok", "replies 1 ok"]);
    let line = "warn: tcp://b:1: the connection to the broker broke; reconnecting";
    assert_eq!(scene.handle_of(1, ToWorker::Hiccup), [line, "/1 discard", "/1 broke"]);
    assert_eq!(scene.dispatch(&[2]), ["assign 2"]);
}

#[test]
fn brokers_with_work_share_the_worker_and_a_lone_one_has_all_of_it() {
    let mut scene = Scene::of_two(9);
    scene.welcome();
    scene.welcome_of(1);
    // The other's share is settled before it has work.
    assert_eq!(scene.dispatch(&[1]), ["/1 share 2 4", "assign 1"]);
    assert_eq!(scene.dispatch_of(1, &[1]), ["share 2 4", "/1 assign 1"]);
    assert_eq!(scene.dispatch_of(1, &[2]), ["/1 assign 2"]);
    scene.session.handle_replies(vec![], vec![(claim(1, 1), ok(1)), (claim(1, 2), ok(1))], scene.now);
    scene.actions();
    assert_eq!(scene.wait(), (1, vec!["share 4 9".into()]));
    scene.reply(1, ok(1));
    assert_eq!(scene.wait(), (1, vec!["/1 share 4 9".into()]));
    assert_eq!(scene.session.poll_timeout(), None);
    // A new registration is with all threads.
    scene.dispatch(&[2]);
    scene.handle_of(1, ToWorker::Hiccup);
    assert!(scene.welcome_of(1).contains(&"/1 share 2 4".into()));
}

#[test]
fn a_worker_leaves_all_brokers_and_ends_when_the_last_one_lets_it() {
    let mut scene = Scene::of_two(0);
    scene.welcome();
    scene.welcome_of(1);
    assert_eq!(scene.shut_down(3), ["info: leaving; 3 requests to finish first", "leave", "/1 leave"]);
    assert_eq!(scene.handle(ToWorker::Goodbye), ["info: tcp://a:1: left"]);
    assert_eq!(scene.handle_of(1, ToWorker::Goodbye), ["info: tcp://b:1: left", "end"]);
    // One that is not there is not waited for.
    let mut scene = Scene::of_two(0);
    scene.welcome_of(1);
    assert_eq!(scene.shut_down(0)[1..], ["leave", "/1 leave"]);
    assert_eq!(scene.handle_of(1, ToWorker::Goodbye), ["info: tcp://b:1: left", "end"]);
}

#[test]
fn a_worker_that_one_broker_drains_leaves_the_others_too() {
    let mut scene = Scene::of_two(0);
    scene.welcome();
    scene.welcome_of(1);
    scene.dispatch_of(1, &[1, 2]);
    let leaving = "info: drained by one of the brokers: leaving; 2 requests to finish first";
    assert_eq!(scene.handle(ToWorker::Goodbye), ["info: tcp://a:1: left", leaving, "/1 leave"]);
    assert_eq!(scene.handle_of(1, ToWorker::Goodbye), ["info: tcp://b:1: left", "end"]);
}

#[test]
fn a_broker_that_refuses_the_worker_is_asked_again_while_another_serves_it() {
    let refused = || ToWorker::Refused { reason: "no".into() };
    let mut scene = Scene::of_two(0);
    scene.welcome();
    let line = "error: tcp://b:1: the broker refused to register this worker: no; asking again in 30s";
    // The connection is kept, since the broker has answered.
    assert_eq!(scene.handle_of(1, refused()), ["/1 answered", line]);
    assert_eq!(scene.wait(), (30, vec!["/1 lost".into(), "/1 register 8".into()]));
    assert_eq!(scene.handle_of(1, refused()), ["/1 answered", line]);
    scene.handle(ToWorker::RegisterAgain);
    assert_eq!(scene.handle(refused()), ["refused: no"], "then nobody is left to serve");
}

#[test]
fn what_cannot_be_computed_goes_back_to_its_own_broker() {
    let mut scene = Scene::of_two(0);
    scene.welcome();
    scene.welcome_of(1);
    let claims = vec![claim(1, 4), claim(0, 5), claim(1, 6)];
    scene.session.handle_unable(Unable { reason: "no program".into(), claims }, scene.now);
    assert_eq!(scene.actions()[1..], ["unable (no program) 5", "/1 unable (no program) 4 6"]);
    scene.wait();
    assert_eq!(scene.able(Ok(())), ["info: taking requests again", "able", "/1 able"]);
}

#[test]
fn a_broker_that_comes_while_the_worker_leaves_is_left_too() {
    let mut scene = Scene::of_two(0);
    scene.welcome();
    scene.shut_down(1);
    assert_eq!(scene.welcome_of(1).last().unwrap(), "/1 leave");
    assert_eq!(scene.handle(ToWorker::Goodbye), ["info: tcp://a:1: left"]);
    assert_eq!(scene.handle_of(1, ToWorker::Goodbye), ["info: tcp://b:1: left", "end"]);
    // One that refuses it is not waited for.
    let mut scene = Scene::of_two(0);
    scene.welcome();
    scene.shut_down(1);
    assert!(scene.handle_of(1, ToWorker::Refused { reason: "no".into() }).is_empty());
    assert_eq!(scene.handle(ToWorker::Goodbye), ["info: tcp://a:1: left", "end"]);
}

#[test]
fn a_worker_that_is_drained_ends_also_if_another_broker_is_gone() {
    let mut scene = Scene::of_two(0);
    scene.welcome();
    let actions = scene.handle(ToWorker::Goodbye);
    assert_eq!(actions.last().unwrap(), "end", "{actions:?}");
}
