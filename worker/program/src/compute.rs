//! The ready operations: arithmetic, and some that take real CPU time, so that balancing can be
//! watched.

use std::time::Duration;

use giostra_protocol::compute::Value;
use giostra_protocol::{Bytes, Failure, code};
use giostra_worker::Operations;

/// The largest `n` of `primes n`.
const MAX_PRIMES: i128 = 10_000_000;

/// The largest `n` of `fib n`, which takes some minutes.
const MAX_FIB: i128 = 55;

/// The longest `sleep`, in seconds.
const MAX_SLEEP: f64 = 3600.0;

/// The most bytes of a request. A few numbers take less than a hundred; decoded, a list in a message
/// of the largest size would take gigabytes.
const MAX_REQUEST: usize = 64 << 10;

/// Returns the ready operations.
pub fn operations() -> Operations {
    Operations::new()
        .with("add", |arguments: Vec<Value>| arithmetic("add", &arguments, |a, b| Some(a.checked_add(b)), |a, b| a + b))
        .with("sub", |arguments: Vec<Value>| arithmetic("sub", &arguments, |a, b| Some(a.checked_sub(b)), |a, b| a - b))
        .with("mul", |arguments: Vec<Value>| arithmetic("mul", &arguments, |a, b| Some(a.checked_mul(b)), |a, b| a * b))
        .with("div", |arguments: Vec<Value>| div(&arguments))
        .with("pow", |arguments: Vec<Value>| pow(&arguments))
        .with("sqrt", |arguments: Vec<Value>| sqrt(&arguments))
        .with("gcd", |arguments: Vec<Value>| gcd(&arguments))
        .with("is_prime", |arguments: Vec<Value>| is_prime(&arguments))
        .with("primes", |arguments: Vec<Value>| primes(&arguments))
        .with("fib", |arguments: Vec<Value>| fib(&arguments))
        .with("sleep", |arguments: Vec<Value>| sleep(&arguments))
        .with_encoded("echo", echo)
        // The names in the original system.
        .alias("somma", "add")
        .alias("sottrazione", "sub")
        .alias("moltiplicazione", "mul")
        .alias("divisione", "div")
        .max_bytes(MAX_REQUEST)
}

/// Computes two numbers. For whole numbers `whole` comes first: it returns `None` if the result is
/// not whole, and `Some(None)` if it has more than 128 bits. A whole result has to fit into 64 bits,
/// signed or unsigned.
fn arithmetic(
    name: &str,
    arguments: &[Value],
    whole: impl Fn(i128, i128) -> Option<Option<i128>>,
    any: impl Fn(f64, f64) -> f64,
) -> Result<Value, Failure> {
    if let [a, b] = arguments
        && let (Some(a), Some(b)) = (int(a), int(b))
        && let Some(result) = whole(a, b)
    {
        return result.and_then(value).ok_or_else(|| format!("{name}: the result does not fit into 64 bits").into());
    }
    let [a, b] = numbers(name, arguments)?;
    match any(a, b) {
        result if result.is_finite() => Ok(Value::Float(result)),
        result if result.is_nan() => Err(format!("{name}: the result is no real number").into()),
        _ => Err(format!("{name}: the result is too large for a floating-point number").into()),
    }
}

/// Returns the whole number as a value, if it fits into 64 bits.
fn value(whole: i128) -> Option<Value> {
    i64::try_from(whole).map(Value::Int).or_else(|_| u64::try_from(whole).map(Value::Large)).ok()
}

fn div(arguments: &[Value]) -> Result<Value, Failure> {
    let exactly = |a: i128, b: i128| (a % b == 0).then(|| Some(a / b));
    let [_, divisor] = numbers("div", arguments)?;
    if divisor == 0.0 {
        return Err("division by zero".into());
    }
    arithmetic("div", arguments, exactly, |a, b| a / b)
}

fn pow(arguments: &[Value]) -> Result<Value, Failure> {
    let exactly = |base: i128, exponent: i128| match (base, exponent) {
        (1, _) => Some(Some(1)),
        (-1, _) => Some(Some(if exponent % 2 == 0 { 1 } else { -1 })),
        (_, ..=-1) => None,
        (0, 1..) => Some(Some(0)),
        _ => Some(exponent.try_into().ok().and_then(|exponent| base.checked_pow(exponent))),
    };
    if let [base, exponent] = numbers("pow", arguments)?
        && base == 0.0
        && exponent < 0.0
    {
        return Err("division by zero".into());
    }
    arithmetic("pow", arguments, exactly, f64::powf)
}

fn sqrt(arguments: &[Value]) -> Result<Value, Failure> {
    match numbers("sqrt", arguments)? {
        [number] if number < 0.0 => Err("square root of a negative number".into()),
        [number] => Ok(Value::Float(number.sqrt())),
    }
}

