//! The operations of Giostra's own workers, and random requests with a check of their results.

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use giostra_protocol::Bytes;
use giostra_protocol::compute::Value;
use rand::RngExt;
use rand::rngs::StdRng;

/// The names of the operations, for completion.
pub const NAMES: [&str; 16] = [
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "sqrt",
    "gcd",
    "is_prime",
    "primes",
    "fib",
    "sleep",
    "echo",
    "somma",
    "sottrazione",
    "moltiplicazione",
    "divisione",
];

/// The parser of an operation's name. It accepts any name, because a pool may offer other operations;
/// the known ones are for completion.
#[derive(Clone, Copy, Debug)]
pub struct Operation;

impl TypedValueParser for Operation {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue>>> {
        Some(Box::new(NAMES.iter().map(PossibleValue::new)))
    }
}

/// The operations of random requests.
const ARITHMETIC: [&str; 4] = ["add", "sub", "mul", "div"];

/// A random request: an operation on two whole numbers from 1 to 50, as in the original system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    operation: &'static str,
    operands: [i64; 2],
}

impl Task {
    /// Draws the next task.
    pub fn draw(random: &mut StdRng) -> Self {
        let operation = ARITHMETIC[random.random_range(0..ARITHMETIC.len())];
        Self { operation, operands: [random.random_range(1..=50), random.random_range(1..=50)] }
    }

    /// Encodes the body of the request, without making a [`giostra_protocol::compute::Call`].
    pub fn to_body(self) -> Bytes {
        let mut body = Vec::with_capacity(16);
        rmp_serde::encode::write(&mut body, &(self.operation, self.operands)).expect("a Vec takes any number of bytes");
        body.into()
    }

    /// Returns whether the result is right, by a computation of its own.
    pub fn is_right(&self, result: &Value) -> bool {
        let [a, b] = self.operands;
        let whole = match self.operation {
            "add" => a + b,
            "sub" => a - b,
            "mul" => a * b,
            _ => return result.as_f64().is_some_and(|quotient| (quotient * b as f64 - a as f64).abs() < 1e-9),
        };
        *result == Value::Int(whole)
    }
}

#[cfg(test)]
mod tests {
    use giostra_protocol::compute::Call;
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_seed_draws_the_same_tasks_and_all_four_operations() {
        let draw = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            (0..100).map(|_| Task::draw(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        for operation in ARITHMETIC {
            assert!(draw(1).iter().any(|task| task.operation == operation));
        }
        assert!(draw(3).iter().flat_map(|task| task.operands).all(|operand| (1..=50).contains(&operand)));
    }

    #[test]
    fn a_task_is_a_call() {
        let task = Task { operation: "div", operands: [50, 1] };
        let call = Call { operation: "div".into(), arguments: vec![Value::Int(50), Value::Int(1)] };
        assert_eq!(task.to_body(), call.to_body());
    }

    #[test]
    fn a_wrong_result_is_seen() {
        let task = |operation| Task { operation, operands: [7, 2] };
        assert!(task("add").is_right(&Value::Int(9)));
        assert!(!task("add").is_right(&Value::Int(8)));
        assert!(!task("sub").is_right(&Value::Float(5.5)));
        assert!(task("mul").is_right(&Value::Int(14)));
        assert!(task("div").is_right(&Value::Float(3.5)));
        assert!(!task("div").is_right(&Value::Int(3)));
        assert!(!task("div").is_right(&Value::Bool(true)));
    }
}
