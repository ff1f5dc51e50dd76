//! What a broker makes of whatever a client may send.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| giostra_fuzz::message::<giostra_protocol::FromClient>(input));
