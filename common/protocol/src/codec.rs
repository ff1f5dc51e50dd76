//! Messages to frames and back: an envelope in MessagePack, and large bodies as further frames.
//!
//! A body of less than [`ATTACH_FROM`] bytes is in the message's first frame, the envelope. A larger
//! one is attached: it is a frame of its own, and the envelope holds that frame's index instead (0
//! for the first attachment). Decoding copies only short bodies; others are slices of their frames.
//!
//! Any bytes that a peer may send are either a message or a [`Malformed`]; nothing here panics on
//! them.

mod bodies;
mod fast;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use crate::Bytes;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::malformed::DecodeError;
pub use crate::malformed::Malformed;
use crate::{FromClient, FromWorker, MAX_BATCH, Outcome, ToClient, ToWorker};

/// The size in bytes from which on bodies are attached.
///
/// Up to about 16 KiB the envelope is faster; from 256 KiB on it is slower, because of copies. In
/// between the two are even.
pub const ATTACH_FROM: usize = 64 << 10;

/// The deepest nesting of a message. The protocol's own messages nest up to 6 levels.
const MAX_DEPTH: usize = 16;

/// A message as frames: the envelope, then the attachments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// The message without the attached bodies.
    pub envelope: Bytes,
    /// The attached bodies, in the order of their indices.
    pub attachments: Vec<Bytes>,
}

impl Frames {
    /// Returns the number of bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.envelope.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// A body within an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed<B> {
    /// When the envelope holds the body itself.
    Inline(B),
    /// When the body is attached: the index of its frame among the attachments.
    Attached(u32),
}

impl<B: AsRef<[u8]>> Serialize for Packed<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Inline(bytes) => serializer.serialize_bytes(bytes.as_ref()),
            Self::Attached(index) => serializer.serialize_u32(*index),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Packed<&'a [u8]> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PackedVisitor;
        impl<'de> Visitor<'de> for PackedVisitor {
            type Value = Packed<&'de [u8]>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a body: bytes, or the index of an attachment")
            }
            fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Packed::Inline(bytes))
            }
            fn visit_u64<E: de::Error>(self, index: u64) -> Result<Self::Value, E> {
                u32::try_from(index).map(Packed::Attached).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(PackedVisitor)
    }
}

/// A message that can be sent and received.
pub trait Message: Sized {
    /// Decodes a message from its frames.
    ///
    /// # Errors
    /// If the frames are not a message of this type.
    fn decode(frames: &Frames) -> Result<Self, Malformed>;

    /// Encodes the message into `envelope` and `attachments`, replacing their contents.
    fn encode_into(self, envelope: &mut Vec<u8>, attachments: &mut Vec<Bytes>);

    /// As [`Self::decode`], but by `serde` alone: the reference for its tests.
    ///
    /// # Errors
    /// If the frames are not a message of this type.
    fn decode_plainly(frames: &Frames) -> Result<Self, Malformed>;

    /// As [`Self::encode_into`], but by `serde` alone: the reference for its tests.
    fn encode_plainly(self, envelope: &mut Vec<u8>, attachments: &mut Vec<Bytes>);

    /// Encodes the message as new frames.
    fn encode(self) -> Frames {
        let (mut envelope, mut attachments) = (Vec::new(), Vec::new());
        self.encode_into(&mut envelope, &mut attachments);
        Frames { envelope: envelope.into(), attachments }
    }
}

/// Implements [`Message`] for an enum. A message that begins with `$stray` comes from a peer that has
/// connected to the broker's other endpoint: the error says so.
macro_rules! message {
    ($name:ident $(, $stray:literal => $advice:literal)?) => {
        impl Message for $name<Bytes> {
            fn decode(frames: &Frames) -> Result<Self, Malformed> {
                fast::Hot::read(frames).map_or_else(|| Self::decode_plainly(frames), Ok)
            }

            fn encode_into(self, envelope: &mut Vec<u8>, attachments: &mut Vec<Bytes>) {
                envelope.clear();
                attachments.clear();
                if !fast::Hot::write(&self, envelope) {
                    self.encode_plainly(envelope, attachments);
                }
            }

            fn decode_plainly(frames: &Frames) -> Result<Self, Malformed> {
                let envelope = &frames.envelope[..];
                let packed: $name<Packed<&[u8]>> = decode(envelope).map_err(|error| match envelope {
                    $(envelope if envelope.starts_with($stray) => Malformed::WrongEndpoint($advice),)?
                    _ => error,
                })?;
                let mut used = vec![false; frames.attachments.len()];
                packed.try_map(&mut |body| unpack(frames, &mut used, body))
            }

            fn encode_plainly(self, envelope: &mut Vec<u8>, attachments: &mut Vec<Bytes>) {
                attachments.clear();
                let Ok(packed) = self.try_map(&mut |body| Ok::<_, Infallible>(pack(body, attachments)));
                encode(&packed, envelope);
            }
        }
    };
}

