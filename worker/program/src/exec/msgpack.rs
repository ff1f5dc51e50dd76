//! Reads MessagePack value by value, with the replies to requests that can't be read.

use giostra_protocol::{Failure, code};
use rmp::Marker;
use rmp::decode;

/// Why writing can't fail.
pub const IN_MEMORY: &str = "memory takes everything";

/// Returns the reply to a request that makes no sense.
pub fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(code::INVALID, message)
}

/// Returns the reply to a request that is not in MessagePack, or not of the form it has to have.
pub fn malformed() -> Failure {
    invalid("a request is [operation, [argument, ..]] in MessagePack")
}

/// Whether the value is a list.
pub fn is_list(encoded: &[u8]) -> bool {
    let marker = encoded.first().map(|&byte| Marker::from_u8(byte));
    matches!(marker, Some(Marker::FixArray(_) | Marker::Array16 | Marker::Array32))
}

/// Returns the marker of the next value.
///
/// # Errors
/// If there is none.
pub fn marker(rest: &[u8]) -> Result<Marker, Failure> {
    rest.first().map(|&byte| Marker::from_u8(byte)).ok_or_else(malformed)
}

/// Takes bytes of this length.
///
/// # Errors
/// If there are fewer.
pub fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Failure> {
    let (taken, after) = rest.split_at_checked(length).ok_or_else(malformed)?;
    *rest = after;
    Ok(taken)
}

/// Takes a text.
///
/// # Errors
/// If the next value is none.
pub fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Failure> {
    let (text, after) = decode::read_str_from_slice(*rest).map_err(|_| malformed())?;
    *rest = after;
    Ok(text)
}
