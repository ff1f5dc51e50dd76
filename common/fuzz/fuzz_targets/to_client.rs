//! What a client makes of whatever a broker may send.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| giostra_fuzz::message::<giostra_protocol::ToClient>(input));
