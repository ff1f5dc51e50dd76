//! Converts the bodies of requests to what programs read, words or JSON, and what programs print to
//! results.
//!
//! Nothing is decoded into a tree on the way, so a message of 64 MiB takes a small multiple of that.

use std::io;

use giostra_protocol::compute::{Inexact, exact_numbers};
use giostra_protocol::{Bytes, Failure, code};
use rmp::Marker;
use rmp::decode::{self, RmpRead};
use rmp::encode;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::ser::{Formatter, Serializer};
use thiserror::Error;

/// The most arguments of a request that become words. Linux accepts about as many short ones.
const MAX_WORDS: usize = 65_536;

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

/// One argument of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A text as it is, or any other value as JSON, which can be a word.
    Word(Bytes),
    /// Bytes.
    Bytes(Bytes),
}

/// Returns the arguments. A body that is no list is one argument.
///
/// # Errors
/// If they are malformed, too many, or can't be written as JSON.
pub fn arguments(encoded: &Bytes) -> Result<Vec<Argument>, Failure> {
    let mut rest = &encoded[..];
    let count = if is_list(rest) { decode::read_array_len(&mut rest).map_err(|_| malformed())? as usize } else { 1 };
    if count > MAX_WORDS {
        return Err(invalid(format!("{count} arguments are too many; {MAX_WORDS} can be words of a command")));
    }
    // The request claims this count, so it reserves no memory by itself.
    let mut arguments = Vec::with_capacity(count.min(rest.len()));
    for _ in 0..count {
        arguments.push(argument(encoded, &mut rest)?);
    }
    if rest.is_empty() { Ok(arguments) } else { Err(malformed()) }
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
pub fn json(encoded: &[u8]) -> Result<Vec<u8>, Failure> {
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

/// Returns printed bytes as a result: a text if they are UTF-8, or else bytes.
pub fn result(printed: &[u8]) -> Bytes {
    // A header has 5 bytes at most.
    let mut body = Vec::with_capacity(printed.len() + 5);
    let length = u32::try_from(printed.len()).expect("what is printed is bounded");
    if std::str::from_utf8(printed).is_ok() {
        encode::write_str_len(&mut body, length).expect(IN_MEMORY);
    } else {
        encode::write_bin_len(&mut body, length).expect(IN_MEMORY);
    }
    body.extend_from_slice(printed);
    body.into()
}

/// Returns printed JSON as a result. Keeps its structure and the order of its members.
///
/// # Errors
/// If it is not JSON, or a number would be changed.
pub fn json_result(printed: &[u8]) -> Result<Bytes, BadJson> {
    let mut body = Vec::new();
    let mut text = serde_json::Deserializer::from_slice(printed);
    Pack(&mut body).deserialize(&mut text)?;
    text.end()?;
    exact_numbers(printed)?;
    Ok(body.into())
}

/// Returns the bytes without a newline at their end.
pub fn without_newline(printed: &[u8]) -> &[u8] {
    printed.strip_suffix(b"\n").unwrap_or(printed)
}

/// Returns the reply to a request that makes no sense.
pub fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(code::INVALID, message)
}

fn malformed() -> Failure {
    invalid("a request is [operation, [argument, ..]] in MessagePack")
}

fn is_list(encoded: &[u8]) -> bool {
    let marker = encoded.first().map(|&byte| Marker::from_u8(byte));
    matches!(marker, Some(Marker::FixArray(_) | Marker::Array16 | Marker::Array32))
}

fn argument(encoded: &Bytes, rest: &mut &[u8]) -> Result<Argument, Failure> {
    match marker(rest)? {
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            Ok(Argument::Word(encoded.slice_ref(text(rest)?.as_bytes())))
        }
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
            let length = decode::read_bin_len(rest).map_err(|_| malformed())? as usize;
            Ok(Argument::Bytes(encoded.slice_ref(take(rest, length)?)))
        }
        _ => {
            let mut text = Vec::new();
            write_json(rest, &mut text, 0)?;
            Ok(Argument::Word(text.into()))
        }
    }
}

