//! The four messages that carry requests and replies, read and written by hand.
//!
//! There are a few others of each kind, and millions of these. `serde` goes through two lists and some calls for each member
//! of theirs, which is most of what a small request costs. Here is the usual form alone: what [`super`] would write, without
//! attachments. Anything else is left to `serde` (`None`, `false`): other forms of the same message, attachments, and all that is
//! malformed, so that there is one place which says what is accepted. That the two agree is tested with
//! every message of the mutation tests.

use bytes::Bytes;
use rmp::decode::{read_array_len, read_bin_len, read_int, read_map_len, read_str_from_slice};
use rmp::encode::{write_array_len, write_bin, write_str, write_uint};

use super::{ATTACH_FROM, Frames};
use crate::name::Label;
use crate::protocol::{
    Failure, FromClient, FromWorker, MAX_BATCH, Outcome, Reply, RequestId, Ticket, ToClient, ToWorker, Trace,
};

/// A message that may have a usual form.
pub(super) trait Hot: Sized {
    /// The message, if it stands here in its usual form.
    fn read(frames: &Frames) -> Option<Self>;

    /// Writes the message in its usual form at the end of `envelope`, if it has one; otherwise writes nothing.
    fn write(&self, envelope: &mut Vec<u8>) -> bool;
}

impl Hot for FromClient {
    fn read(frames: &Frames) -> Option<Self> {
        let mut reader = Reader::new(frames, "Submit")?;
        reader.array(4)?;
        let (session, pool, timeout_ms) = (reader.uint()?, reader.text()?.into(), reader.uint()?);
        let requests = reader.list(|reader| {
            reader.array(2)?;
            Some((RequestId(reader.uint()?), reader.body()?))
        })?;
        reader.end(Self::Submit { session, pool, timeout_ms, requests })
    }

    fn write(&self, envelope: &mut Vec<u8>) -> bool {
        let Self::Submit { session, pool, timeout_ms, requests } = self else { return false };
        let Some(mut writer) = Writer::new(envelope, requests, |(_, body)| &body[..]) else { return false };
        writer.variant("Submit").array(4).uint(*session).text(pool).uint(*timeout_ms).array(requests.len());
        for (id, body) in requests {
            writer.array(2).uint(id.0).body(body);
        }
        true
    }
}

impl Hot for ToWorker {
    fn read(frames: &Frames) -> Option<Self> {
        let mut reader = Reader::new(frames, "Dispatch")?;
        let requests = reader.list(|reader| {
            reader.array(2)?;
            Some((Ticket(reader.uint()?), reader.body()?))
        })?;
        reader.end(Self::Dispatch(requests))
    }

    fn write(&self, envelope: &mut Vec<u8>) -> bool {
        let Self::Dispatch(requests) = self else { return false };
        let Some(mut writer) = Writer::new(envelope, requests, |(_, body)| &body[..]) else { return false };
        writer.variant("Dispatch").array(requests.len());
        for (ticket, body) in requests {
            writer.array(2).uint(ticket.0).body(body);
        }
        true
    }
}

impl Hot for FromWorker {
    fn read(frames: &Frames) -> Option<Self> {
        let mut reader = Reader::new(frames, "Replies")?;
        let replies = reader.list(|reader| {
            reader.array(2)?;
            Some((Ticket(reader.uint()?), reader.outcome()?))
        })?;
        reader.end(Self::Replies(replies))
    }

    fn write(&self, envelope: &mut Vec<u8>) -> bool {
        let Self::Replies(replies) = self else { return false };
        let Some(mut writer) = Writer::new(envelope, replies, |(_, outcome)| body_of(outcome)) else { return false };
        writer.variant("Replies").array(replies.len());
        for (ticket, outcome) in replies {
            writer.array(2).uint(ticket.0).outcome(outcome);
        }
        true
    }
}

impl Hot for ToClient {
    fn read(frames: &Frames) -> Option<Self> {
        let mut reader = Reader::new(frames, "Replies")?;
        let replies = reader.list(|reader| {
            reader.array(3)?;
            let (id, outcome) = (RequestId(reader.uint()?), reader.outcome()?);
            reader.array(4)?;
            let (worker, attempts) = (Label::from(reader.text()?), reader.uint()?.try_into().ok()?);
            let trace = Trace { worker, attempts, waited_us: reader.uint()?, took_us: reader.uint()? };
            Some(Reply { id, outcome, trace })
        })?;
        reader.end(Self::Replies(replies))
    }

