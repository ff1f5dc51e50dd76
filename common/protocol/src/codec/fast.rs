//! A hand-written codec for the four messages that carry requests and replies.
//!
//! A connection carries millions of these messages, and a few of the others. For each member of
//! their lists `serde` makes several calls, which would be most of the cost of a small request. This
//! codec knows only the usual form: what [`super`] writes, without attachments. It leaves anything
//! else to `serde` (`None`, `false`), such as other encodings of the same message, attachments, and
//! malformed bytes. So one place decides what is accepted. The mutation tests check with each of
//! their messages that the two agree.

use crate::Bytes;
use rmp::decode::{read_array_len, read_bin_len, read_str_from_slice};
use rmp::encode::{write_array_len, write_bin, write_str};

use super::{ATTACH_FROM, Frames};
use crate::name::Label;
use crate::{
    Failure, FromClient, FromWorker, MAX_BATCH, Outcome, Priority, Reply, RequestId, Ticket, ToClient, ToWorker, Trace,
};

const FALSE: &[u8] = b"\xc2";
const TRUE: &[u8] = b"\xc3";

/// A message that may have the usual form.
pub(super) trait Hot: Sized {
    /// Decodes the message, if it has the usual form.
    fn read(frames: &Frames) -> Option<Self>;

    /// Appends the message to `envelope` and returns true; returns false if it has no usual form.
    fn write(&self, envelope: &mut Vec<u8>) -> bool;
}

impl Hot for FromClient {
    fn read(frames: &Frames) -> Option<Self> {
        let mut reader = Reader::new(frames)?;
        reader.literal(b"\x81\xa6Submit\x96")?;
        let (session, pool, timeout_ms) = (reader.uint()?, reader.text()?.into(), reader.uint()?);
        let (priority, wait) = (reader.priority()?, reader.truth()?);
        let requests = reader.list(|reader| {
            reader.literal(b"\x92")?;
            Some((RequestId(reader.uint()?), reader.body()?))
        })?;
        reader.end(Self::Submit { session, pool, timeout_ms, priority, wait, requests })
    }

    fn write(&self, envelope: &mut Vec<u8>) -> bool {
        let Self::Submit { session, pool, timeout_ms, priority, wait, requests } = self else { return false };
        let Some(mut writer) = Writer::new(envelope, requests, |(_, body)| body.len()) else { return false };
        writer.literal(b"\x81\xa6Submit\x96").uint(*session).text(pool).uint(*timeout_ms);
        writer.text(priority.wire_name()).literal(if *wait { TRUE } else { FALSE }).list(requests.len());
        for (id, body) in requests {
            writer.literal(b"\x92").uint(id.0).body(body);
        }
        true
    }
}

impl Hot for ToWorker {
    fn read(frames: &Frames) -> Option<Self> {
        let mut reader = Reader::new(frames)?;
        reader.literal(b"\x81\xa8Dispatch\x92")?;
        let priority = reader.priority()?;
        let requests = reader.list(|reader| {
            reader.literal(b"\x92")?;
            Some((Ticket(reader.uint()?), reader.body()?))
        })?;
        reader.end(Self::Dispatch { priority, requests })
    }

    fn write(&self, envelope: &mut Vec<u8>) -> bool {
        let Self::Dispatch { priority, requests } = self else { return false };
        let Some(mut writer) = Writer::new(envelope, requests, |(_, body)| body.len()) else { return false };
        writer.literal(b"\x81\xa8Dispatch\x92").text(priority.wire_name()).list(requests.len());
        for (ticket, body) in requests {
            writer.literal(b"\x92").uint(ticket.0).body(body);
        }
        true
    }
}

impl Hot for FromWorker {
    fn read(frames: &Frames) -> Option<Self> {
        let mut reader = Reader::new(frames)?;
        reader.literal(b"\x81\xa7Replies")?;
        let replies = reader.list(|reader| {
            reader.literal(b"\x92")?;
            Some((Ticket(reader.uint()?), reader.outcome()?))
        })?;
        reader.end(Self::Replies(replies))
    }

