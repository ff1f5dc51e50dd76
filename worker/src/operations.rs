//! Services: what a worker computes. [`Operations`] is a service of functions that are called by
//! name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;

use giostra_protocol::compute::{Value, read};
use giostra_protocol::{Bytes, Failure, code};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Job;

/// A service computes requests: bytes in, bytes out.
///
/// ```
/// use giostra_worker::{Bytes, Failure, Job, Service};
///
/// struct Reverse;
///
/// impl Service for Reverse {
///     fn operations(&self) -> Vec<String> {
///         vec!["reverse".into()]
///     }
///
///     fn compute(&self, body: &Bytes, _: &Job<'_>) -> Result<Bytes, Failure> {
///         Ok(body.iter().rev().copied().collect::<Vec<_>>().into())
///     }
/// }
///
/// assert_eq!(Reverse.compute(&Bytes::from_static(b"abc"), &Job::alone()).unwrap(), b"cba"[..]);
/// ```
pub trait Service: Send + Sync + 'static {
    /// Returns the names of the operations, for people.
    fn operations(&self) -> Vec<String>;

    /// Computes the result of a request. Several threads may call it at once. A panic becomes an
    /// error reply.
    ///
    /// A computation that takes longer than a second or so should ask the job from time to time
    /// whether it was cancelled.
    ///
    /// # Errors
    /// A failure is the reply to the request, except for one with the code [`code::UNABLE`]: it
    /// says that nothing can be computed for now, whatever the request. The worker hands this
    /// request back, and all that it has not begun, and takes none for a second; for longer, up to
    /// 30 s, each time that this happens again before anything was computed.
    fn compute(&self, body: &Bytes, job: &Job<'_>) -> Result<Bytes, Failure>;

    /// Whether it is worth trying again after [`code::UNABLE`]. The worker asks before it takes
    /// requests again, and then once a second.
    ///
    /// # Errors
    /// The reason why not.
    fn is_able(&self) -> Result<(), String> {
        Ok(())
    }
}

/// An operation, by the form in which it takes its arguments.
enum Operation {
    /// Decoded, which may take many times their bytes.
    Decoded(Function<[u8]>),
    /// As they are.
    Encoded(Function<Bytes>),
}

type Function<A> = Box<dyn Fn(&A, &Job<'_>) -> Result<Bytes, Failure> + Send + Sync>;

/// A [`Service`] of functions, called by name.
#[derive(Default)]
pub struct Operations {
    table: BTreeMap<String, Operation>,
    aliases: BTreeMap<String, String>,
    max_bytes: Option<usize>,
}

impl Operations {
    /// Creates a service without operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most bytes of a request whose arguments are decoded, which may take many times as
    /// much memory. A larger one is answered with an error.
    #[must_use]
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes: Some(max_bytes), ..self }
    }

    /// Adds an operation. Its arguments are any type that `serde` can read, such as a tuple, a
    /// struct, a list; its result is any type that `serde` can write.
    ///
    /// Arguments that can't be read as `A` are answered with an error. Three forms are read besides
    /// the exact one, since a command line sends a list of texts: a list of one stands for its
    /// element, an empty list for `()`, and a text in a list for the number that it spells, such as
    /// `007` and `1.10`.
    ///
    /// The error of the operation is a sentence, any [`Error`], or a [`Failure`] with a code of its
    /// own. Codes that only the broker and the client's side use (`expired`, `poison`, `no-worker`,
    /// `cancelled`, `no-broker`, `refused`, `interrupted`) become `failed`. A failure with the code
    /// [`code::UNABLE`] is no reply: the request goes to another worker ([`Service::compute`]).
    #[must_use]
    pub fn with<A, R, E>(self, name: &str, f: impl Fn(A) -> Result<R, E> + Send + Sync + 'static) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.with_job(name, move |arguments, _| f(arguments))
    }

    /// Adds an operation that takes long, as [`Self::with`] does: through its [`Job`] it reports
    /// progress and learns that it was cancelled.
    #[must_use]
    pub fn with_job<A, R, E>(
        mut self,
        name: &str,
        f: impl Fn(A, &Job<'_>) -> Result<R, E> + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let named = name.to_string();
        let operation = move |encoded: &[u8], job: &Job<'_>| {
            let arguments =
                arguments(encoded).map_err(|error| invalid(format!("{named}: wrong arguments: {error}")))?;
            encode(&f(arguments, job).map_err(failure)?)
                .map_err(|error| Failure::new(code::FAILED, format!("{named}: the result can't be encoded: {error}")))
        };
        self.table.insert(name.into(), Operation::Decoded(Box::new(operation)));
        self
    }

    /// Adds an operation that takes its arguments encoded in MessagePack and returns its result so.
    /// The result may be a part of the arguments without a copy: see [`Bytes::slice`].
    #[must_use]
    pub fn with_encoded(
        mut self,
        name: &str,
        f: impl Fn(&Bytes) -> Result<Bytes, Failure> + Send + Sync + 'static,
    ) -> Self {
        self.table.insert(name.into(), Operation::Encoded(Box::new(move |arguments, _| f(arguments))));
        self
    }

    /// Adds another name for an operation, which is not listed. An operation of that name comes
    /// first.
    #[must_use]
    pub fn alias(mut self, alias: &str, name: &str) -> Self {
        self.aliases.insert(alias.into(), name.into());
        self
    }

    fn find(&self, name: &str) -> Option<&Operation> {
        self.table.get(name).or_else(|| self.table.get(self.aliases.get(name)?))
    }
}