    fn write(&self, envelope: &mut Vec<u8>) -> bool {
        let Self::Replies(replies) = self else { return false };
        let Some(mut writer) = Writer::new(envelope, replies, |reply| body_of(&reply.outcome)) else { return false };
        writer.variant("Replies").array(replies.len());
        for Reply { id, outcome, trace } in replies {
            writer.array(3).uint(id.0).outcome(outcome);
            writer.array(4).text(&trace.worker).uint(trace.attempts.into()).uint(trace.waited_us).uint(trace.took_us);
        }
        true
    }
}

fn body_of(outcome: &Outcome) -> &[u8] {
    match outcome {
        Outcome::Ok(body) => body,
        Outcome::Error(_) => &[],
    }
}

/// Takes values off the front of an envelope. `None`: it is not the usual form.
struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// One that stands before the content of this variant.
    fn new(frames: &'a Frames, variant: &str) -> Option<Self> {
        let mut reader = Self { frame: &frames.envelope, rest: &frames.envelope };
        let usual =
            frames.attachments.is_empty() && read_map_len(&mut reader.rest).ok()? == 1 && reader.text()? == variant;
        usual.then_some(reader)
    }

    fn array(&mut self, len: u32) -> Option<()> {
        (read_array_len(&mut self.rest).ok()? == len).then_some(())
    }

    fn list<T>(&mut self, mut member: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let len = read_array_len(&mut self.rest).ok()? as usize;
        // A member has at least three bytes: what is claimed beyond that is not there.
        if len > MAX_BATCH || len > self.rest.len() / 3 {
            return None;
        }
        let mut list = Vec::with_capacity(len);
        for _ in 0..len {
            list.push(member(self)?);
        }
        Some(list)
    }

    fn uint(&mut self) -> Option<u64> {
        read_int(&mut self.rest).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let (text, rest) = read_str_from_slice(self.rest).ok()?;
        self.rest = rest;
        Some(text)
    }

    fn body(&mut self) -> Option<Bytes> {
        let len = read_bin_len(&mut self.rest).ok()? as usize;
        let (body, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(self.frame.slice_ref(body))
    }

    fn outcome(&mut self) -> Option<Outcome> {
        if read_map_len(&mut self.rest).ok()? != 1 {
            return None;
        }
        match self.text()? {
            "Ok" => self.body().map(Outcome::Ok),
            "Error" => {
                self.array(2)?;
                Some(Outcome::Error(Failure { code: self.text()?.into(), message: self.text()?.into() }))
            }
            _ => None,
        }
    }

    fn end<T>(self, message: T) -> Option<T> {
        self.rest.is_empty().then_some(message)
    }
}

/// Writes values, one after the other; the short forms by hand, the others by `rmp`, which can't fail on a Vec.
struct Writer<'a>(&'a mut Vec<u8>);

impl<'a> Writer<'a> {
    /// One for a message with these members, unless one of them has a body that is to be attached.
    fn new<T>(envelope: &'a mut Vec<u8>, members: &[T], body: impl Fn(&T) -> &[u8]) -> Option<Self> {
        members.iter().all(|member| body(member).len() < ATTACH_FROM).then_some(Self(envelope))
    }

    fn variant(&mut self, name: &str) -> &mut Self {
        self.0.push(0x81);
        self.text(name)
    }

    fn array(&mut self, len: usize) -> &mut Self {
        match len {
            0..=15 => self.0.push(0x90 | len as u8),
            _ => drop(write_array_len(self.0, len as u32)),
        }
        self
    }

    fn uint(&mut self, number: u64) -> &mut Self {
        let [_, _, _, _, a, b, c, d] = number.to_be_bytes();
        match number {
            0..=0x7f => self.0.push(d),
            0x80..=0xff => self.0.extend_from_slice(&[0xcc, d]),
            0x100..=0xffff => self.0.extend_from_slice(&[0xcd, c, d]),
            0x1_0000..=0xffff_ffff => self.0.extend_from_slice(&[0xce, a, b, c, d]),
            _ => drop(write_uint(self.0, number)),
        }
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        match text.len() {
            0..=31 => {
                self.0.push(0xa0 | text.len() as u8);
                self.0.extend_from_slice(text.as_bytes());
            }
            _ => drop(write_str(self.0, text)),
        }
        self
    }

    fn body(&mut self, body: &[u8]) -> &mut Self {
        match body.len() {
            0..=0xff => {
                self.0.extend_from_slice(&[0xc4, body.len() as u8]);
                self.0.extend_from_slice(body);
            }
            _ => drop(write_bin(self.0, body)),
        }
        self
    }

    fn outcome(&mut self, outcome: &Outcome) -> &mut Self {
        match outcome {
            Outcome::Ok(body) => self.variant("Ok").body(body),
            Outcome::Error(Failure { code, message }) => self.variant("Error").array(2).text(code).text(message),
        }
    }
}
