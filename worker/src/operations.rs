//! Operations by name: bytes in, bytes out.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;

use giostra_protocol::compute::{Value, read};
use giostra_protocol::{Bytes, Failure, code};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Job;

/// What a worker computes.
pub trait Service: Send + Sync + 'static {
    /// The names of the operations, for people.
    fn operations(&self) -> Vec<String>;

    /// Computes the result of a request. May be called by several threads at once; a panic becomes
    /// an error reply.
    ///
    /// What takes longer than a second or so should look at the job from time to time.
    ///
    /// A failure with the code [`code::UNABLE`] is no answer: it says that nothing can be computed
    /// for now, whatever the request. The worker hands this request back, and all that it has
    /// not begun, and takes none for a second; for longer, up to 30 s, each time that this
    /// happens again before anything was computed.
    fn compute(&self, body: &Bytes, job: &Job<'_>) -> Result<Bytes, Failure>;

    /// Whether it is worth trying again after [`code::UNABLE`]. Asked before the worker takes
    /// requests again, and then once a second; the error says why not.
    fn is_able(&self) -> Result<(), String> {
        Ok(())
    }
}

/// How an operation wants its arguments.
enum Operation {
    /// When it decodes them, which may take many times their bytes.
    Decoded(Function<[u8]>),
    /// When it takes them as they are.
    Encoded(Function<Bytes>),
}

type Function<A> = Box<dyn Fn(&A, &Job<'_>) -> Result<Bytes, Failure> + Send + Sync>;

/// A [`Service`] of functions, called by name.
pub struct Operations {
    table: BTreeMap<String, Operation>,
    /// Other names, which are not listed.
    aliases: BTreeMap<String, String>,
    max_bytes: usize,
}

impl Default for Operations {
    fn default() -> Self {
        Self { table: BTreeMap::new(), aliases: BTreeMap::new(), max_bytes: usize::MAX }
    }
}

impl Operations {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers requests of more than so many bytes with an error: decoded, they may take many times
    /// as much memory. Those that are not decoded ([`Self::with_encoded`]) may be larger.
    #[must_use]
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// Adds an operation. Its arguments are whatever `serde` can read: a tuple, a struct, a list.
    /// Those that can't be read as `A` are answered with an error; of a list of one, that one
    /// may be meant, and of an empty list nothing, `()`; and a text in a list may mean the
    /// number that it says, since a command line sends `007` and `1.10` as they are.
    ///
    /// Its error may be a sentence, any [`Error`], or a [`Failure`] with a code of its own. The
    /// codes of the broker and of the client's side (`expired`, `poison`, `no-worker`,
    /// `cancelled`, `no-broker`, `refused`, `interrupted`) become `failed`.
    /// With [`code::UNABLE`] it is no answer: the request goes to another worker
    /// ([`Service::compute`]).
    #[must_use]
    pub fn with<A, R, E>(self, name: &str, f: impl Fn(A) -> Result<R, E> + Send + Sync + 'static) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.with_job(name, move |arguments, _| f(arguments))
    }

    /// The same of an operation that takes long: it can tell how far it is, and learn that nobody
    /// waits for it any more.
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

    /// Adds an operation on its arguments as they are encoded, whose result is encoded, too. Its
    /// arguments, or a part of them, may be the result without a copy: see [`Bytes::slice`].
    #[must_use]
    pub fn with_encoded(
        mut self,
        name: &str,
        f: impl Fn(&Bytes) -> Result<Bytes, Failure> + Send + Sync + 'static,
    ) -> Self {
        self.table.insert(name.into(), Operation::Encoded(Box::new(move |arguments, _| f(arguments))));
        self
    }
}

impl Operations {
    /// Gives an operation another name, which is not listed. An operation of that name goes first.
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
        if body.len() > self.max_bytes {
            let (bytes, most) = (body.len(), self.max_bytes);
            return Err(invalid(format!("the request has {bytes} bytes; this pool takes {most} at most")));
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

/// A result of fewer bytes is copied out of the buffer that it was encoded in, which serves the
/// next one, too.
const COPIED: usize = 4 << 10;

thread_local! {
    /// Where this thread's results are encoded.
    static RESULT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn encode(result: &impl Serialize) -> Result<Bytes, rmp_serde::encode::Error> {
    RESULT.with_borrow_mut(|encoded| {
        // Left by one whose encoding failed or panicked.
        encoded.clear();
        // Structs with the names of their fields: whoever reads it need not be Rust, and a field that is
        // left out shifts no other.
        rmp_serde::encode::write_named(encoded, result)?;
        Ok(if encoded.len() < COPIED { Bytes::copy_from_slice(encoded) } else { std::mem::take(encoded).into() })
    })
}

fn arguments<A: DeserializeOwned>(encoded: &[u8]) -> Result<A, rmp_serde::decode::Error> {
    read_either(encoded).or_else(|error| match numbers(encoded) {
        Some(numbers) => read_either(&numbers).map_err(|_| error),
        None => Err(error),
    })
}

/// The arguments as they are, or the only one of them.
fn read_either<A: DeserializeOwned>(arguments: &[u8]) -> Result<A, rmp_serde::decode::Error> {
    read(arguments).or_else(|error| {
        let other = match arguments {
            // Nothing, from an empty list.
            [0x90] => read(&[0xc0]),
            [0x91, one @ ..] => read(one),
            _ => return Err(error),
        };
        other.map_err(|_| error)
    })
}

/// What is longer is no command line's, and would take many times its bytes.
const MOST_WORDS: usize = 256 << 10;

/// A list of arguments with the numbers that texts say in their place, if there are any.
fn numbers(arguments: &[u8]) -> Option<Vec<u8>> {
    if arguments.len() > MOST_WORDS {
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

/// With its causes, if it is not one already.
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

/// The operation's name and the encoded arguments of a request's body, `[name, arguments]`; `None`
/// if it is something else.
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
    fn arguments_and_errors_may_be_what_is_handy() {
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
        // A command line sends them as texts if numbers would print otherwise.
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

    /// A point, as Rust's programs have them.
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
    fn what_is_not_decoded_is_not_copied_and_may_be_large() {
        let operations = Operations::new().with_encoded("same", |arguments| Ok(arguments.clone())).max_bytes(10);
        let body = Bytes::from(rmp_serde::to_vec(&("same", "x".repeat(1000))).unwrap());
        let result = operations.compute(&body, &Job::alone()).unwrap();
        assert_eq!(result.as_ptr_range().end, body.as_ptr_range().end);
        assert_eq!(result, body.slice(6..));
        let other = Bytes::from(rmp_serde::to_vec(&("other", "x".repeat(1000))).unwrap());
        assert!(operations.compute(&other, &Job::alone()).unwrap_err().to_string().contains("takes 10 at most"));
    }
}
