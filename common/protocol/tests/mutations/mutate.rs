//! What a hostile or broken peer makes of a valid message.

use giostra_protocol::Bytes;
use giostra_protocol::codec::Frames;
use rand::RngExt as _;

use crate::valid::Random;

/// Markers of MessagePack at which a decoder turns off: reserved, nil, lists, maps, texts, bytes,
/// extensions, numbers.
const MARKERS: [u8; 20] = [
    0xc1, 0xc0, 0x90, 0x91, 0x9f, 0x80, 0x81, 0xdc, 0xdd, 0xde, 0xdf, 0xa0, 0xdb, 0xc4, 0xc6, 0xc7, 0xd4, 0xcb, 0xcf,
    0xff,
];

/// Markers that a length of four bytes follows.
const WITH_LENGTH: [u8; 5] = [0xdd, 0xdf, 0xdb, 0xc6, 0xc9];

/// The message after one to four accidents; `other` is another message, and a part of it may
/// get into it.
pub fn mutate(message: &Frames, other: &Frames, random: &mut Random) -> Frames {
    let mut bytes = message.envelope.to_vec();
    let mut attachments = message.attachments.clone();
    for _ in 0..[1, 1, 1, 2, 3, 4][random.random_range(0..6)] {
        match random.random_range(0..16) {
            0 => change_attachments(&mut attachments, other, random),
            _ => change_bytes(&mut bytes, &other.envelope, random),
        }
    }
    Frames { envelope: bytes.into(), attachments }
}

fn change_bytes(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let len = bytes.len();
    let at = random.random_range(0..=len);
    let end = (at + random.random_range(0..8)).min(len);
    match random.random_range(0..10) {
        0 | 1 if at < len => bytes[at] ^= 1 << random.random_range(0..8),
        2 if at < len => bytes[at] = MARKERS[random.random_range(0..MARKERS.len())],
        3 => bytes.insert(at, random.random()),
        4 => drop(bytes.drain(at..end)),
        5 => bytes.truncate(at),
        // A part twice.
        6 => bytes.extend_from_within(at..end),
        7 => splice(bytes, at, other, random),
        8 => {
            let mut length = vec![WITH_LENGTH[random.random_range(0..WITH_LENGTH.len())]];
            length.extend((u32::MAX >> random.random_range(0..32)).to_be_bytes());
            bytes.splice(at..end.min(at + 1), length).for_each(drop);
        }
        _ => {
            let deep = if random.random_range(0..200) == 0 { 20_000 } else { random.random_range(1..40) };
            bytes.splice(at..at, std::iter::repeat_n([0x91, 0x81][random.random_range(0..2)], deep)).for_each(drop);
        }
    }
}

/// The head of one and the tail of the other.
fn splice(bytes: &mut Vec<u8>, at: usize, other: &[u8], random: &mut Random) {
    bytes.truncate(at);
    bytes.extend_from_slice(&other[random.random_range(0..=other.len())..]);
}

fn change_attachments(attachments: &mut Vec<Bytes>, other: &Frames, random: &mut Random) {
    match random.random_range(0..3) {
        0 => drop(attachments.pop()),
        1 => attachments.push(other.envelope.clone()),
        _ => attachments.reverse(),
    }
}
