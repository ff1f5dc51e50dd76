//! What the ready worker makes of a request's body, and the command line of a reply's.

#![no_main]

use giostra_protocol::compute::{Call, Value};

// Compared by their bytes: there are numbers that do not equal themselves.
libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    if let Ok(call) = Call::from_body(body) {
        let again = Call::from_body(&call.to_body()).expect("what was decoded can be sent");
        assert_eq!(again.to_body(), call.to_body());
    }
    if let Ok(value) = Value::from_body(body) {
        let again = Value::from_body(&value.to_body()).expect("what was decoded can be sent");
        assert_eq!(again.to_body(), value.to_body());
        value.to_string();
    }
});
