//! Calls of operations with arguments and results of Rust's types: what `serde` can write, and what
//! it can read.

use std::time::Duration;

use giostra_protocol::{Bytes, Failure, Outcome};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::{Client, Error};

/// Why a call has no result.
#[derive(Debug, Error)]
pub enum CallError {
    /// When the client can't go on.
    #[error(transparent)]
    Client(#[from] Error),
    /// When the request ended without a result: the operation failed, its time limit passed, there
    /// was no broker ..
    #[error(transparent)]
    Failure(#[from] Failure),
    /// When the arguments can't be written in MessagePack.
    #[error("the arguments can't be encoded: {0}")]
    Arguments(#[from] rmp_serde::encode::Error),
    /// When there is a result, but not of the type that was asked for.
    #[error("the result is not of that type: {0}")]
    Result(#[from] rmp_serde::decode::Error),
}

/// The body of a request: `[operation, arguments]` in MessagePack, structs with the names of their
/// fields.
///
/// The arguments are a tuple, an array or a list for the ready worker; other workers may take
/// others.
pub fn body(operation: &str, arguments: &impl Serialize) -> Result<Bytes, CallError> {
    Ok(rmp_serde::to_vec_named(&(operation, arguments))?.into())
}

/// The result in a reply.
pub fn result<R: DeserializeOwned>(outcome: Outcome) -> Result<R, CallError> {
    match outcome {
        Outcome::Ok(body) => Ok(rmp_serde::from_slice(&body)?),
        Outcome::Error(failure) => Err(failure.into()),
    }
}

impl Client {
    /// Has an operation computed, and waits for its result. Replies to other requests are left for
    /// later.
    pub fn compute<R: DeserializeOwned>(
        &mut self,
        operation: &str,
        arguments: &impl Serialize,
    ) -> Result<R, CallError> {
        result(self.call(body(operation, arguments)?, None)?.outcome)
    }

    /// The same; after `timeout` it fails with the code `expired` (or `no-broker`).
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
    use giostra_protocol::compute::{Call, Value};

    use super::*;

    #[test]
    fn a_typed_call_is_the_ready_workers_call() {
        let call = Call { operation: "add".into(), arguments: vec![Value::Int(1), Value::Float(2.5)] };
        assert_eq!(body("add", &(1, 2.5)).unwrap(), call.to_body());
        assert_eq!(result::<i64>(Outcome::Ok(Value::Int(3).to_body())).unwrap(), 3);
        let list = Value::List(vec![Value::Int(2), Value::Int(3)]);
        assert_eq!(result::<Vec<i64>>(Outcome::Ok(list.to_body())).unwrap(), [2, 3]);
    }

    #[test]
    fn structs_go_with_the_names_of_their_fields_and_come_with_or_without() {
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
    fn a_failure_and_a_result_of_another_type_are_told_apart() {
        let failed = result::<bool>(Outcome::Error(Failure::from("division by zero"))).unwrap_err();
        assert_eq!(failed.to_string(), "failed: division by zero");
        let other = result::<bool>(Outcome::Ok(Value::Int(3).to_body())).unwrap_err();
        assert!(matches!(other, CallError::Result(_)), "{other}");
    }
}
