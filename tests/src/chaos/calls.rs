//! What the clients of a fault hunt ask for, and whether an answer is right.

use giostra_protocol::compute::{Call, Value};
use giostra_protocol::{Bytes, Outcome};
use giostra_worker::{Job, Operations, Service};
use giostra_worker_cli::compute;
use rand::RngExt;
use rand::rngs::StdRng;

/// The longest `sleep`, in seconds.
const NAP: f64 = 0.005;

/// A request.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its body.
    pub body: Bytes,
    /// What a `sleep` is to return: nobody needs to sleep here to know it.
    nap: Option<Value>,
}

impl Task {
    /// The next one: any of the ready worker's operations, some of them with arguments that make an
    /// error.
    pub fn draw(random: &mut StdRng) -> Self {
        const OPERATIONS: [&str; 12] = [
            "add",
            "sub",
            "mul",
            "div",
            "pow",
            "gcd",
            "sqrt",
            "is_prime",
            "primes",
            "fib",
            "sleep",
            "no-such-operation",
        ];
        let operation = match random.random_range(0..40) {
            n if n < OPERATIONS.len() => OPERATIONS[n],
            // Most are cheap, and have results that tell one request from the other.
            n => OPERATIONS[n % 4],
        };
        let mut int = |least: i64, most: i64| Value::Int(random.random_range(least..=most));
        let arguments = match operation {
            "div" => vec![int(-1000, 1000), int(-2, 20)],
            "pow" => vec![int(-20, 20), int(-2, 30)],
            "sqrt" => vec![int(-1000, 1_000_000)],
            "is_prime" => vec![int(0, 100_000_000)],
            "primes" => vec![int(0, 2000)],
            "fib" => vec![int(-1, 18)],
            "sleep" => vec![Value::Float(random.random_range(0.0..NAP))],
            _ => vec![int(-1_000_000_000, 1_000_000_000), int(-1_000_000_000, 1_000_000_000)],
        };
        let nap = (operation == "sleep").then(|| arguments[0].clone());
        Self { body: Call { operation: operation.into(), arguments }.to_body(), nap }
    }
}

/// Knows the right answers: what the ready worker's operations say when they are called here.
pub struct Oracle(Operations);

impl Oracle {
    /// The one there is.
    pub fn new() -> Self {
        Self(compute::operations())
    }

    /// Whether that is the outcome of this request, an error's message included.
    pub fn is_right(&self, task: &Task, outcome: &Outcome) -> bool {
        let result = match &task.nap {
            Some(value) => Ok(value.to_body()),
            None => self.0.compute(&task.body, &Job::alone()),
        };
        *outcome == result.map_or_else(Outcome::Error, Outcome::Ok)
    }
}

impl Default for Oracle {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn an_answer_to_another_request_is_not_right() {
        let (mut random, oracle) = (StdRng::seed_from_u64(1), Oracle::new());
        let tasks: Vec<_> = (0..500).map(|_| Task::draw(&mut random)).collect();
        let answer = |task: &Task| match &task.nap {
            Some(value) => Outcome::Ok(value.to_body()),
            None => oracle.0.compute(&task.body, &Job::alone()).map_or_else(Outcome::Error, Outcome::Ok),
        };
        assert!(tasks.iter().all(|task| oracle.is_right(task, &answer(task))));
        let told_apart = tasks.windows(2).filter(|pair| !oracle.is_right(&pair[0], &answer(&pair[1]))).count();
        assert!(told_apart > 400, "{told_apart}");
        let errors = tasks.iter().filter(|task| matches!(answer(task), Outcome::Error(_))).count();
        assert!(errors > 10, "{errors}");
    }
}
