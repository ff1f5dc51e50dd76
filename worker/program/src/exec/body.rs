//! Bodies of requests and results in MessagePack: the arguments as words and bytes, and printed bytes
//! as a result. [`super::json`] has both as JSON.

use giostra_protocol::{Bytes, Failure};
use rmp::Marker;
use rmp::{decode, encode};

use super::json::write_json;
use super::msgpack::{IN_MEMORY, invalid, is_list, malformed, marker, take, text};

/// The most arguments of a request that become words. Linux accepts about as many short ones.
const MAX_WORDS: usize = 65_536;

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

/// Returns the bytes without a newline at their end.
pub fn without_newline(printed: &[u8]) -> &[u8] {
    printed.strip_suffix(b"\n").unwrap_or(printed)
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

#[cfg(test)]
mod tests {
    use giostra_protocol::code;

    use super::super::json::{from_arguments, to_result};
    use super::*;

    fn packed(json: &str) -> Bytes {
        to_result(json.as_bytes()).unwrap()
    }

    fn word(text: &str) -> Argument {
        Argument::Word(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn texts_are_words_as_they_are_and_all_else_but_bytes_is_json() {
        let body = packed(r#"["a b", 1, 2.5, true, null, [1, "x"], {"k": 1}]"#);
        let words = ["a b", "1", "2.5", "true", "null", r#"[1,"x"]"#, r#"{"k":1}"#].map(word);
        assert_eq!(arguments(&body).unwrap(), words);
        assert_eq!(arguments(&packed("\"alone\"")).unwrap(), [word("alone")]);
        let bytes = Bytes::from_static(b"\x92\xc4\x02\xff\0\xa1x");
        assert_eq!(arguments(&bytes).unwrap(), [Argument::Bytes(Bytes::from_static(b"\xff\0")), word("x")]);
        assert!(arguments(&Bytes::from_static(b"\x91\xcb\x7f\xf8\0\0\0\0\0\0")).is_err(), "NaN is no JSON");
        assert_eq!(from_arguments(&bytes).unwrap_err().to_string(), "invalid: bytes can't be written as JSON");
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
            assert_eq!(from_arguments(&garbage).unwrap_err().code, code::INVALID, "{garbage:?}");
        }
        let deep = Bytes::from(vec![0x91; 100_000]);
        assert!(arguments(&deep).unwrap_err().message.contains("nested deeper"));
        assert!(to_result("[".repeat(100_000).as_bytes()).is_err());
        assert!(to_result(b"1 2").is_err());
        assert!(to_result(b"").is_err());
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