impl Service for Operations {
    fn operations(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    fn compute(&self, body: &Bytes, job: &Job<'_>) -> Result<Bytes, Failure> {
        let call = split_request(body).map(|(name, arguments)| (name, arguments, self.find(name)));
        if let Some((_, arguments, Some(Operation::Encoded(operation)))) = call {
            return operation(&body.slice_ref(arguments), job);
        }
        if let Some(max_bytes) = self.max_bytes.filter(|&max_bytes| body.len() > max_bytes) {
            return Err(invalid(format!("the request has {} bytes; this pool takes {max_bytes} at most", body.len())));
        }
        match call {
            Some((_, arguments, Some(Operation::Decoded(operation)))) => operation(arguments, job),
            Some((name, ..)) => {
                let offered: Vec<_> = self.table.keys().map(String::as_str).collect();
                Err(invalid(format!("unknown operation '{name}'; this pool offers {}", offered.join(", "))))
            }
            None => Err(invalid("a request is [operation, arguments]".into())),
        }
    }
}

/// Results of fewer bytes are copied out of the thread's buffer, which is used again.
const COPY_BELOW: usize = 4 << 10;

thread_local! {
    /// The buffer in which this thread's results are encoded.
    static RESULT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn encode(result: &impl Serialize) -> Result<Bytes, rmp_serde::encode::Error> {
    RESULT.with_borrow_mut(|encoded| {
        // A result whose encoding failed or panicked has left its beginning here.
        encoded.clear();
        // Structs with the names of their fields: a reader need not be Rust, and a field that is left out
        // shifts no other.
        rmp_serde::encode::write_named(encoded, result)?;
        Ok(if encoded.len() < COPY_BELOW { Bytes::copy_from_slice(encoded) } else { std::mem::take(encoded).into() })
    })
}

fn arguments<A: DeserializeOwned>(encoded: &[u8]) -> Result<A, rmp_serde::decode::Error> {
    read_either(encoded).or_else(|error| match numbers(encoded) {
        Some(numbers) => read_either(&numbers).map_err(|_| error),
        None => Err(error),
    })
}

/// Reads the arguments as they are or, if there is one, that one.
fn read_either<A: DeserializeOwned>(arguments: &[u8]) -> Result<A, rmp_serde::decode::Error> {
    read(arguments).or_else(|error| {
        let other = match arguments {
            // An empty list: nil.
            [0x90] => read(&[0xc0]),
            [0x91, one @ ..] => read(one),
            _ => return Err(error),
        };
        other.map_err(|_| error)
    })
}

/// The most bytes of arguments that are searched for numbers spelled as texts. More come from no
/// command line, and decoded they would take many times as much memory.
const MAX_WORDS: usize = 256 << 10;

/// Returns the arguments with numbers in place of the texts that spell them, if there are any.
fn numbers(arguments: &[u8]) -> Option<Vec<u8>> {
    if arguments.len() > MAX_WORDS {
        return None;
    }
    let mut values: Vec<Value> = read(arguments).ok()?;
    let mut any = false;
    for value in &mut values {
        if let Value::Text(text) = value
            && let Some(number) = Value::number(text)
        {
            (*value, any) = (number, true);
        }
    }
    any.then(|| rmp_serde::to_vec(&values).ok()).flatten()
}

/// Returns an error as a failure: unchanged if it is one, or else with its causes.
fn failure(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    error.into().downcast().map_or_else(
        |error| {
            let mut message = error.to_string();
            let causes = std::iter::successors(error.source(), |&error| error.source());
            causes.for_each(|cause| message.push_str(&format!(": {cause}")));
            Failure::new(code::FAILED, message)
        },
        |failure| *failure,
    )
}

/// Splits a request's body `[operation, arguments]` into the operation's name and the encoded
/// arguments. Returns `None` for any other body.
pub fn split_request(mut body: &[u8]) -> Option<(&str, &[u8])> {
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
    use anyhow::Context;
    use serde::Deserialize;

    use super::*;

    #[test]
    fn operations_are_called_by_name_and_errors_say_what_to_do() {
        let operations = Operations::new()
            .with("shout", |(text,): (String,)| Ok::<_, Failure>(text.to_uppercase()))
            .with("fail", |(): ()| Err::<(), _>("on purpose"))
            .max_bytes(100);
        let call = |body: &[u8]| operations.compute(&Bytes::copy_from_slice(body), &Job::alone());
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
    fn arguments_and_errors_may_have_several_forms() {
        let operations = Operations::new()
            .with("twice", |n: u64| Ok::<_, Failure>(2 * n))
            .with("now", |(): ()| Ok::<_, Failure>("now"))
            .with("sum", |numbers: Vec<i64>| Ok::<_, Failure>(numbers.iter().sum::<i64>()))
            .with("parse", |text: String| text.parse::<i64>())
            .with("read", |path: String| std::fs::read_to_string(&path).with_context(|| format!("can't read {path}")))
            .with("own", |(): ()| Err::<(), _>(Failure::new("no-luck", "try again")));
        let compute = |body: Vec<u8>| operations.compute(&body.into(), &Job::alone());
        let call = |name: &str, arguments: &[i64]| compute(rmp_serde::to_vec(&(name, arguments)).unwrap());
        let say = |name: &str, text: &str| compute(rmp_serde::to_vec(&(name, [text])).unwrap());
        assert_eq!(call("twice", &[21]).unwrap(), [42][..]);
        assert_eq!(compute(rmp_serde::to_vec(&("twice", 21)).unwrap()).unwrap(), [42][..]);
        assert_eq!(call("twice", &[1, 2]).unwrap_err().code, code::INVALID);
        assert_eq!(call("twice", &[-1]).unwrap_err().code, code::INVALID);
        assert_eq!(call("now", &[]).unwrap(), b"\xa3now"[..]);
        assert_eq!(call("sum", &[3]).unwrap(), [3][..]);
        assert_eq!(call("sum", &[]).unwrap(), [0][..]);
        // A command line sends numbers as texts where they would print otherwise.
        assert_eq!(say("twice", "021").unwrap(), [42][..]);
        let words = rmp_serde::to_vec(&("sum", ("007", 1, "+2"))).unwrap();
        assert_eq!(compute(words).unwrap(), [10][..]);
        assert_eq!(say("twice", "1.10").unwrap_err().code, code::INVALID);
        assert_eq!(say("parse", "007").unwrap(), [7][..]);
        assert_eq!(say("parse", "x").unwrap_err().to_string(), "failed: invalid digit found in string");
        let unread = say("read", "/nonexistent").unwrap_err().to_string();
        assert!(unread.starts_with("failed: can't read /nonexistent: No such file"), "{unread}");
        assert_eq!(call("own", &[]).unwrap_err().to_string(), "no-luck: try again");
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Point {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        name: Option<String>,
        x: i64,
        y: i64,
    }

    #[test]
    fn structs_are_read_by_name_or_place_and_written_by_name() {
        let operations =
            Operations::new().with("mirror", |point: Point| Ok::<_, Failure>(Point { x: -point.x, ..point }));
        let compute = |body: Vec<u8>| operations.compute(&body.into(), &Job::alone());
        let point = Point { name: None, x: 1, y: 2 };
        let mirrored = Point { name: None, x: -1, y: 2 };
        let named = compute(rmp_serde::to_vec_named(&("mirror", &point)).unwrap()).unwrap();
        assert_eq!(rmp_serde::from_slice::<Point>(&named).unwrap(), mirrored);
        assert_eq!(Value::from_body(&named).unwrap().to_string(), r#"{"x":-1,"y":2}"#);
        for placed in [rmp_serde::to_vec(&("mirror", (Some("p"), 1, 2))), rmp_serde::to_vec(&("mirror", [("p", 1, 2)]))]
        {
            let named = compute(placed.unwrap()).unwrap();
            assert_eq!(Value::from_body(&named).unwrap().to_string(), r#"{"name":"p","x":-1,"y":2}"#);
        }
    }

    #[test]
    fn encoded_arguments_are_not_copied_and_may_be_large() {
        let operations = Operations::new().with_encoded("same", |arguments| Ok(arguments.clone())).max_bytes(10);
        let body = Bytes::from(rmp_serde::to_vec(&("same", "x".repeat(1000))).unwrap());
        let result = operations.compute(&body, &Job::alone()).unwrap();
        assert_eq!(result.as_ptr_range().end, body.as_ptr_range().end);
        assert_eq!(result, body.slice(6..));
        let other = Bytes::from(rmp_serde::to_vec(&("other", "x".repeat(1000))).unwrap());
        assert!(operations.compute(&other, &Job::alone()).unwrap_err().to_string().contains("takes 10 at most"));
    }
}
