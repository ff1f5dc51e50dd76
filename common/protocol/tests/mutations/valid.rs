//! Valid messages of every variant, drawn at random: what the mutations, and the fuzz targets'
//! seeds, begin with.
//!
//! Numbers are often at the ends of their range, texts empty, long, foreign or unprintable, lists
//! empty or long.

use giostra_protocol::codec::ATTACH_FROM;
use giostra_protocol::compute::{Call, Value};
use giostra_protocol::name::Label;
use giostra_protocol::{
    Bytes, ClientStatus, EventStatus, Failure, FromClient, FromWorker, History, JobId, JobSpec, JobState, JobStatus,
    JobsReply, JobsRequest, JobsStatus, LiveJob, Outcome, PoolStatus, PoolTotals, Priority, Progress, Reply, RequestId,
    Status, StoreStatus, Ticket, ToClient, ToWorker, Totals, Trace, WorkerStatus,
};
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;

/// Where chance comes from: the same seed, the same messages.
pub type Random = Xoshiro256PlusPlus;

/// What bodies large enough to be attached are slices of.
static LARGE: [u8; ATTACH_FROM + 64] = [0xc4; ATTACH_FROM + 64];

/// Something that can be drawn.
pub trait Valid {
    /// One of its kind.
    fn draw(random: &mut Random) -> Self;
}

impl Valid for FromClient {
    fn draw(random: &mut Random) -> Self {
        match random.random_range(0..11) {
            0 => Self::Hello { version: number(random) as u32, name: text(random) },
            1..=3 => Self::Submit {
                session: number(random),
                pool: text(random),
                timeout_ms: number(random),
                priority: priority(random),
                wait: random.random_bool(0.5),
                requests: list(random, |random| (RequestId(number(random)), body(random))),
            },
            4 => Self::Cancel(list(random, |random| RequestId(number(random)))),
            5 => Self::Inspect,
            6 => Self::Drain { worker: text(random), number: number(random), all: random.random_bool(0.5) },
            7 => Self::Goodbye,
            8 | 9 => Self::Jobs { tag: number(random), request: jobs_request(random) },
            _ => Self::Disconnected,
        }
    }
}

impl Valid for ToClient {
    fn draw(random: &mut Random) -> Self {
        match random.random_range(0..16) {
            0 => Self::Welcome {
                version: number(random) as u32,
                client: number(random),
                session: number(random),
                max_message_bytes: number(random),
                max_batch: number(random),
                home: random.random_bool(0.5).then(|| number(random) as u32),
            },
            1..=3 => Self::Replies(list(random, |random| Reply {
                id: RequestId(number(random)),
                outcome: outcome(random),
                trace: trace(random),
            })),
            4 | 5 => Self::Status(Box::new(status(random))),
            6 => Self::Draining { worker: text(random), numbers: list(random, number) },
            7 => Self::Refused { reason: text(random) },
            8 => Self::Closing,
            9 => Self::Progress(list(random, |random| (RequestId(number(random)), progress(random)))),
            10 => Self::NoWorker {
                pool: text(random),
                pools: list(random, text),
                requests: list(random, |random| RequestId(number(random))),
            },
            11 => Self::Declined { reason: text(random), requests: list(random, |random| RequestId(number(random))) },
            12 => Self::Goodbye,
            13 | 14 => Self::Jobs { tag: number(random), reply: jobs_reply(random) },
            _ => Self::Hiccup,
        }
    }
}

impl Valid for FromWorker {
    fn draw(random: &mut Random) -> Self {
        match random.random_range(0..12) {
            0 | 1 => Self::Register {
                version: number(random) as u32,
                name: text(random),
                pool: text(random),
                operations: list(random, text),
                threads: number(random) as u32,
                window: number(random) as u32,
                instance: number(random),
                host: text(random),
            },
            2..=5 => Self::Replies(list(random, |random| (Ticket(number(random)), outcome(random)))),
            6 => Self::Pong {
                sequence: number(random),
                computing: number(random) as u32,
                waiting: number(random) as u32,
                oldest_ms: number(random),
            },
            7 => Self::Leave,
            8 => Self::Progress(list(random, |random| (Ticket(number(random)), progress(random)))),
            9 => Self::Unable { reason: text(random), tickets: list(random, |random| Ticket(number(random))) },
            10 => Self::Able,
            _ => Self::Disconnected,
        }
    }
}