message!(FromClient, b"\x81\xa8Register" => "this is the clients' endpoint (frontend); workers connect to the backend");
message!(ToClient);
message!(FromWorker, b"\x81\xa5Hello" => "this is the workers' endpoint (backend); clients connect to the frontend");
message!(ToWorker);

fn decode<'a, M: Deserialize<'a>>(envelope: &'a [u8]) -> Result<M, Malformed> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(envelope);
    deserializer.set_max_depth(MAX_DEPTH);
    let message = M::deserialize(&mut deserializer).map_err(|error| Malformed::NotAMessage(DecodeError(error)))?;
    // The deserializer does not tell its position, but an attempt to read another value shows whether
    // bytes are left.
    match <()>::deserialize(&mut deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(message),
        _ => Err(Malformed::Trailing),
    }
}

/// Deserializes a list of at most [`MAX_BATCH`] members. A message of the largest size could hold
/// millions.
pub(crate) fn batch<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct BatchVisitor<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for BatchVisitor<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX_BATCH} members")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<Vec<T>, A::Error> {
            let claimed = members.size_hint().unwrap_or(0);
            let mut batch = Vec::with_capacity(claimed.min(1024));
            while let Some(member) = members.next_element()? {
                if batch.len() == MAX_BATCH {
                    return Err(de::Error::invalid_length(claimed, &self));
                }
                batch.push(member);
            }
            Ok(batch)
        }
    }
    deserializer.deserialize_seq(BatchVisitor(PhantomData))
}

/// An upper bound of the bytes that a list's member takes in an envelope, besides its body.
const MEMBER_BYTES: usize = 64;

/// Splits a list into parts, each of which fits into an envelope of up to `max_frame` bytes.
/// `packed` returns how many bytes of a member are in the envelope. A member that is too large by
/// itself becomes a part of its own.
pub fn portions<T>(members: Vec<T>, max_frame: usize, packed: impl Fn(&T) -> usize) -> impl Iterator<Item = Vec<T>> {
    // A deque: to take a part off the front does not move the rest, which may be a million members.
    let mut members = VecDeque::from(members);
    std::iter::from_fn(move || {
        let (mut count, mut bytes) = (0, 0);
        for member in members.iter().take(MAX_BATCH) {
            bytes += packed(member) + MEMBER_BYTES;
            // Half of it, so that one more body of just less than ATTACH_FROM bytes still fits.
            if count > 0 && bytes > max_frame / 2 {
                break;
            }
            count += 1;
        }
        match count {
            0 => None,
            all if all == members.len() => Some(Vec::from(std::mem::take(&mut members))),
            _ => Some(members.drain(..count).collect()),
        }
    })
}

/// Returns the number of a body's bytes that are in the envelope: none if it is attached.
pub fn packed_len(body: &Bytes) -> usize {
    if body.len() < ATTACH_FROM { body.len() } else { 0 }
}

impl Outcome<Bytes> {
    /// Returns the number of its bytes that are in the envelope.
    pub fn packed_len(&self) -> usize {
        match self {
            Self::Ok(body) => packed_len(body),
            Self::Error(failure) => failure.code.len() + failure.message.len(),
        }
    }
}

fn encode<M: Serialize>(message: &M, envelope: &mut Vec<u8>) {
    envelope.clear();
    message
        .serialize(&mut rmp_serde::Serializer::new(envelope))
        .expect("the protocol's types can be encoded, and a Vec takes any number of bytes");
}