fn gcd(arguments: &[Value]) -> Result<Value, Failure> {
    let [a, b] = whole_numbers("gcd", arguments)?;
    let magnitude = |number: i128| u64::try_from(number.unsigned_abs()).expect("an argument has 64 bits");
    let (mut a, mut b) = (magnitude(a), magnitude(b));
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Ok(i64::try_from(a).map_or(Value::Large(a), Value::Int))
}

/// Trial division, slow on purpose.
fn is_prime(arguments: &[Value]) -> Result<Value, Failure> {
    let [n] = whole_numbers("is_prime", arguments)?;
    let n = u64::try_from(n).unwrap_or(0);
    let divisors = (2..).take_while(|divisor: &u64| divisor.checked_mul(*divisor).is_some_and(|square| square <= n));
    Ok(Value::Bool(n >= 2 && divisors.into_iter().all(|divisor| n % divisor != 0)))
}

/// Returns the primes up to `n`, by the sieve of Eratosthenes.
fn primes(arguments: &[Value]) -> Result<Value, Failure> {
    let [n] = whole_numbers("primes", arguments)?;
    if n > MAX_PRIMES {
        return Err(invalid(format!("primes: up to {MAX_PRIMES}, not {n}")));
    }
    let n = usize::try_from(n).unwrap_or(0);
    let mut composite = vec![false; n + 1];
    let mut primes = Vec::new();
    for candidate in 2..=n {
        if !composite[candidate] {
            primes.push(candidate as i64);
            (candidate * candidate..=n).step_by(candidate).for_each(|multiple| composite[multiple] = true);
        }
    }
    Ok(Value::List(primes.into_iter().map(Value::Int).collect()))
}

/// The textbook's double recursion, slow on purpose.
fn fib(arguments: &[Value]) -> Result<Value, Failure> {
    fn fib(n: i64) -> i64 {
        if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
    }
    match whole_numbers("fib", arguments)? {
        [n @ 0..=MAX_FIB] => Ok(Value::Int(fib(n as i64))),
        [n] => Err(invalid(format!("fib: from 0 to {MAX_FIB}, not {n}"))),
    }
}

fn sleep(arguments: &[Value]) -> Result<Value, Failure> {
    match numbers("sleep", arguments)? {
        [seconds] if (0.0..=MAX_SLEEP).contains(&seconds) => {
            std::thread::sleep(Duration::from_secs_f64(seconds));
            Ok(int(&arguments[0]).and_then(value).unwrap_or(Value::Float(seconds)))
        }
        [seconds] => Err(invalid(format!("sleep: from 0 to {MAX_SLEEP} seconds, not {seconds}"))),
    }
}

/// Returns its one argument, bytes, as a slice of the request.
fn echo(arguments: &Bytes) -> Result<Bytes, Failure> {
    let mut rest = &arguments[..];
    let one = rmp::decode::read_array_len(&mut rest).is_ok_and(|count| count == 1);
    let argument = arguments.slice_ref(rest);
    match rmp::decode::read_bin_len(&mut rest) {
        Ok(bytes) if one && rest.len() == bytes as usize => Ok(argument),
        _ => Err(invalid("echo takes 1 argument, bytes".into())),
    }
}

fn numbers<const N: usize>(name: &str, arguments: &[Value]) -> Result<[f64; N], Failure> {
    let number = |value: &Value| match value {
        // A command line sends `1.10` and `1e3` as texts.
        Value::Text(text) => Value::number(text)?.as_f64(),
        number => number.as_f64(),
    };
    each(name, arguments, "a number of 64 bits", |value| number(value).filter(|it| it.is_finite()))
}

fn whole_numbers<const N: usize>(name: &str, arguments: &[Value]) -> Result<[i128; N], Failure> {
    each(name, arguments, "a whole number of 64 bits", int)
}

/// Returns the whole number of 64 bits that this is or, as a text such as `007`, spells.
fn int(value: &Value) -> Option<i128> {
    match value {
        Value::Int(int) => Some((*int).into()),
        Value::Large(large) => Some((*large).into()),
        Value::Text(text) => text.parse::<i64>().map(Into::into).or_else(|_| text.parse::<u64>().map(Into::into)).ok(),
        _ => None,
    }
}