impl Valid for ToWorker {
    fn draw(random: &mut Random) -> Self {
        match random.random_range(0..12) {
            0 | 1 => Self::Welcome {
                version: number(random) as u32,
                worker: number(random),
                ping_interval_ms: number(random),
                ping_max_out: number(random) as u32,
                max_message_bytes: number(random),
            },
            2..=5 => Self::Dispatch {
                priority: priority(random),
                requests: list(random, |random| (Ticket(number(random)), body(random))),
            },
            6 => Self::Ping { sequence: number(random) },
            7 => Self::RegisterAgain,
            8 => Self::Goodbye,
            9 => Self::Refused { reason: text(random) },
            10 => Self::Cancel(list(random, |random| Ticket(number(random)))),
            _ => [Self::Closing, Self::Hiccup][random.random_range(0..2)].clone(),
        }
    }
}

fn priority(random: &mut Random) -> Priority {
    Priority::ALL[random.random_range(0..3)]
}

fn jobs_request(random: &mut Random) -> JobsRequest {
    match random.random_range(0..10) {
        0 | 1 => JobsRequest::Submit {
            job: job_spec(random),
            first: number(random) as u32,
            bodies: list(random, body),
            closes: random.random(),
        },
        2 => JobsRequest::List { before: number(random) },
        3 => JobsRequest::Look { id: job_id(random), wait: random.random() },
        4 | 5 => JobsRequest::Collect { id: job_id(random), from: number(random) as u32, with_failed: random.random() },
        6 => JobsRequest::GiveUp(job_spec(random)),
        7 => JobsRequest::Cancel(job_id(random)),
        8 => JobsRequest::Retry(job_id(random)),
        _ => JobsRequest::Delete(job_id(random)),
    }
}

fn jobs_reply(random: &mut Random) -> JobsReply {
    match random.random_range(0..7) {
        0 => JobsReply::Accepted { id: job_id(random), requests: number(random) as u32, closed: random.random() },
        1 => JobsReply::Later { requests: number(random) as u32 },
        2 => JobsReply::Jobs(list(random, job_status)),
        3..=5 => JobsReply::Results {
            job: job_status(random),
            results: list(random, |random| (number(random) as u32, outcome(random))),
            failed: list(random, |random| (number(random) as u32, body(random))),
        },
        _ => JobsReply::Refused { reason: text(random) },
    }
}

fn job_id(random: &mut Random) -> JobId {
    JobId { home: number(random) as u32, number: number(random) }
}

fn job_spec(random: &mut Random) -> JobSpec {
    JobSpec {
        pool: text(random),
        key: text(random),
        name: text(random),
        priority: priority(random),
        timeout_ms: number(random),
        retries: number(random) as u32,
        keep_ms: number(random),
    }
}

fn job_status(random: &mut Random) -> JobStatus {
    let states = [JobState::Open, JobState::Running, JobState::Finished, JobState::Cancelled];
    JobStatus {
        id: job_id(random),
        spec: job_spec(random),
        owner: text(random),
        state: states[random.random_range(0..4)],
        requests: number(random) as u32,
        succeeded: number(random) as u32,
        failed: number(random) as u32,
        submitted_ms: number(random),
        ended_ms: number(random),
    }
}

fn jobs_status(random: &mut Random) -> JobsStatus {
    JobsStatus {
        live: list(random, |random| LiveJob {
            id: job_id(random),
            name: text(random),
            priority: priority(random),
            requests: number(random),
            ..LiveJob::default()
        }),
        left_out: number(random),
        store: StoreStatus { failed: text(random), bytes: number(random), ..StoreStatus::default() },
        open: number(random),
        ..JobsStatus::default()
    }
}

fn progress(random: &mut Random) -> Progress {
    Progress { done: number(random), total: number(random) }
}

