//! What the fuzz targets share: bytes as frames, and what is to hold of whatever can be decoded.
//!
//! Each target feeds one decoder. None of them may panic, run out of memory or take long; libFuzzer watches that.

use std::fmt::Debug;

use giostra_protocol::Bytes;
use giostra_protocol::codec::{Frames, Message};

/// The frames in an input: how many attachments (up to 7), how long each is, the attachments, the envelope.
pub fn frames(input: &[u8]) -> Frames {
    let mut rest = input;
    let mut take = |most: usize| {
        let (taken, left) = rest.split_at(most.min(rest.len()));
        rest = left;
        taken
    };
    let count = take(1).first().map_or(0, |count| count % 8);
    let lengths = take(count.into());
    let attachments = lengths.iter().map(|&length| Bytes::copy_from_slice(take(length.into()))).collect();
    Frames { envelope: Bytes::copy_from_slice(take(usize::MAX)), attachments }
}

/// An input that [`frames`] turns into these frames, if the attachments are few and short.
pub fn input(frames: &Frames) -> Option<Vec<u8>> {
    let count = u8::try_from(frames.attachments.len()).ok().filter(|&count| count < 8)?;
    let mut input = vec![count];
    for attachment in &frames.attachments {
        input.push(attachment.len().try_into().ok()?);
    }
    frames.attachments.iter().for_each(|attachment| input.extend_from_slice(attachment));
    input.extend_from_slice(&frames.envelope);
    Some(input)
}

/// Decodes a message, and if it is one: the same comes back after it was sent. If it is none, the error can be shown. What is
/// read and written by hand is what `serde` reads and writes.
pub fn message<M: Message + Clone + PartialEq + Debug>(input: &[u8]) {
    let frames = frames(input);
    match (M::decode(&frames), M::decode_plainly(&frames)) {
        (Ok(message), Ok(plainly)) => {
            assert_eq!(message, plainly);
            let sent = message.clone().encode();
            let (mut envelope, mut attachments) = (Vec::new(), Vec::new());
            message.clone().encode_plainly(&mut envelope, &mut attachments);
            assert_eq!(sent, Frames { envelope: envelope.into(), attachments });
            assert_eq!(M::decode(&sent).expect("what was decoded can be sent"), message);
        }
        (Err(error), Err(_)) => {
            let shown = error.to_string();
            assert!(shown.len() < 3000 && !shown.contains(char::is_control), "{shown:?}");
        }
        (one, other) => panic!("{one:?} by hand, {other:?} by serde"),
    }
}
