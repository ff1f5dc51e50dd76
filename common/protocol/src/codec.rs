//! Messages to frames and back: MessagePack, and bodies that travel as frames of their own.
//!
//! A body of up to [`ATTACH_FROM`] bytes is packed into the message's first frame. A larger one is
//! attached: it becomes a frame of its own behind the first, and the message holds that frame's
//! index (0 for the first attachment) in its place. Neither is copied when a message is taken
//! apart, but for short ones: a body is a slice of the frame that it came in.
//!
//! Every byte string a peer can send is either a message or a [`Malformed`]; nothing here panics on
//! it.

mod fast;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use crate::Bytes;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use crate::malformed::Malformed;
use crate::{FromClient, FromWorker, MAX_BATCH, Outcome, Reply, ToClient, ToWorker};

/// Bodies from this size on, in bytes, are attached instead of packed.
///
/// Packing wins up to about 16 KiB and loses from 256 KiB on (copies); in between the two are even.
pub const ATTACH_FROM: usize = 64 << 10;

/// How deep a message may nest. The deepest one of the protocol nests to 6.
const MAX_DEPTH: usize = 16;

/// A message as frames: the envelope, then the attachments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// The message, but for the attached bodies.
    pub envelope: Bytes,
    /// The attached bodies, in the order of their indices.
    pub attachments: Vec<Bytes>,
}

