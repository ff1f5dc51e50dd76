//! The request of a load, and the result that is expected.

use std::fmt;

use giostra_protocol::Bytes;
use giostra_protocol::compute::{Call, Value};

/// Two whole numbers that take nine bytes each, as their sum does.
const OPERANDS: [i64; 2] = [4_000_000_000_000_000_001, 5_000_000_000_000_000_002];

/// The bytes before the argument of an `echo`: the call, the operation's name, the list of one
/// argument.
const ECHO: &[u8] = b"\x92\xa4echo\x91";

/// The minimum size of an `echo`: that of an empty argument.
pub const MIN_SIZE: usize = ECHO.len() + 2;

/// The request that is sent over and over, and its result.
#[derive(Clone, Debug)]
pub struct Work {
    /// The operation's name.
    pub operation: &'static str,
    /// The body of the request.
    pub body: Bytes,
    /// The body of the result.
    pub expected: Bytes,
}

impl Work {
    /// Returns an addition.
    pub fn add() -> Self {
        let [a, b] = OPERANDS;
        let call = Call { operation: "add".into(), arguments: vec![Value::Int(a), Value::Int(b)] };
        Self { operation: "add", body: call.to_body(), expected: Value::Int(a + b).to_body() }
    }

    /// Returns an `echo` of that size, which is at least [`MIN_SIZE`].
    pub fn echo(size: usize) -> Self {
        let mut body = Vec::with_capacity(size);
        body.extend_from_slice(ECHO);
        // The shortest form that gives exactly the size. A longer form than necessary is valid, too.
        match size - ECHO.len() {
            rest @ ..=0x101 => body.extend([0xc4, (rest - 2) as u8]),
            rest @ ..=0x1_0002 => {
                body.push(0xc5);
                body.extend(((rest - 3) as u16).to_be_bytes());
            }
            rest => {
                body.push(0xc6);
                body.extend(((rest - 5) as u32).to_be_bytes());
            }
        }
        // Not constant, so that nothing on the way can compress it.
        let filling = (body.len()..size).map(|place| (place.wrapping_mul(0x9e37_79b9) >> 16) as u8);
        body.extend(filling);
        let body = Bytes::from(body);
        Self { operation: "echo", expected: body.slice(ECHO.len()..), body }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes a request", self.operation, self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_addition_has_24_bytes() {
        assert_eq!((Work::add().body.len(), Work::add().expected.len()), (24, 9));
    }

    #[test]
    fn an_echo_has_the_size_that_was_asked_for_and_its_bytes_come_back() {
        for size in [MIN_SIZE, 32, 263, 264, 265, 266, 1024, 65_545, 65_546, 65_547, 65_548, 1 << 20] {
            let Work { body, expected, .. } = Work::echo(size);
            assert_eq!(body.len(), size);
            let (name, arguments): (String, Vec<rmp_serde::Raw>) = rmp_serde::from_slice(&body).unwrap();
            assert_eq!((&*name, arguments.len()), ("echo", 1), "{size}");
            let _: serde::de::IgnoredAny = rmp_serde::from_slice(&expected).unwrap();
            assert_ne!(Work::add().expected, expected);
        }
    }
}