    fn write(&self, envelope: &mut Vec<u8>) -> bool {
        let Self::Replies(replies) = self else { return false };
        let Some(mut writer) = Writer::new(envelope, replies, |(_, outcome)| body_len(outcome)) else { return false };
        writer.literal(b"\x81\xa7Replies").list(replies.len());
        for (ticket, outcome) in replies {
            writer.literal(b"\x92").uint(ticket.0).outcome(outcome);
        }
        true
    }
}

impl Hot for ToClient {
    fn read(frames: &Frames) -> Option<Self> {
        let mut reader = Reader::new(frames)?;
        reader.literal(b"\x81\xa7Replies")?;
        let mut last = Label::default();
        let replies = reader.list(|reader| {
            reader.literal(b"\x93")?;
            let (id, outcome) = (RequestId(reader.uint()?), reader.outcome()?);
            reader.literal(b"\x94")?;
            let (worker, attempts) = (reader.label(&mut last)?, reader.uint()?.try_into().ok()?);
            let trace = Trace { worker, attempts, waited_us: reader.uint()?, took_us: reader.uint()? };
            Some(Reply { id, outcome, trace })
        })?;
        reader.end(Self::Replies(replies))
    }

    fn write(&self, envelope: &mut Vec<u8>) -> bool {
        let Self::Replies(replies) = self else { return false };
        let Some(mut writer) = Writer::new(envelope, replies, |reply| body_len(&reply.outcome)) else { return false };
        writer.literal(b"\x81\xa7Replies").list(replies.len());
        for Reply { id, outcome, trace } in replies {
            writer.literal(b"\x93").uint(id.0).outcome(outcome);
            writer.literal(b"\x94").text(&trace.worker).uint(trace.attempts.into());
            writer.uint(trace.waited_us).uint(trace.took_us);
        }
        true
    }
}

fn body_len(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Ok(body) => body.len(),
        Outcome::Error(_) => 0,
    }
}

/// Takes values off the front of an envelope; `None` if they do not have the usual form.
///
/// Short values are read here, others by `rmp`.
struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(frames: &'a Frames) -> Option<Self> {
        frames.attachments.is_empty().then_some(Self { frame: &frames.envelope, rest: &frames.envelope })
    }

    /// Skips these bytes. In MessagePack, `81` begins a map of one entry, `92` an array of two, `a7` a
    /// string of seven bytes.
    #[inline]
    fn literal(&mut self, bytes: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(bytes)?;
        Some(())
    }

    fn list<T>(&mut self, mut member: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let len = read_array_len(&mut self.rest).ok()? as usize;
        // A member has at least three bytes: a longer list can't be complete.
        if len > MAX_BATCH || len > self.rest.len() / 3 {
            return None;
        }
        let mut list = Vec::with_capacity(len);
        for _ in 0..len {
            list.push(member(self)?);
        }
        Some(list)
    }

    fn truth(&mut self) -> Option<bool> {
        match self.literal(TRUE) {
            Some(()) => Some(true),
            None => self.literal(FALSE).map(|()| false),
        }
    }

    fn priority(&mut self) -> Option<Priority> {
        let name = self.text()?;
        Priority::ALL.into_iter().find(|priority| priority.wire_name() == name)
    }

    #[inline]
    fn uint(&mut self) -> Option<u64> {
        let (number, rest) = match *self.rest {
            [a @ 0..=0x7f, ref rest @ ..] => (a.into(), rest),
            [0xcc, a, ref rest @ ..] => (a.into(), rest),
            [0xcd, a, b, ref rest @ ..] => (u16::from_be_bytes([a, b]).into(), rest),
            [0xce, a, b, c, d, ref rest @ ..] => (u32::from_be_bytes([a, b, c, d]).into(), rest),
            [0xcf, a, b, c, d, e, f, g, h, ref rest @ ..] => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), rest),
            // A negative or floating-point number, or another type.
            _ => return None,
        };
        self.rest = rest;
        Some(number)
    }

    fn text(&mut self) -> Option<&'a str> {
        let (text, rest) = read_str_from_slice(self.rest).ok()?;
        self.rest = rest;
        Some(text)
    }

    /// Reads a label, which is often the same as the last one.
    #[inline]
    fn label(&mut self, last: &mut Label) -> Option<Label> {
        if let [begin @ 0xa0..=0xbf, ref rest @ ..] = *self.rest
            && usize::from(begin & 0x1f) == last.len()
            && let Some(rest) = rest.strip_prefix(last.as_bytes())
        {
            self.rest = rest;
        } else {
            *last = self.text()?.into();
        }
        Some(last.clone())
    }

    #[inline]
    fn body(&mut self) -> Option<Bytes> {
        let len = match *self.rest {
            [0xc4, len, ref rest @ ..] => {
                self.rest = rest;
                len.into()
            }
            _ => read_bin_len(&mut self.rest).ok()? as usize,
        };
        let begin = self.frame.len() - self.rest.len();
        self.rest = self.rest.get(len..)?;
        Some(self.frame.slice(begin..begin + len))
    }

    #[inline]
    fn outcome(&mut self) -> Option<Outcome> {
        if self.literal(b"\x81\xa2Ok").is_some() {
            return self.body().map(Outcome::Ok);
        }
        self.literal(b"\x81\xa5Error\x92")?;
        Some(Outcome::Error(Failure { code: self.text()?.into(), message: self.text()?.into() }))
    }

    fn end<T>(self, message: T) -> Option<T> {
        self.rest.is_empty().then_some(message)
    }
}