impl Frames {
    /// The bytes of all frames.
    pub fn bytes(&self) -> usize {
        self.envelope.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// A body as it stands in an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed<B> {
    /// When it is there itself.
    Inline(B),
    /// When it is an attachment: its index.
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
    /// Takes the message out of its frames.
    fn decode(frames: &Frames) -> Result<Self, Malformed>;

    /// Writes the envelope to `envelope` and the attachments to `attachments`; what was in them is
    /// gone.
    fn encode_into(self, envelope: &mut Vec<u8>, attachments: &mut Vec<Bytes>);

    /// What [`Self::decode`] is to do, by `serde` alone: it is tested against this.
    fn decode_plainly(frames: &Frames) -> Result<Self, Malformed>;

    /// What [`Self::encode_into`] is to do, by `serde` alone: it is tested against this.
    fn encode_plainly(self, envelope: &mut Vec<u8>, attachments: &mut Vec<Bytes>);

    /// The message as frames of its own.
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
                let mut taken = vec![false; frames.attachments.len()];
                packed.try_map(&mut |body| unpack(frames, &mut taken, body))
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
    let message = M::deserialize(&mut deserializer)?;
    // The deserializer does not say how far it got, but what it says of another value tells whether
    // there is more.
    match <()>::deserialize(&mut deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(message),
        _ => Err(Malformed::Trailing),
    }
}

/// Deserializes a list of at most [`MAX_BATCH`] members: a message of the largest size could hold
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

/// More than what stands in an envelope for one member besides its body or its failure.
const MEMBER_BYTES: usize = 64;

/// Cuts a list into parts that fit into messages of frames of up to `max_frame` bytes each;
/// `packed` says how many bytes of a member stand in the envelope. A member that is too large by
/// itself makes a part of its own.
pub fn portions<T>(members: Vec<T>, max_frame: usize, packed: impl Fn(&T) -> usize) -> impl Iterator<Item = Vec<T>> {
    // Whatever follows a portion is not moved for it: the list may be of a million.
    let mut members = VecDeque::from(members);
    std::iter::from_fn(move || {
        let (mut count, mut bytes) = (0, 0);
        for member in members.iter().take(MAX_BATCH) {
            bytes += packed(member) + MEMBER_BYTES;
            // Half of it: a body that is just not attached still fits in.
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

/// The bytes of a body that stand in the envelope: none if it is attached.
pub fn packed_len(body: &Bytes) -> usize {
    if body.len() < ATTACH_FROM { body.len() } else { 0 }
}

fn encode<M: Serialize>(message: &M, envelope: &mut Vec<u8>) {
    envelope.clear();
    message
        .serialize(&mut rmp_serde::Serializer::new(envelope))
        .expect("the protocol's types can be encoded, and a Vec takes any number of bytes");
}

/// `taken`: for each attachment, whether a body has it already.
fn unpack(frames: &Frames, taken: &mut [bool], body: Packed<&[u8]>) -> Result<Bytes, Malformed> {
    match body {
        Packed::Inline(slice) => Ok(frames.envelope.slice_ref(slice)),
        Packed::Attached(index) => match (frames.attachments.get(index as usize), taken.get_mut(index as usize)) {
            (Some(_), Some(true)) => Err(Malformed::SharedAttachment { index }),
            (Some(attachment), Some(taken)) => {
                *taken = true;
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

// Exchanging the bodies of a message, one by one, in order.

impl<B> FromClient<B> {
    fn try_map<C, E>(self, f: &mut impl FnMut(B) -> Result<C, E>) -> Result<FromClient<C>, E> {
        Ok(match self {
            Self::Hello { version, name } => FromClient::Hello { version, name },
            Self::Submit { session, pool, timeout_ms, wait, requests } => {
                FromClient::Submit { session, pool, timeout_ms, wait, requests: try_map_batch(requests, f)? }
            }
            Self::Cancel(ids) => FromClient::Cancel(ids),
            Self::Inspect => FromClient::Inspect,
            Self::Drain { worker, number, all } => FromClient::Drain { worker, number, all },
            Self::Goodbye => FromClient::Goodbye,
            Self::Disconnected => FromClient::Disconnected,
        })
    }
}

impl<B> ToClient<B> {
    fn try_map<C, E>(self, f: &mut impl FnMut(B) -> Result<C, E>) -> Result<ToClient<C>, E> {
        Ok(match self {
            Self::Welcome { version, client, session, max_message_bytes, max_batch } => {
                ToClient::Welcome { version, client, session, max_message_bytes, max_batch }
            }
            Self::Replies(replies) => ToClient::Replies(
                replies
                    .into_iter()
                    .map(|Reply { id, outcome, trace }| Ok(Reply { id, outcome: outcome.try_map(f)?, trace }))
                    .collect::<Result<_, E>>()?,
            ),
            Self::Progress(progress) => ToClient::Progress(progress),
            Self::Status(status) => ToClient::Status(status),
            Self::Draining { worker, numbers } => ToClient::Draining { worker, numbers },
            Self::Refused { reason } => ToClient::Refused { reason },
            Self::Declined { reason, requests } => ToClient::Declined { reason, requests },
            Self::Rejected(ids) => ToClient::Rejected(ids),
            Self::NoWorker { pool, pools, requests } => ToClient::NoWorker { pool, pools, requests },
            Self::Credit { requests } => ToClient::Credit { requests },
            Self::HelloAgain => ToClient::HelloAgain,
            Self::Closing => ToClient::Closing,
            Self::Goodbye => ToClient::Goodbye,
            Self::Hiccup => ToClient::Hiccup,
        })
    }
}

impl<B> FromWorker<B> {
    fn try_map<C, E>(self, f: &mut impl FnMut(B) -> Result<C, E>) -> Result<FromWorker<C>, E> {
        Ok(match self {
            Self::Register { version, name, pool, operations, threads, window, instance } => {
                FromWorker::Register { version, name, pool, operations, threads, window, instance }
            }
            Self::Replies(replies) => {
                FromWorker::Replies(try_map_batch(replies, &mut |outcome: Outcome<B>| outcome.try_map(f))?)
            }
            Self::Progress(progress) => FromWorker::Progress(progress),
            Self::Pong { sequence, computing, waiting, oldest_ms } => {
                FromWorker::Pong { sequence, computing, waiting, oldest_ms }
            }
            Self::Unable { reason, tickets } => FromWorker::Unable { reason, tickets },
            Self::Able => FromWorker::Able,
            Self::Leave => FromWorker::Leave,
            Self::Disconnected => FromWorker::Disconnected,
        })
    }
}

impl<B> ToWorker<B> {
    fn try_map<C, E>(self, f: &mut impl FnMut(B) -> Result<C, E>) -> Result<ToWorker<C>, E> {
        Ok(match self {
            Self::Welcome { version, worker, ping_interval_ms, ping_max_out, max_message_bytes } => {
                ToWorker::Welcome { version, worker, ping_interval_ms, ping_max_out, max_message_bytes }
            }
            Self::Dispatch(requests) => ToWorker::Dispatch(try_map_batch(requests, f)?),
            Self::Cancel(tickets) => ToWorker::Cancel(tickets),
            Self::Ping { sequence } => ToWorker::Ping { sequence },
            Self::RegisterAgain => ToWorker::RegisterAgain,
            Self::Goodbye => ToWorker::Goodbye,
            Self::Refused { reason } => ToWorker::Refused { reason },
            Self::Closing => ToWorker::Closing,
            Self::Hiccup => ToWorker::Hiccup,
        })
    }
}

impl Outcome<Bytes> {
    /// The bytes of it that stand in the envelope.
    pub fn packed_len(&self) -> usize {
        match self {
            Self::Ok(body) => packed_len(body),
            Self::Error(failure) => failure.code.len() + failure.message.len(),
        }
    }
}

impl<B> Outcome<B> {
    fn try_map<C, E>(self, f: &mut impl FnMut(B) -> Result<C, E>) -> Result<Outcome<C>, E> {
        Ok(match self {
            Self::Ok(body) => Outcome::Ok(f(body)?),
            Self::Error(failure) => Outcome::Error(failure),
        })
    }
}

fn try_map_batch<K, T, U, E>(batch: Vec<(K, T)>, f: &mut impl FnMut(T) -> Result<U, E>) -> Result<Vec<(K, U)>, E> {
    batch.into_iter().map(|(key, value)| Ok((key, f(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, MAX_MESSAGE_BYTES, RequestId, Status, Ticket, Trace};

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
            wait: true,
            requests: vec![(RequestId(7), Bytes::from_static(b"ab"))],
        });
        assert_eq!(&frames.envelope[..], b"\x81\xa6Submit\x95\x05\xa1p\x00\xc3\x91\x92\x07\xc4\x02ab");
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
        round_trip(FromWorker::Leave);
        let (name, pool, operations) = (String::from("w"), String::from("p"), vec![]);
        let instance = crate::MAX_INSTANCE - 1;
        let register = FromWorker::Register { version: 2, name, pool, operations, threads: 1, window: 0, instance };
        round_trip(register);
        round_trip(FromWorker::Unable { reason: "no program".into(), tickets: vec![Ticket(1), Ticket(u64::MAX)] });
        round_trip(FromWorker::Able);
        round_trip(FromWorker::Replies(vec![(Ticket(u64::MAX), Outcome::Ok(Bytes::new()))]));
        round_trip(ToWorker::Ping { sequence: 3 });
    }

    #[test]
    fn a_worker_need_not_say_which_it_is() {
        let envelope = Bytes::from_static(b"\x81\xa8Register\x96\x02\xa1w\xa1p\x90\x01\x00");
        let register = FromWorker::decode(&Frames { envelope, attachments: vec![] }).unwrap();
        assert!(matches!(register, FromWorker::Register { threads: 1, window: 0, instance: 0, .. }), "{register:?}");
    }

    #[test]
    fn large_bodies_travel_as_frames_of_their_own() {
        let (small, large) = (Bytes::from(vec![1; ATTACH_FROM - 1]), Bytes::from(vec![2; ATTACH_FROM]));
        let frames = round_trip(ToWorker::Dispatch(vec![
            (Ticket(1), large.clone()),
            (Ticket(2), small),
            (Ticket(3), large.clone()),
        ]));
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
        for part in parts {
            assert!(ToWorker::Dispatch(part).encode().envelope.len() <= MAX_MESSAGE_BYTES);
        }
    }

    #[test]
    fn bodies_are_not_copied_when_a_message_is_taken_apart() {
        let frames = FromClient::Submit {
            session: 5,
            pool: "p".into(),
            timeout_ms: 0,
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
        let refers_to_nothing = b"\x81\xa6Submit\x95\x05\xa1p\x00\xc3\x91\x92\x07\x03";
        assert!(matches!(bad(refers_to_nothing), Malformed::NoSuchAttachment { index: 3, count: 0 }));
        let shared = Frames {
            envelope: Bytes::from_static(b"\x81\xa6Submit\x95\x05\xa1p\x00\xc3\x92\x92\x07\x00\x92\x08\x00"),
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
