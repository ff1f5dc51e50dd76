//! Operations by name: bytes in, bytes out.

use std::collections::BTreeMap;

use giostra_common::Bytes;
use giostra_common::protocol::{Failure, code};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a worker computes.
pub trait Service: Send + Sync + 'static {
    /// The names of the operations, for people.
    fn operations(&self) -> Vec<String>;

    /// Computes the result of a request. May be called by several threads at once; a panic becomes an error reply.
    fn compute(&self, body: &Bytes) -> Result<Bytes, Failure>;
}

/// How an operation wants its arguments.
enum Operation {
    /// When it decodes them, which may take many times their bytes.
    Decoded(Function<[u8]>),
    /// When it takes them as they are.
    Encoded(Function<Bytes>),
}

type Function<A> = Box<dyn Fn(&A) -> Result<Bytes, Failure> + Send + Sync>;

/// A [`Service`] of functions, called by name.
pub struct Operations {
    table: BTreeMap<String, Operation>,
    max_bytes: usize,
}

impl Default for Operations {
    fn default() -> Self {
        Self { table: BTreeMap::new(), max_bytes: usize::MAX }
    }
}

impl Operations {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers requests of more than so many bytes with an error: decoded, they may take many times as much memory. Those that
    /// are not decoded ([`Self::with_encoded`]) may be larger.
    #[must_use]
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// Adds an operation. Arguments that can't be read as `A` are answered with an error.
    #[must_use]
    pub fn with<A, R>(mut self, name: &str, f: impl Fn(A) -> Result<R, Failure> + Send + Sync + 'static) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        let named = name.to_string();
        let operation = move |arguments: &[u8]| {
            let arguments = rmp_serde::from_slice(arguments)
                .map_err(|error| invalid(format!("{named}: wrong arguments: {error}")))?;
            let result = f(arguments)?;
            rmp_serde::to_vec(&result)
                .map(Bytes::from)
                .map_err(|error| Failure::new(code::FAILED, format!("{named}: the result can't be encoded: {error}")))
        };
        self.table.insert(name.into(), Operation::Decoded(Box::new(operation)));
        self
    }

    /// Adds an operation on its arguments as they are encoded, whose result is encoded, too. Its arguments, or a part of them,
    /// may be the result without a copy: see [`Bytes::slice`].
    #[must_use]
    pub fn with_encoded(
        mut self,
        name: &str,
        f: impl Fn(&Bytes) -> Result<Bytes, Failure> + Send + Sync + 'static,
    ) -> Self {
        self.table.insert(name.into(), Operation::Encoded(Box::new(f)));
        self
    }
}

impl Service for Operations {
    fn operations(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    fn compute(&self, body: &Bytes) -> Result<Bytes, Failure> {
        let call = split(body).map(|(name, arguments)| (name, arguments, self.table.get(name)));
        if let Some((_, arguments, Some(Operation::Encoded(operation)))) = call {
            return operation(&body.slice_ref(arguments));
        }
        if body.len() > self.max_bytes {
            let (bytes, most) = (body.len(), self.max_bytes);
            return Err(invalid(format!("the request has {bytes} bytes; this pool takes {most} at most")));
        }
        match call {
            Some((_, arguments, Some(Operation::Decoded(operation)))) => operation(arguments),
            Some((name, ..)) => {
                let offered: Vec<_> = self.table.keys().map(String::as_str).collect();
                Err(invalid(format!("unknown operation '{name}'; this pool offers {}", offered.join(", "))))
            }
            None => Err(invalid("a request is [operation, arguments]".into())),
        }
    }
}

/// The name and the encoded arguments of `[name, arguments]`.
fn split(mut body: &[u8]) -> Option<(&str, &[u8])> {
    if rmp::decode::read_array_len(&mut body).ok()? != 2 {
        return None;
    }
    rmp::decode::read_str_from_slice(body).ok()
}

fn invalid(message: String) -> Failure {
    Failure::new(code::INVALID, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_called_by_name_and_errors_say_what_to_do() {
        let operations = Operations::new()
            .with("shout", |(text,): (String,)| Ok(text.to_uppercase()))
            .with("fail", |(): ()| Err::<(), _>("on purpose".into()))
            .max_bytes(100);
        let call = |body: &[u8]| operations.compute(&Bytes::copy_from_slice(body));
        let body = |name: &str, arguments: &[&str]| rmp_serde::to_vec(&(name, arguments)).unwrap();

        assert_eq!(call(&body("shout", &["ciao"])).unwrap(), rmp_serde::to_vec("CIAO").unwrap());
        let unknown = call(&body("whisper", &[])).unwrap_err();
        assert_eq!(unknown.to_string(), "invalid: unknown operation 'whisper'; this pool offers fail, shout");
        assert_eq!(call(&body("shout", &[])).unwrap_err().code, code::INVALID);
        assert_eq!(call(&body("shout", &["a", "b"])).unwrap_err().code, code::INVALID);
        for garbage in [&b""[..], b"\x92", b"\x92\xa5sho", b"\xc1", b"\x91\xa5shout", b"\x92\xa5shout"] {
            assert_eq!(call(garbage).unwrap_err().code, code::INVALID, "{garbage:?}");
        }
        let long = call(&body("shout", &["x".repeat(100).as_str()])).unwrap_err();
        assert_eq!(long.to_string(), "invalid: the request has 110 bytes; this pool takes 100 at most");
        let failed = call(&rmp_serde::to_vec(&("fail", ())).unwrap()).unwrap_err();
        assert_eq!(failed.to_string(), "failed: on purpose");
    }

    #[test]
    fn what_is_not_decoded_is_not_copied_and_may_be_large() {
        let operations = Operations::new().with_encoded("same", |arguments| Ok(arguments.clone())).max_bytes(10);
        let body = Bytes::from(rmp_serde::to_vec(&("same", "x".repeat(1000))).unwrap());
        let result = operations.compute(&body).unwrap();
        assert_eq!(result.as_ptr_range().end, body.as_ptr_range().end);
        assert_eq!(result, body.slice(6..));
        let other = Bytes::from(rmp_serde::to_vec(&("other", "x".repeat(1000))).unwrap());
        assert!(operations.compute(&other).unwrap_err().to_string().contains("takes 10 at most"));
    }
}