/// Appends values to an envelope: short ones by hand, others by `rmp`, which can't fail on a Vec.
struct Writer<'a>(&'a mut Vec<u8>);

/// The usual number of bytes of a list's member, besides its body.
const BESIDES_BODY: usize = 32;

impl<'a> Writer<'a> {
    /// Creates a writer for a message with these members, unless one of their bodies has to be
    /// attached.
    fn new<T>(envelope: &'a mut Vec<u8>, members: &[T], body_len: impl Fn(&T) -> usize) -> Option<Self> {
        let (mut longest, mut bytes) = (0, 0);
        for len in members.iter().map(body_len) {
            longest = longest.max(len);
            bytes += len + BESIDES_BODY;
        }
        if longest >= ATTACH_FROM {
            return None;
        }
        envelope.reserve(bytes);
        Some(Self(envelope))
    }

    #[inline]
    fn literal(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn list(&mut self, len: usize) -> &mut Self {
        drop(write_array_len(self.0, len as u32));
        self
    }

    #[inline]
    fn uint(&mut self, number: u64) -> &mut Self {
        let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
        match number {
            0..=0x7f => self.literal(&[h]),
            0x80..=0xff => self.literal(&[0xcc, h]),
            0x100..=0xffff => self.literal(&[0xcd, g, h]),
            0x1_0000..=0xffff_ffff => self.literal(&[0xce, e, f, g, h]),
            _ => self.literal(&[0xcf, a, b, c, d, e, f, g, h]),
        }
    }

    #[inline]
    fn text(&mut self, text: &str) -> &mut Self {
        match text.len() {
            len @ 0..=31 => self.literal(&[0xa0 | len as u8]).literal(text.as_bytes()),
            _ => {
                drop(write_str(self.0, text));
                self
            }
        }
    }

    #[inline]
    fn body(&mut self, body: &[u8]) -> &mut Self {
        match body.len() {
            len @ 0..=0xff => self.literal(&[0xc4, len as u8]).literal(body),
            _ => {
                drop(write_bin(self.0, body));
                self
            }
        }
    }

    #[inline]
    fn outcome(&mut self, outcome: &Outcome) -> &mut Self {
        match outcome {
            Outcome::Ok(body) => self.literal(b"\x81\xa2Ok").body(body),
            Outcome::Error(Failure { code, message }) => self.literal(b"\x81\xa5Error\x92").text(code).text(message),
        }
    }
}
