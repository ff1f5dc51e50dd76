//! A million mutated messages through every decoder: none panics, none takes memory out of
//! proportion, and what is still a message is the same one after another way through the wire. What
//! is written by hand for speed does what `serde` does.
//!
//! Each message has a seed of its own, which a failure names. `MUTATIONS=10000000` tries more of
//! them, `MUTATION_SEED=17` begins with another one. What a live broker, worker and client make of
//! such messages is in the end-to-end tests; longer and cleverer searches are `just fuzz`.

mod memory;
mod mutate;
mod valid;

use std::env;
use std::fmt::{Debug, Display};

use giostra_protocol::codec::{Frames, Message};
use giostra_protocol::compute::{Call, Value};
use giostra_protocol::{
    Bytes, ClientStatus, FromClient, FromWorker, MAX_BATCH, Outcome, Priority, RequestId, Status, Ticket, ToClient,
    ToWorker, WorkerStatus,
};
use rand::SeedableRng as _;

use memory::{Counting, peak_of};
use mutate::mutate;
use valid::{Random, Valid};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What runs if nothing else is said, over all decoders.
const MUTATIONS: u64 = 1_000_000;

/// The most bytes that a decoder may allocate whatever the length of the message: lists are
/// allocated for as many members as they claim, but for 1024 or one mebibyte at most, and a message
/// has lists within lists.
const FLAT: usize = 4 << 20;

/// The most bytes that a decoder may allocate for each byte of the message: the smallest member of
/// a list has one byte on the wire, and in memory it is a `Value` or a `String` of 24; a list that
/// grows is there twice, the second of double size.
const FOR_EACH_BYTE: usize = 72;

fn bound(frames: &Frames) -> usize {
    FLAT + FOR_EACH_BYTE * (frames.envelope.len() + frames.attachments.len())
}

/// Something that comes in as frames.
trait Decoded: Valid + Sized {
    /// Why it may not come out.
    type Error: Display;

    fn decoded(frames: &Frames) -> Result<Self, Self::Error>;

    /// As it is sent.
    fn sent(&self) -> Frames;

    /// Panics unless this is the same after being sent and received.
    fn check(&self);
}

macro_rules! message {
    ($($name:ty),*) => { $(impl Decoded for $name {
        type Error = giostra_protocol::codec::Malformed;

        fn decoded(frames: &Frames) -> Result<Self, Self::Error> {
            let (decoded, plainly) = (<Self as Message>::decode(frames), Self::decode_plainly(frames));
            match (&decoded, &plainly) {
                (Ok(decoded), Ok(plainly)) => assert_eq!(decoded, plainly, "{frames:?}"),
                (Err(_), Err(_)) => {}
                _ => panic!("{frames:?} is {decoded:?} or {plainly:?}"),
            }
            decoded
        }

        fn sent(&self) -> Frames {
            let (mut envelope, mut attachments) = (Vec::new(), Vec::new());
            self.clone().encode_plainly(&mut envelope, &mut attachments);
            let frames = self.clone().encode();
            assert_eq!(frames, Frames { envelope: envelope.into(), attachments });
            frames
        }

        fn check(&self) {
            same(&Self::decode(&self.sent()), self);
        }
    })* };
}

message!(FromClient, ToClient, FromWorker, ToWorker);

macro_rules! body {
    ($($name:ty),*) => { $(impl Decoded for $name {
        type Error = giostra_protocol::compute::BadBody;

        fn decoded(frames: &Frames) -> Result<Self, Self::Error> {
            Self::from_body(&frames.envelope)
        }

        fn sent(&self) -> Frames {
            Frames { envelope: self.to_body(), attachments: Vec::new() }
        }

        fn check(&self) {
            // By its bytes: there are numbers that do not equal themselves.
            same(&Self::from_body(&self.to_body()).map(|again| again.to_body()), &self.to_body());
        }
    })* };
}

body!(Call, Value);

fn same<T: Debug + PartialEq, E: Debug>(again: &Result<T, E>, message: &T) {
    assert!(again.as_ref().is_ok_and(|again| again == message), "{message:?} became {again:?}");
}

/// Names the message's seed, should the test end before it does.
struct Failing(u64);

impl Drop for Failing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("to see this message alone: MUTATION_SEED={} MUTATIONS=1, and the name of the test", self.0);
        }
    }
}

