//! JSON: arguments as programs read them, and what programs print as results.
//!
//! Nothing is decoded into a tree on the way, so a message of 64 MiB takes a small multiple of that.

use std::io;

use giostra_protocol::compute::{Inexact, exact_numbers};
use giostra_protocol::{Bytes, Failure};
use rmp::Marker;
use rmp::decode::{self, RmpRead};
use rmp::encode;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::ser::{Formatter, Serializer};
use thiserror::Error;

use super::msgpack::{IN_MEMORY, invalid, is_list, malformed, marker, text};

/// The greatest depth of nested lists and maps in an argument.
const MAX_DEPTH: usize = 64;

/// The characters that some common reader takes for the end of a line or of a text: NUL (C's
/// string functions), LF, VT and FF (Python's `splitlines`), CR (Java, node's `readline`, Python's
/// universal newlines), FS, GS and RS (Python), NEL, LINE SEPARATOR and PARAGRAPH SEPARATOR
/// (Unicode, JavaScript).
pub const LINE_ENDS: [char; 11] =
    ['\0', '\n', '\x0b', '\x0c', '\r', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];

/// Why printed text is no JSON result.
#[derive(Debug, Error)]
pub enum BadJson {
    /// It is not JSON, or is nested too deep.
    #[error("not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// A number in it would be changed.
    #[error("JSON that can't be kept as it is: {0}")]
    Inexact(#[from] Inexact),
}

/// Returns the first character of [`LINE_ENDS`] in the bytes. Outside of UTF-8, 0x85 counts as NEL,
/// which it is in Latin-1.
pub fn line_end(bytes: &[u8]) -> Option<char> {
    let in_chunk = |chunk: std::str::Utf8Chunk<'_>| {
        let text = chunk.valid().chars().find(|c| LINE_ENDS.contains(c));
        text.or_else(|| chunk.invalid().contains(&0x85).then_some('\u{85}'))
    };
    bytes.utf8_chunks().find_map(in_chunk)
}

/// Returns all arguments as a JSON array. Characters of [`LINE_ENDS`] are escaped.
///
/// # Errors
/// If they are malformed, or bytes are among them.
pub fn from_arguments(encoded: &[u8]) -> Result<Vec<u8>, Failure> {
    let (mut rest, mut text) = (encoded, Vec::with_capacity(encoded.len()));
    if is_list(rest) {
        write_json(&mut rest, &mut text, 0)?;
    } else {
        text.push(b'[');
        write_json(&mut rest, &mut text, 0)?;
        text.push(b']');
    }
    if rest.is_empty() { Ok(text) } else { Err(malformed()) }
}

/// Returns printed JSON as a result. Keeps its structure and the order of its members.
///
/// # Errors
/// If it is not JSON, or a number would be changed.
pub fn to_result(printed: &[u8]) -> Result<Bytes, BadJson> {
    let mut body = Vec::new();
    let mut text = serde_json::Deserializer::from_slice(printed);
    Pack(&mut body).deserialize(&mut text)?;
    text.end()?;
    exact_numbers(printed)?;
    Ok(body.into())
}

/// Writes the next value as JSON, at this depth of nesting.
pub fn write_json(rest: &mut &[u8], out: &mut Vec<u8>, depth: usize) -> Result<(), Failure> {
    if depth > MAX_DEPTH {
        return Err(invalid(format!("an argument is nested deeper than {MAX_DEPTH}")));
    }
    match marker(rest)? {
        Marker::Null => literal(rest, out, "null"),
        Marker::True => literal(rest, out, "true"),
        Marker::False => literal(rest, out, "false"),
        Marker::U64 => put(out, &decode::read_int::<u64, _>(rest).map_err(|_| malformed())?),
        // As a number of 64 bits, which its reader takes it for.
        Marker::F32 => put(out, &finite(decode::read_f32(rest).map_err(|_| malformed())?.into())?),
        Marker::F64 => put(out, &finite(decode::read_f64(rest).map_err(|_| malformed())?)?),
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => put(out, text(rest)?),
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
            let count = decode::read_array_len(rest).map_err(|_| malformed())?;
            return write_members(out, *b"[]", count, |out| write_json(rest, out, depth + 1));
        }
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
            let count = decode::read_map_len(rest).map_err(|_| malformed())?;
            return write_members(out, *b"{}", count, |out| {
                put(out, text(rest).map_err(|_| invalid("the keys of a map have to be texts"))?);
                out.push(b':');
                write_json(rest, out, depth + 1)
            });
        }
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => return Err(invalid("bytes can't be written as JSON")),
        Marker::Ext8 | Marker::Ext16 | Marker::Ext32 | Marker::Reserved => return Err(malformed()),
        Marker::FixExt1 | Marker::FixExt2 | Marker::FixExt4 | Marker::FixExt8 | Marker::FixExt16 => {
            return Err(invalid("an extension type of MessagePack can't be written as JSON"));
        }
        _ => put(out, &decode::read_int::<i64, _>(rest).map_err(|_| malformed())?),
    }
    Ok(())
}

