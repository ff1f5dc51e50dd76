//! Typed calls: arguments and results are whatever `serde` can write and read.

use std::time::Duration;

use giostra_protocol::{Bytes, Outcome};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{CallError, Client};

/// Returns the body of a request: `[operation, arguments]` in MessagePack. Structs are written as
/// maps with the names of their fields.
///
/// The workers that come with Giostra, and those built on `giostra-worker`, read such bodies.
///
/// # Errors
/// [`CallError::Encode`] if the arguments can't be written.
///
/// ```
/// # use giostra_client::{Outcome, body, result};
/// # fn main() -> Result<(), giostra_client::CallError> {
/// assert_eq!(body("add", &(1, 2))?[..], *b"\x92\xa3add\x92\x01\x02");
/// // A result is plain MessagePack.
/// assert_eq!(result::<i64>(Outcome::Ok(b"\x03"[..].to_vec().into()))?, 3);
/// # Ok(())
/// # }
/// ```
pub fn body(operation: &str, arguments: &impl Serialize) -> Result<Bytes, CallError> {
    match rmp_serde::to_vec_named(&(operation, arguments)) {
        Ok(body) => Ok(body.into()),
        Err(error) => Err(CallError::Encode(error.to_string())),
    }
}

/// Returns the result in a reply's outcome.
///
/// # Errors
/// [`CallError::Failed`] if the request failed, [`CallError::Decode`] if the result is not of this
/// type.
pub fn result<R: DeserializeOwned>(outcome: Outcome) -> Result<R, CallError> {
    match outcome {
        Outcome::Ok(body) => decode(&body),
        Outcome::Error(failure) => Err(failure.into()),
    }
}

pub(crate) fn decode<R: DeserializeOwned>(body: &[u8]) -> Result<R, CallError> {
    rmp_serde::from_slice(body).map_err(|error| CallError::Decode(error.to_string()))
}

impl Client {
    /// Calls an operation and waits for its result. Replies to other requests are kept for later.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use giostra_client::{Client, Options};
    /// let mut client = Client::connect(Options::new("tcp://127.0.0.1:5555"))?;
    /// let sum: i64 = client.compute("add", &(1, 2))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn compute<R: DeserializeOwned>(
        &mut self,
        operation: &str,
        arguments: &impl Serialize,
    ) -> Result<R, CallError> {
        result(self.call(body(operation, arguments)?, None)?.outcome)
    }

    /// Calls an operation with a time limit, after which it fails with the code `expired`, or
    /// `no-broker` if none was there.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use giostra_client::{CallError, Client, code};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut client = Client::connect(Default::default())?;
    /// match client.compute_within::<f64>("sleep", &[60], Duration::from_secs(1)) {
    ///     Err(CallError::Failed(failure)) if failure.code == code::EXPIRED => println!("too slow"),
    ///     other => println!("slept for {} s", other?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn compute_within<R: DeserializeOwned>(
        &mut self,
        operation: &str,
        arguments: &impl Serialize,
        timeout: Duration,
    ) -> Result<R, CallError> {
        result(self.call(body(operation, arguments)?, Some(timeout))?.outcome)
    }
}

#[cfg(test)]
mod tests {
    use giostra_protocol::Failure;
    use giostra_protocol::compute::{Call, Value};

    use super::*;

    struct Unwritable;

    impl Serialize for Unwritable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it has no form"))
        }
    }

    #[test]
    fn a_typed_call_has_the_body_that_the_ready_worker_reads() {
        let call = Call { operation: "add".into(), arguments: vec![Value::Int(1), Value::Float(2.5)] };
        assert_eq!(body("add", &(1, 2.5)).unwrap(), call.to_body());
        assert_eq!(result::<i64>(Outcome::Ok(Value::Int(3).to_body())).unwrap(), 3);
        let list = Value::List(vec![Value::Int(2), Value::Int(3)]);
        assert_eq!(result::<Vec<i64>>(Outcome::Ok(list.to_body())).unwrap(), [2, 3]);
    }

    #[test]
    fn structs_are_written_with_the_names_of_their_fields_and_read_with_or_without_them() {
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        struct Point {
            x: i64,
            y: i64,
        }
        let call = Call::from_body(&body("mirror", &[Point { x: 1, y: 2 }]).unwrap()).unwrap();
        assert_eq!(call.arguments[0].to_string(), r#"{"x":1,"y":2}"#);
        for written in [rmp_serde::to_vec(&Point { x: 1, y: 2 }), rmp_serde::to_vec_named(&Point { x: 1, y: 2 })] {
            let read: Point = result(Outcome::Ok(written.unwrap().into())).unwrap();
            assert_eq!(read, Point { x: 1, y: 2 });
        }
    }

    #[test]
    fn a_failed_call_a_wrong_type_and_unwritable_arguments_are_different_errors() {
        let failed = result::<bool>(Outcome::Error(Failure::from("division by zero"))).unwrap_err();
        assert_eq!(failed.to_string(), "failed: division by zero");
        let other = result::<bool>(Outcome::Ok(Value::Int(3).to_body())).unwrap_err();
        assert!(matches!(other, CallError::Decode(_)), "{other}");
        assert!(matches!(body("op", &Unwritable), Err(CallError::Encode(_))));
    }
}