/// A share of the million.
fn survives<D: Decoded>(share: u64) {
    let mutations = number("MUTATIONS").unwrap_or(MUTATIONS).div_ceil(share);
    let first = number("MUTATION_SEED").unwrap_or(0);
    let (mut valid, mut most) = (0_u64, 0);
    for seed in first..first + mutations {
        let failing = Failing(seed);
        let mut random = Random::seed_from_u64(seed);
        let message = D::draw(&mut random);
        message.check();
        let frames = mutate(&message.sent(), &D::draw(&mut random).sent(), &mut random);
        let (decoded, peak) = peak_of(|| D::decoded(&frames).map_err(|error| error.to_string()));
        assert!(peak <= bound(&frames), "{peak} bytes allocated for {} bytes", frames.envelope.len());
        most = most.max(peak);
        match decoded {
            Ok(message) => {
                valid += 1;
                message.check();
            }
            Err(error) => assert!(error.len() < 3000, "an error of {} bytes", error.len()),
        }
        drop(failing);
    }
    println!("{mutations} messages, {valid} of them still valid, {most} bytes allocated at most");
    // Otherwise the mutations would look at one side of the decoders alone.
    assert!(
        mutations < 1000 || (mutations / 20..mutations / 10 * 9).contains(&valid),
        "{valid} of {mutations} are valid"
    );
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is to be a number, not {text:?}")))
}

#[test]
fn whatever_comes_from_a_client_is_a_message_or_an_error() {
    survives::<FromClient>(5);
}

#[test]
fn whatever_comes_to_a_client_is_a_message_or_an_error() {
    survives::<ToClient>(5);
}

#[test]
fn whatever_comes_from_a_worker_is_a_message_or_an_error() {
    survives::<FromWorker>(5);
}

#[test]
fn whatever_comes_to_a_worker_is_a_message_or_an_error() {
    survives::<ToWorker>(5);
}

#[test]
fn whatever_stands_in_a_body_is_a_call_or_a_value_or_an_error() {
    survives::<Call>(10);
    survives::<Value>(10);
}

/// The most that the smallest messages can make a decoder allocate.
#[test]
fn the_longest_lists_of_the_smallest_members_take_memory_in_proportion() {
    fn check<D: Decoded>(what: &str, frames: &Frames) {
        let (decoded, peak) = peak_of(|| D::decoded(frames).is_ok());
        println!("{what}: {} bytes, {peak} allocated", frames.envelope.len());
        assert!(decoded, "{what}");
        assert!(peak <= bound(frames), "{what}: {peak} bytes allocated for {} bytes", frames.envelope.len());
    }
    let (text, body) = (String::new, || Bytes::from_static(b""));
    let submit = |requests| {
        let priority = Priority::Normal;
        FromClient::Submit { session: 0, pool: text(), timeout_ms: 0, priority, wait: true, requests }
    };
    check::<FromClient>("Submit", &submit(vec![(RequestId(0), body()); MAX_BATCH]).encode());
    check::<FromClient>("Cancel", &FromClient::Cancel(vec![RequestId(0); MAX_BATCH]).encode());
    let replies = vec![(Ticket(0), Outcome::Ok(body())); MAX_BATCH];
    check::<FromWorker>("Replies", &FromWorker::Replies(replies).encode());
    let operations = vec![text(); MAX_BATCH];
    let (name, pool, host) = (text(), text(), text());
    let (version, threads, window, instance) = (0, 0, 0, 0);
    let register = FromWorker::Register { version, name, pool, operations, threads, window, instance, host };
    check::<FromWorker>("Register", &register.encode());
    let dispatch = ToWorker::Dispatch { priority: Priority::Normal, requests: vec![(Ticket(0), body()); MAX_BATCH] };
    check::<ToWorker>("Dispatch", &dispatch.encode());
    let many = WorkerStatus { operations: vec![text(); MAX_BATCH], ..WorkerStatus::default() };
    check::<ToClient>("Status", &ToClient::Status(Status { workers: vec![many], ..Status::default() }.into()).encode());
    let clients = vec![ClientStatus::default(); MAX_BATCH];
    check::<ToClient>("Status", &ToClient::Status(Status { clients, ..Status::default() }.into()).encode());
    let frames = |envelope| Frames { envelope, attachments: Vec::new() };
    let call = Call { operation: text(), arguments: vec![Value::Int(0); 1 << 20] };
    check::<Call>("Call", &frames(call.to_body()));
    check::<Value>("Value", &frames(Value::List(vec![Value::Int(0); 1 << 20]).to_body()));
}
