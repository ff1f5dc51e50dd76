//! Messages that are none, each with a part of what the broker says to it.

use giostra_protocol::codec::Message;
use giostra_protocol::{Bytes, FromClient, FromWorker, MAX_BATCH, Outcome, RequestId, Ticket, ToClient, VERSION};
use giostra_tests::message;

use crate::peer::{register, sent};

/// Frames that are no message.
pub struct Bad {
    /// What it is.
    pub what: String,
    /// The frames.
    pub frames: Vec<Vec<u8>>,
    /// What stands in the refusal.
    pub reason: &'static str,
}

/// A variant's name that would forge a line of the log and clear a terminal.
pub const FORGED: &str = "x\n1999-01-01T00:00:00.000000Z DEBUG reply worker-1 w1 c1#1\u{1b}[2J";

const NOT_A_MESSAGE: &str = "not a message of this protocol";

/// What is no message to the frontend.
pub fn to_frontend() -> Vec<Bad> {
    let submit = |requests| message::submit(1, "p", 0, requests);
    let mut all = to_anyone();
    all.extend(truncated("Hello", FromClient::<Bytes>::Hello { version: VERSION, name: "c".into() }));
    all.extend(truncated("Submit", submit(vec![(RequestId(1), Bytes::from_static(b"body"))])));
    all.extend(truncated("Cancel", FromClient::<Bytes>::Cancel(vec![RequestId(1), RequestId(u64::MAX)])));
    all.extend(truncated("Drain", FromClient::<Bytes>::Drain { worker: "w".into(), number: 0, all: false }));
    let refers_to_nothing = b"\x81\xa6Submit\x96\x05\xa1p\x00\xa6Normal\xc3\x91\x92\x07\x03";
    let shared = b"\x81\xa6Submit\x96\x05\xa1p\x00\xa6Normal\xc3\x92\x92\x07\x00\x92\x08\x00".to_vec();
    let many = FromClient::<Bytes>::Cancel(vec![RequestId(0); MAX_BATCH + 1]);
    all.extend([
        bad("a body that did not come", &[refers_to_nothing], "attachment 3 of 0 is referred to"),
        Bad { frames: vec![shared, vec![7; 70_000]], ..bad("a body for two requests", &[], "referred to twice") },
        Bad { frames: sent(many), ..bad("a batch over the limit", &[], "at most 65536 members") },
        bad("a version that is a text", &[b"\x81\xa5Hello\x92\xa11\xa1c"], NOT_A_MESSAGE),
        bad("a list of ids that is none", &[b"\x81\xa6Cancel\x01"], NOT_A_MESSAGE),
        bad("an id below zero", &[b"\x81\xa6Cancel\x91\xff"], NOT_A_MESSAGE),
        bad("too few fields", &[b"\x81\xa5Hello\x91\x01"], NOT_A_MESSAGE),
        bad("too many fields", &[b"\x81\xa5Hello\x93\x01\xa1c\x00"], NOT_A_MESSAGE),
        Bad {
            frames: sent(register(VERSION, "w", "p")),
            ..bad("a worker's language", &[], "clients' endpoint (frontend); workers connect to the backend")
        },
        bad("what only a client hears", &[b"\xa6Hiccup"], "unknown variant `Hiccup`"),
    ]);
    all
}

/// What is no message to the backend.
pub fn to_backend() -> Vec<Bad> {
    let mut all = to_anyone();
    all.extend(truncated("Register", register(VERSION, "w", "p")));
    all.extend(truncated("Replies", FromWorker::Replies(vec![(Ticket(1), Outcome::Ok(Bytes::from_static(b"r")))])));
    let pong = FromWorker::<Bytes>::Pong { sequence: u64::MAX, computing: 1, waiting: 1, oldest_ms: 1 };
    all.extend(truncated("Pong", pong));
    let many = FromWorker::Replies(vec![(Ticket(0), Outcome::Ok(Bytes::new())); MAX_BATCH + 1]);
    let hello = FromClient::<Bytes>::Hello { version: VERSION, name: "c".into() };
    all.extend([
        Bad { frames: sent(many), ..bad("a batch over the limit", &[], "at most 65536 members") },
        bad("a number of threads that is a list", &[b"\x81\xa8Register\x96\x01\xa1w\xa1p\x90\x90\x00"], NOT_A_MESSAGE),
        bad("an outcome that is none", &[b"\x81\xa7Replies\x91\x92\x01\x81\xa5Maybe\x00"], "unknown variant `Maybe`"),
        Bad {
            frames: sent(hello),
            ..bad("a client's language", &[], "workers' endpoint (backend); clients connect to the frontend")
        },
        bad("what only a worker hears", &[b"\xa6Hiccup"], "unknown variant `Hiccup`"),
    ]);
    all
}

fn to_anyone() -> Vec<Bad> {
    let mut unheard = vec![0xdb];
    unheard.extend(1_000_000_u32.to_be_bytes());
    unheard.extend(vec![b'x'; 1_000_000]);
    let forged = [&[0xd9, FORGED.len() as u8], FORGED.as_bytes()].concat();
    let other = ToClient::<Bytes>::Refused { reason: "no".into() };
    vec![
        bad("garbage", &[&(0..=255).rev().collect::<Vec<u8>>()], NOT_A_MESSAGE),
        bad("an empty frame", &[b""], NOT_A_MESSAGE),
        Bad { frames: vec![vec![]; 10_000], ..bad("ten thousand empty frames", &[], NOT_A_MESSAGE) },
        Bad { frames: vec![vec![0xc0; 1000]; 1000], ..bad("a thousand frames", &[], NOT_A_MESSAGE) },
        bad("lists, ten thousand deep", &[&[0x91; 10_000]], NOT_A_MESSAGE),
        bad("maps, ten thousand deep", &[&[0x81; 10_000]], NOT_A_MESSAGE),
        bad("a list of four thousand million", &[b"\xdd\xff\xff\xff\xff"], NOT_A_MESSAGE),
        bad("a text of four thousand million", &[b"\xdb\xff\xff\xff\xff"], NOT_A_MESSAGE),
        bad("an unknown variant", &[b"\xa7Unheard"], "unknown variant `Unheard`"),
        bad("an unknown variant with content", &[b"\x81\xa7Unheard\x91\x01"], "unknown variant `Unheard`"),
        bad("a variant of a megabyte", &[&unheard], "unknown variant `xxxx"),
        bad("a variant that forges a line", &[&forged], "unknown variant `x\\n1999"),
        bad("two messages in one", &[b"\xacDisconnected\xacDisconnected"], "bytes follow the message"),
        Bad { frames: sent(other), ..bad("what a broker says", &[], "unknown variant `Refused`") },
    ]
}

/// A message without its second half, and without its last byte.
fn truncated<M: Message>(what: &str, message: M) -> [Bad; 2] {
    let whole = &sent(message)[0];
    [whole.len() / 2, whole.len() - 1].map(|len| Bad {
        what: format!("{what}, {len} bytes of {}", whole.len()),
        frames: vec![whole[..len].to_vec()],
        reason: NOT_A_MESSAGE,
    })
}

fn bad(what: &str, frames: &[&[u8]], reason: &'static str) -> Bad {
    Bad { what: what.into(), frames: frames.iter().map(|frame| frame.to_vec()).collect(), reason }
}