/// Writes the members of a list or map between brackets, with commas between them.
fn write_members(
    out: &mut Vec<u8>,
    [open, close]: [u8; 2],
    count: u32,
    mut write_member: impl FnMut(&mut Vec<u8>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    out.push(open);
    for i in 0..count {
        if i > 0 {
            out.push(b',');
        }
        write_member(out)?;
    }
    out.push(close);
    Ok(())
}

fn literal(rest: &mut &[u8], out: &mut Vec<u8>, text: &str) {
    rest.read_u8().expect("its marker is there");
    out.extend_from_slice(text.as_bytes());
}

fn finite(float: f64) -> Result<f64, Failure> {
    if float.is_finite() { Ok(float) } else { Err(invalid(format!("{float} can't be written as JSON"))) }
}

fn put(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    value.serialize(&mut Serializer::with_formatter(out, OneLine)).expect(IN_MEMORY);
}

/// Writes JSON as `serde_json` does, but escapes all of [`LINE_ENDS`]. JSON itself demands this only
/// for those below U+0020.
struct OneLine;

impl Formatter for OneLine {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['\u{85}', '\u{2028}', '\u{2029}']) {
            let (before, end) = rest.split_at(at);
            let end = end.chars().next().expect("it was found");
            write!(out, "{before}\\u{:04x}", u32::from(end))?;
            rest = &rest[at + end.len_utf8()..];
        }
        out.write_all(rest.as_bytes())
    }
}

/// Writes the values that it visits as MessagePack.
struct Pack<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Pack<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! visit_scalar {
    ($visit:ident, $type:ty, $write:ident) => {
        fn $visit<E>(self, value: $type) -> Result<(), E> {
            encode::$write(self.0, value).expect(IN_MEMORY);
            Ok(())
        }
    };
}

impl<'de> Visitor<'de> for Pack<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        encode::write_nil(self.0).expect(IN_MEMORY);
        Ok(())
    }

    visit_scalar!(visit_bool, bool, write_bool);
    visit_scalar!(visit_i64, i64, write_sint);
    visit_scalar!(visit_u64, u64, write_uint);
    visit_scalar!(visit_f64, f64, write_f64);
    visit_scalar!(visit_str, &str, write_str);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let (mut members, mut count) = (Vec::new(), 0);
        while list.next_element_seed(Pack(&mut members))?.is_some() {
            count += 1;
        }
        encode::write_array_len(self.0, u32::try_from(count).map_err(A::Error::custom)?).expect(IN_MEMORY);
        self.0.append(&mut members);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut members, mut count) = (Vec::new(), 0);
        while map.next_key_seed(Pack(&mut members))?.is_some() {
            map.next_value_seed(Pack(&mut members))?;
            count += 1;
        }
        encode::write_map_len(self.0, u32::try_from(count).map_err(A::Error::custom)?).expect(IN_MEMORY);
        self.0.append(&mut members);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(json: &str) -> Bytes {
        to_result(json.as_bytes()).unwrap()
    }

    #[test]
    fn json_survives_the_way_to_messagepack_and_back() {
        for text in [
            "[]",
            r#"[1,-1,200,-200,70000,-70000,5000000000,18446744073709551615,-9223372036854775808]"#,
            r#"[1.5,-0.25,1e+300,true,false,null,"a\"\n\u0001ü",""]"#,
            r#"[{"b":[1,{"a":{}}],"a":2}]"#,
        ] {
            assert_eq!(String::from_utf8(from_arguments(&packed(text)).unwrap()).unwrap(), text);
        }
        assert_eq!(from_arguments(&packed("7")).unwrap(), b"[7]");
        let long = format!("[{}]", vec!["1"; 70_000].join(","));
        assert_eq!(from_arguments(&packed(&long)).unwrap(), long.as_bytes());
    }

    #[test]
    fn numbers_come_and_go_as_they_are_or_are_an_error() {
        for text in ["[18446744073709551616]", r#"{"a":[-9223372036854775809]}"#, "100000000000000000000", "1e400"] {
            assert!(to_result(text.as_bytes()).is_err(), "{text}");
        }
        let beyond = to_result(b"[18446744073709551616]").unwrap_err().to_string();
        assert_eq!(
            beyond,
            "JSON that can't be kept as it is: the integer 18446744073709551616 does not fit into 64 bits"
        );
        for kept in [r#"["18446744073709551616","\\",1.5]"#, "[-0.0,1e+20]"] {
            assert_eq!(String::from_utf8(from_arguments(&packed(kept)).unwrap()).unwrap(), kept);
        }
        let single = rmp_serde::to_vec(&[0.1_f32]).unwrap();
        assert_eq!(from_arguments(&single).unwrap(), b"[0.10000000149011612]");
        for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let body = Bytes::from(rmp_serde::to_vec(&[float]).unwrap());
            assert_eq!(
                from_arguments(&body).unwrap_err().to_string(),
                format!("invalid: {float} can't be written as JSON")
            );
        }
    }

    #[test]
    fn no_line_end_of_any_reader_is_left_in_json() {
        for end in LINE_ENDS {
            let text = format!("a{end}b{end}");
            let body = rmp_serde::to_vec(&[[(&text, 1)]]).unwrap();
            let json = String::from_utf8(from_arguments(&body).unwrap()).unwrap();
            assert!(!json.contains(LINE_ENDS), "{json:?}");
            assert_eq!(serde_json::from_str::<[[(String, u8); 1]; 1]>(&json).unwrap()[0][0].0, text);
            assert_eq!(line_end(text.as_bytes()), Some(end));
        }
        assert_eq!(line_end("a b\tc\u{1f}\u{c5}…".as_bytes()), None);
        assert_eq!(line_end(b"caf\xe9\x85"), Some('\u{85}'));
    }
}