impl Valid for Call {
    fn draw(random: &mut Random) -> Self {
        Self { operation: text(random), arguments: list(random, value) }
    }
}

impl Valid for Value {
    fn draw(random: &mut Random) -> Self {
        value(random)
    }
}

fn value(random: &mut Random) -> Value {
    match random.random_range(0..9) {
        0 => Value::Bool(random.random()),
        1 => Value::Int(number(random) as i64),
        2 => Value::Float([0.0, -0.0, f64::NAN, f64::INFINITY, 0.1, f64::MIN_POSITIVE][random.random_range(0..6)]),
        3 => Value::Nil,
        4 => Value::Text(text(random)),
        5 => Value::Bytes(list(random, |random| number(random) as u8)),
        6 => Value::Map(list(random, |random| (Value::Text(text(random)), Value::Bool(random.random())))),
        7 => Value::List(vec![value(random)]),
        _ => Value::List(list(random, |random| Value::Int(number(random) as i64))),
    }
}

fn outcome(random: &mut Random) -> Outcome {
    match random.random_range(0..3) {
        0 => Outcome::Error(Failure { code: text(random), message: text(random) }),
        _ => Outcome::Ok(body(random)),
    }
}

fn trace(random: &mut Random) -> Trace {
    Trace {
        worker: Label::from(&*text(random)),
        attempts: number(random) as u32,
        waited_us: number(random),
        took_us: number(random),
    }
}

fn status(random: &mut Random) -> Status {
    Status {
        version: text(random),
        uptime_ms: number(random),
        rotation: text(random),
        pending: number(random),
        totals: Totals { accepted: number(random), refused: number(random), ..Totals::default() },
        workers: list(random, |random| WorkerStatus {
            name: text(random),
            number: number(random),
            pings_out: number(random) as u32,
            operations: list(random, text),
            ..WorkerStatus::default()
        }),
        clients: list(random, |random| ClientStatus { name: text(random), ..ClientStatus::default() }),
        pools: list(random, |random| PoolStatus { ring: list(random, number), ..PoolStatus::default() }),
        history: History { step_ms: number(random), rate: list(random, number), ..History::default() },
        events: list(random, |random| EventStatus {
            text: text(random),
            worker: Some(number(random)),
            ..EventStatus::default()
        }),
        pool_totals: list(random, |random| PoolTotals {
            name: text(random),
            took: list(random, number),
            ..PoolTotals::default()
        }),
        bounds_us: list(random, number),
        jobs: random.random_bool(0.5).then(|| jobs_status(random)),
        ..Status::default()
    }
}

/// Mostly a few members, now and then many.
fn list<T>(random: &mut Random, mut member: impl FnMut(&mut Random) -> T) -> Vec<T> {
    let members = match random.random_range(0..64) {
        0 => random.random_range(10..100),
        few => few % 4,
    };
    (0..members).map(|_| member(random)).collect()
}

/// Any, and often at the edge of an encoding's or a type's range.
fn number(random: &mut Random) -> u64 {
    let edge = u64::MAX.checked_shr(random.random_range(0..65)).unwrap_or(0);
    match random.random_range(0..4) {
        0 => edge,
        1 => edge.wrapping_add(1),
        2 => random.random_range(0..10),
        _ => random.random(),
    }
}

fn text(random: &mut Random) -> String {
    match random.random_range(0..32) {
        0 => "x".repeat(random.random_range(28..300)),
        1 => "a\nreply worker-1 w1 c1#1\u{1b}[2J".into(),
        2 => "più-veloce-\u{1f3a0}\u{2028}\u{0}".into(),
        3..=6 => String::new(),
        _ => ["compute", "worker-1", "add", "failed"][random.random_range(0..4)].into(),
    }
}

/// A hundredth of them is attached.
fn body(random: &mut Random) -> Bytes {
    match random.random_range(0..100) {
        0 => Bytes::from_static(&LARGE[..ATTACH_FROM + random.random_range(0..64)]),
        1..=5 => Bytes::from_static(&LARGE[..random.random_range(0..1000)]),
        _ => Bytes::from_static(&LARGE[..random.random_range(0..16)]),
    }
}