/// Returns a body's bytes. `used`: for each attachment, whether an earlier body refers to it.
fn unpack(frames: &Frames, used: &mut [bool], body: Packed<&[u8]>) -> Result<Bytes, Malformed> {
    match body {
        Packed::Inline(slice) => Ok(frames.envelope.slice_ref(slice)),
        Packed::Attached(index) => match (frames.attachments.get(index as usize), used.get_mut(index as usize)) {
            (Some(_), Some(true)) => Err(Malformed::SharedAttachment { index }),
            (Some(attachment), Some(used)) => {
                *used = true;
                Ok(attachment.clone())
            }
            _ => Err(Malformed::NoSuchAttachment { index, count: frames.attachments.len() }),
        },
    }
}

fn pack(body: Bytes, attachments: &mut Vec<Bytes>) -> Packed<Bytes> {
    if packed_len(&body) == body.len() {
        return Packed::Inline(body);
    }
    attachments.push(body);
    Packed::Attached(attachments.len() as u32 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, MAX_MESSAGE_BYTES, Priority, Reply, RequestId, Status, Ticket, Trace};

    #[allow(clippy::needless_pass_by_value)]
    fn round_trip<M: Message + Clone + PartialEq + fmt::Debug>(message: M) -> Frames {
        let frames = message.clone().encode();
        assert_eq!(M::decode(&frames).unwrap(), message);
        frames
    }

    #[test]
    fn a_submit_is_what_the_protocol_page_says() {
        let frames = round_trip(FromClient::Submit {
            session: 5,
            pool: "p".into(),
            timeout_ms: 0,
            priority: Priority::Normal,
            wait: true,
            requests: vec![(RequestId(7), Bytes::from_static(b"ab"))],
        });
        assert_eq!(&frames.envelope[..], b"\x81\xa6Submit\x96\x05\xa1p\x00\xa6Normal\xc3\x91\x92\x07\xc4\x02ab");
        assert_eq!(&round_trip(FromClient::Inspect).envelope[..], b"\xa7Inspect");
    }

    #[test]
    fn every_message_survives_the_way() {
        round_trip(FromClient::Hello { version: 1, name: "c".into() });
        round_trip(FromClient::Cancel(vec![RequestId(u64::MAX)]));
        round_trip(ToClient::Status(
            Status { workers: vec![Default::default()], pool_totals: vec![Default::default()], ..Default::default() }
                .into(),
        ));
        round_trip(ToClient::Replies(vec![
            Reply { id: RequestId(1), outcome: Outcome::Ok(Bytes::from_static(b"r")), trace: Trace::default() },
            Reply {
                id: RequestId(2),
                outcome: Outcome::Error(Failure::new("failed", "division by zero")),
                trace: Trace { worker: "w".into(), attempts: 2, waited_us: 3, took_us: u64::MAX },
            },
        ]));
        round_trip(ToClient::Rejected(vec![RequestId(3)]));
        round_trip(FromWorker::Share { threads: 4, window: 0 });
        round_trip(FromWorker::Leave);
        let (name, pool, operations) = (String::from("w"), String::from("p"), vec![]);
        let instance = crate::MAX_INSTANCE - 1;
        let (version, threads, window, host) = (2, 1, 0, String::from("render7"));
        round_trip(FromWorker::Register { version, name, pool, operations, threads, window, instance, host });
        round_trip(FromWorker::Unable { reason: "no program".into(), tickets: vec![Ticket(1), Ticket(u64::MAX)] });
        round_trip(FromWorker::Able);
        round_trip(FromWorker::Replies(vec![(Ticket(u64::MAX), Outcome::Ok(Bytes::new()))]));
        round_trip(ToWorker::Ping { sequence: 3 });
    }

    #[test]
    fn a_worker_need_not_say_which_it_is_and_where() {
        let envelope = Bytes::from_static(b"\x81\xa8Register\x96\x02\xa1w\xa1p\x90\x01\x00");
        let register = FromWorker::decode(&Frames { envelope, attachments: vec![] }).unwrap();
        let FromWorker::Register { threads: 1, window: 0, instance: 0, host, .. } = register else {
            panic!("{register:?}")
        };
        assert_eq!(host, "");
    }

    #[test]
    fn large_bodies_travel_as_frames_of_their_own() {
        let (small, large) = (Bytes::from(vec![1; ATTACH_FROM - 1]), Bytes::from(vec![2; ATTACH_FROM]));
        let frames = round_trip(ToWorker::Dispatch {
            priority: Priority::Low,
            requests: vec![(Ticket(1), large.clone()), (Ticket(2), small), (Ticket(3), large.clone())],
        });
        assert_eq!(frames.attachments, [large.clone(), large]);
        assert!(frames.envelope.len() < ATTACH_FROM + 100);
    }

    #[test]
    fn a_list_too_long_for_a_message_becomes_several_in_order() {
        let parts = |members: Vec<Bytes>| -> Vec<_> {
            portions(members, MAX_MESSAGE_BYTES, packed_len).map(|part| part.len()).collect()
        };
        assert!(parts(vec![]).is_empty());
        assert_eq!(parts(vec![Bytes::new(); 2 * MAX_BATCH + 1]), [MAX_BATCH, MAX_BATCH, 1]);
        let (small, large) = (Bytes::from(vec![1; ATTACH_FROM - 1]), Bytes::from(vec![2; ATTACH_FROM]));
        assert_eq!(parts(vec![large; 1000]), [1000]);
        let dispatch: Vec<_> = (0..2000).map(|ticket| (Ticket(ticket), small.clone())).collect();
        let parts: Vec<_> = portions(dispatch.clone(), MAX_MESSAGE_BYTES, |(_, body)| packed_len(body)).collect();
        assert_eq!(parts.concat(), dispatch);
        for requests in parts {
            let dispatch = ToWorker::Dispatch { priority: Priority::Normal, requests };
            assert!(dispatch.encode().envelope.len() <= MAX_MESSAGE_BYTES);
        }
    }

    #[test]
    fn bodies_are_not_copied_when_a_message_is_taken_apart() {
        let frames = FromClient::Submit {
            session: 5,
            pool: "p".into(),
            timeout_ms: 0,
            priority: Priority::Normal,
            wait: true,
            requests: vec![(RequestId(1), Bytes::from(vec![9; 100]))],
        }
        .encode();
        let FromClient::Submit { requests, .. } = FromClient::decode(&frames).unwrap() else { panic!() };
        assert!(frames.envelope.as_ptr_range().contains(&requests[0].1.as_ptr()));
    }

    #[test]
    fn what_is_not_a_message_is_an_error() {
        let bad = |envelope: &[u8]| {
            let frames = Frames { envelope: Bytes::copy_from_slice(envelope), attachments: vec![] };
            FromClient::decode(&frames).unwrap_err()
        };
        assert!(matches!(bad(b""), Malformed::NotAMessage(_)));
        assert!(matches!(bad(b"\xa7Unheard"), Malformed::NotAMessage(_)));
        let refers_to_nothing = b"\x81\xa6Submit\x96\x05\xa1p\x00\xa3Low\xc3\x91\x92\x07\x03";
        assert!(matches!(bad(refers_to_nothing), Malformed::NoSuchAttachment { index: 3, count: 0 }));
        let shared = Frames {
            envelope: Bytes::from_static(b"\x81\xa6Submit\x96\x05\xa1p\x00\xa4High\xc3\x92\x92\x07\x00\x92\x08\x00"),
            attachments: vec![Bytes::new()],
        };
        assert!(matches!(FromClient::decode(&shared), Err(Malformed::SharedAttachment { index: 0 })));
        // A list that claims 2^32 - 1 members allocates nothing for them.
        assert!(matches!(bad(b"\x81\xa6Cancel\xdd\xff\xff\xff\xff"), Malformed::NotAMessage(_)));
        assert!(matches!(bad(&[b'\x91'; 10_000]), Malformed::NotAMessage(_)));
        for trailing in [0x00, 0x91, 0xc0, 0xc4] {
            assert!(matches!(bad(&[b"\xa7Inspect".as_slice(), &[trailing]].concat()), Malformed::Trailing));
        }
        let too_many = FromClient::<Bytes>::Cancel(vec![RequestId(0); MAX_BATCH + 1]).encode();
        assert!(bad(&too_many.envelope).to_string().contains("65536"), "{}", bad(&too_many.envelope));
    }
}
