//! Writes the corpora that the targets begin with: valid messages of every variant.

#[allow(dead_code)] // the test that it belongs to uses all of it
#[path = "../../protocol/tests/mutations/valid.rs"]
mod valid;

use std::{fs, io};

use giostra_fuzz::input;
use giostra_protocol::codec::Message as _;
use giostra_protocol::compute::{Call, Value};
use giostra_protocol::{FromClient, FromWorker, ToClient, ToWorker};
use rand::{RngExt as _, SeedableRng as _};
use valid::{Random, Valid};

/// Enough for every variant to be among them many times.
const SEEDS: u64 = 300;

fn main() -> io::Result<()> {
    let folder = std::env::args().nth(1).expect("usage: seeds CORPUS");
    let write = |target: &str, draw: fn(&mut Random) -> Option<Vec<u8>>| {
        let folder = format!("{folder}/{target}");
        fs::create_dir_all(&folder)?;
        for seed in 0..SEEDS {
            if let Some(input) = draw(&mut Random::seed_from_u64(seed)) {
                fs::write(format!("{folder}/seed-{seed}"), input)?;
            }
        }
        Ok(())
    };
    write("from_client", |random| input(&FromClient::draw(random).encode()))?;
    write("to_client", |random| input(&ToClient::draw(random).encode()))?;
    write("from_worker", |random| input(&FromWorker::draw(random).encode()))?;
    write("to_worker", |random| input(&ToWorker::draw(random).encode()))?;
    write("body", |random| match random.random() {
        true => Some(Call::draw(random).to_body().to_vec()),
        false => Some(Value::draw(random).to_body().to_vec()),
    })
}