/// Reads exactly `N` arguments.
fn each<T: Copy + Default, const N: usize>(
    name: &str,
    arguments: &[Value],
    what: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<[T; N], Failure> {
    if arguments.len() != N {
        let s = if N == 1 { "" } else { "s" };
        return Err(invalid(format!("{name} takes {N} argument{s}, not {}", arguments.len())));
    }
    let mut values = [T::default(); N];
    for (value, argument) in values.iter_mut().zip(arguments) {
        *value = read(argument).ok_or_else(|| invalid(format!("{name}: {argument} is not {what}")))?;
    }
    Ok(values)
}

fn invalid(message: String) -> Failure {
    Failure::new(code::INVALID, message)
}

#[cfg(test)]
mod tests {
    use giostra_protocol::compute::Call;

    use super::*;
    use giostra_worker::{Job, Service};

    fn compute(line: &str) -> String {
        let mut words = line.split(' ');
        let operation = words.next().unwrap().into();
        let arguments = words.map(|word| word.parse().unwrap()).collect();
        match operations().compute(&Call { operation, arguments }.to_body(), &Job::alone()) {
            Ok(body) => Value::from_body(&body).unwrap().to_string(),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn operations_compute() {
        for (line, result) in [
            ("add 2 3", "5"),
            ("add 2 0.5", "2.5"),
            ("add 9223372036854775807 1", "9223372036854775808"),
            ("sub 18446744073709551615 1", "18446744073709551614"),
            ("div 18446744073709551615 5", "3689348814741910323"),
            ("div -9223372036854775808 -1", "9223372036854775808"),
            ("pow 2 63", "9223372036854775808"),
            ("pow -1 5000000001", "-1"),
            ("pow 0 0", "1"),
            ("gcd 18446744073709551615 -5", "5"),
            ("gcd -9223372036854775808 0", "9223372036854775808"),
            ("is_prime 18446744073709551615", "false"),
            ("mul 1e300 10", "1e301"),
            ("add 007 1", "8"),
            ("add 1.10 2", "3.1"),
            ("add 1e3 1", "1001"),
            ("sub 2 3", "-1"),
            ("mul 6 7", "42"),
            ("div 6 3", "2"),
            ("div 7 2", "3.5"),
            ("pow 2 10", "1024"),
            ("pow 2 -1", "0.5"),
            ("sqrt 2.25", "1.5"),
            ("gcd 12 -18", "6"),
            ("is_prime 97", "true"),
            ("is_prime 91", "false"),
            ("is_prime -7", "false"),
            ("primes 20", "2 3 5 7 11 13 17 19"),
            ("primes -1", ""),
            ("fib 20", "6765"),
            ("sleep 0", "0"),
            ("sleep 0.00", "0"),
        ] {
            assert_eq!(compute(line), result, "{line}");
        }
    }

    #[test]
    fn errors_explain() {
        for (line, error) in [
            ("div 1 0", "failed: division by zero"),
            ("div 1.5 0.0", "failed: division by zero"),
            ("add 1", "invalid: add takes 2 arguments, not 1"),
            ("sqrt", "invalid: sqrt takes 1 argument, not 0"),
            ("sqrt -1", "failed: square root of a negative number"),
            ("gcd 1.5 2", "invalid: gcd: 1.5 is not a whole number of 64 bits"),
            ("add 18446744073709551615 1", "failed: add: the result does not fit into 64 bits"),
            ("sub -9223372036854775808 1", "failed: sub: the result does not fit into 64 bits"),
            ("mul 18446744073709551615 18446744073709551615", "failed: mul: the result does not fit into 64 bits"),
            ("pow 10 400", "failed: pow: the result does not fit into 64 bits"),
            ("pow 2 99999999999", "failed: pow: the result does not fit into 64 bits"),
            ("pow 10.5 400", "failed: pow: the result is too large for a floating-point number"),
            ("pow -2 0.5", "failed: pow: the result is no real number"),
            ("pow 0 -1", "failed: division by zero"),
            ("add 18446744073709551616 1", "invalid: add: 18446744073709551616 is not a number of 64 bits"),
            ("primes 10000001", "invalid: primes: up to 10000000, not 10000001"),
            ("fib -1", "invalid: fib: from 0 to 55, not -1"),
            ("add 12e4567 1", "invalid: add: 12e4567 is not a number of 64 bits"),
            ("sleep NaN", "invalid: sleep: NaN is not a number of 64 bits"),
            ("sleep 1e9", "invalid: sleep: from 0 to 3600 seconds, not 1000000000"),
        ] {
            assert_eq!(compute(line), error, "{line}");
        }
        assert!(
            compute("nosuch 1")
                .ends_with("offers add, div, echo, fib, gcd, is_prime, mul, pow, primes, sleep, sqrt, sub")
        );
    }

    #[test]
    fn echo_returns_its_bytes_however_many_without_a_copy() {
        let call = |arguments: &[u8]| {
            let mut body = rmp_serde::to_vec(&("echo", 0)).unwrap();
            body.pop();
            body.extend_from_slice(arguments);
            operations().compute(&Bytes::from(body), &Job::alone())
        };
        let large: Vec<u8> = [&[0x91, 0xc6, 0, 16, 0, 0][..], &vec![7; 1 << 20]].concat();
        let result = call(&large).unwrap();
        assert_eq!(result, large[1..]);
        assert_eq!(call(b"\x91\xc4\x02ab").unwrap(), b"\xc4\x02ab"[..]);
        for wrong in [
            &b"\x90"[..],
            b"\x92\xc4\0\xc4\0",
            b"\x91\x07",
            b"\x91\xc4\x02abc",
            b"\x91\xc4\x02a",
            b"\x91",
            b"",
            b"\xc4\0",
        ] {
            assert_eq!(call(wrong).unwrap_err().to_string(), "invalid: echo takes 1 argument, bytes", "{wrong:?}");
        }
    }
}