fn marker(rest: &[u8]) -> Result<Marker, Failure> {
    rest.first().map(|&byte| Marker::from_u8(byte)).ok_or_else(malformed)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Failure> {
    let (taken, after) = rest.split_at_checked(length).ok_or_else(malformed)?;
    *rest = after;
    Ok(taken)
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Failure> {
    let (text, after) = decode::read_str_from_slice(*rest).map_err(|_| malformed())?;
    *rest = after;
    Ok(text)
}

fn write_json(rest: &mut &[u8], out: &mut Vec<u8>, depth: usize) -> Result<(), Failure> {
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
            let length = decode::read_array_len(rest).map_err(|_| malformed())?;
            return write_list(rest, out, length, depth);
        }
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
            let length = decode::read_map_len(rest).map_err(|_| malformed())?;
            return write_map(rest, out, length, depth);
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

fn write_list(rest: &mut &[u8], out: &mut Vec<u8>, length: u32, depth: usize) -> Result<(), Failure> {
    out.push(b'[');
    for i in 0..length {
        if i > 0 {
            out.push(b',');
        }
        write_json(rest, out, depth + 1)?;
    }
    out.push(b']');
    Ok(())
}

fn write_map(rest: &mut &[u8], out: &mut Vec<u8>, length: u32, depth: usize) -> Result<(), Failure> {
    out.push(b'{');
    for i in 0..length {
        if i > 0 {
            out.push(b',');
        }
        put(out, text(rest).map_err(|_| invalid("the keys of a map have to be texts"))?);
        out.push(b':');
        write_json(rest, out, depth + 1)?;
    }
    out.push(b'}');
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

const IN_MEMORY: &str = "memory takes everything";

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
        json_result(json.as_bytes()).unwrap()
    }

    fn word(text: &str) -> Argument {
        Argument::Word(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn json_survives_the_way_to_messagepack_and_back() {
        for text in [
            "[]",
            r#"[1,-1,200,-200,70000,-70000,5000000000,18446744073709551615,-9223372036854775808]"#,
            r#"[1.5,-0.25,1e+300,true,false,null,"a\"\n\u0001ü",""]"#,
            r#"[{"b":[1,{"a":{}}],"a":2}]"#,
        ] {
            assert_eq!(String::from_utf8(json(&packed(text)).unwrap()).unwrap(), text);
        }
        assert_eq!(json(&packed("7")).unwrap(), b"[7]");
        let long = format!("[{}]", vec!["1"; 70_000].join(","));
        assert_eq!(json(&packed(&long)).unwrap(), long.as_bytes());
    }

    #[test]
    fn numbers_come_and_go_as_they_are_or_are_an_error() {
        for text in ["[18446744073709551616]", r#"{"a":[-9223372036854775809]}"#, "100000000000000000000", "1e400"] {
            assert!(json_result(text.as_bytes()).is_err(), "{text}");
        }
        let beyond = json_result(b"[18446744073709551616]").unwrap_err().to_string();
        assert_eq!(
            beyond,
            "JSON that can't be kept as it is: the integer 18446744073709551616 does not fit into 64 bits"
        );
        for kept in [r#"["18446744073709551616","\\",1.5]"#, "[-0.0,1e+20]"] {
            assert_eq!(String::from_utf8(json(&packed(kept)).unwrap()).unwrap(), kept);
        }
        let single = rmp_serde::to_vec(&[0.1_f32]).unwrap();
        assert_eq!(json(&single).unwrap(), b"[0.10000000149011612]");
        for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let body = Bytes::from(rmp_serde::to_vec(&[float]).unwrap());
            assert_eq!(json(&body).unwrap_err().to_string(), format!("invalid: {float} can't be written as JSON"));
            assert!(arguments(&body).is_err());
        }
    }

    #[test]
    fn no_line_end_of_any_reader_is_left_in_json() {
        for end in LINE_ENDS {
            let text = format!("a{end}b{end}");
            let body = rmp_serde::to_vec(&[[(&text, 1)]]).unwrap();
            let json = String::from_utf8(json(&body).unwrap()).unwrap();
            assert!(!json.contains(LINE_ENDS), "{json:?}");
            assert_eq!(serde_json::from_str::<[[(String, u8); 1]; 1]>(&json).unwrap()[0][0].0, text);
            assert_eq!(line_end(text.as_bytes()), Some(end));
        }
        assert_eq!(line_end("a b\tc\u{1f}\u{c5}…".as_bytes()), None);
        assert_eq!(line_end(b"caf\xe9\x85"), Some('\u{85}'));
    }

    #[test]
    fn texts_are_words_as_they_are_and_all_else_but_bytes_is_json() {
        let body = packed(r#"["a b", 1, 2.5, true, null, [1, "x"], {"k": 1}]"#);
        let words = ["a b", "1", "2.5", "true", "null", r#"[1,"x"]"#, r#"{"k":1}"#].map(word);
        assert_eq!(arguments(&body).unwrap(), words);
        assert_eq!(arguments(&packed("\"alone\"")).unwrap(), [word("alone")]);
        let bytes = Bytes::from_static(b"\x92\xc4\x02\xff\0\xa1x");
        assert_eq!(arguments(&bytes).unwrap(), [Argument::Bytes(Bytes::from_static(b"\xff\0")), word("x")]);
        assert_eq!(json(&bytes).unwrap_err().to_string(), "invalid: bytes can't be written as JSON");
    }

    #[test]
    fn garbage_is_refused_and_what_it_says_of_its_size_is_not_believed() {
        for garbage in [
            &b""[..],
            b"\x92\x01",
            b"\x91\x01\x01",
            b"\xdd\xff\xff\xff\xff\x01",
            b"\xdc\xff\xff\x01",
            b"\x91\xdb\xff\xff\xff\xffa",
            b"\x91\xc6\xff\xff\xff\xffa",
            b"\x91\xa2\xff\xff",
            b"\x91\xc1",
            b"\x91\x81\x01\x01",
            b"\x91\xd4\x01\x01",
        ] {
            let garbage = Bytes::from_static(garbage);
            assert_eq!(arguments(&garbage).unwrap_err().code, code::INVALID, "{garbage:?}");
            assert_eq!(json(&garbage).unwrap_err().code, code::INVALID, "{garbage:?}");
        }
        let deep = Bytes::from(vec![0x91; 100_000]);
        assert!(arguments(&deep).unwrap_err().message.contains("nested deeper"));
        assert!(json_result("[".repeat(100_000).as_bytes()).is_err());
        assert!(json_result(b"1 2").is_err());
        assert!(json_result(b"").is_err());
    }

    #[test]
    fn what_is_printed_is_a_text_or_bytes() {
        assert_eq!(result(b"ciao"), b"\xa4ciao"[..]);
        assert_eq!(result(b"\xff"), b"\xc4\x01\xff"[..]);
        assert_eq!(result(&vec![b'x'; 70_000])[..5], [0xdb, 0, 1, 0x11, 0x70]);
        assert_eq!(without_newline(b"a\n\n"), b"a\n");
        assert_eq!(without_newline(b"a"), b"a");
    }
}
