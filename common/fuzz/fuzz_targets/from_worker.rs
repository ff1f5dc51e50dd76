//! What a broker makes of whatever a worker may send.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| giostra_fuzz::message::<giostra_protocol::FromWorker>(input));
