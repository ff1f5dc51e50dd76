//! Writes the corpora that the targets begin with: valid messages of every variant.

#[allow(dead_code)] // the test that it belongs to uses all of it
#[path = "../../tests/mutations/valid.rs"]
mod valid;

use std::{fs, io};

use giostra_common::compute::{Call, Value};
use giostra_common::protocol::{FromClient, FromWorker, ToClient, ToWorker};
use giostra_common::wire::Frames;
use rand::SeedableRng as _;
use valid::{Random, Valid};

/// Enough for every variant to be among them many times.
const SEEDS: u64 = 300;

fn main() -> io::Result<()> {
    let folder = std::env::args().nth(1).expect("usage: seeds CORPUS");
    let write = |target: &str, draw: fn(&mut Random) -> Frames, body: bool| {
        let folder = format!("{folder}/{target}");
        fs::create_dir_all(&folder)?;
        for seed in 0..SEEDS {
            let frames = draw(&mut Random::seed_from_u64(seed));
            let input = if body { Some(frames.envelope.to_vec()) } else { giostra_fuzz::input(&frames) };
            if let Some(input) = input {
                fs::write(format!("{folder}/seed-{seed}"), input)?;
            }
        }
        Ok(())
    };
    write("from_client", FromClient::draw, false)?;
    write("to_client", ToClient::draw, false)?;
    write("from_worker", FromWorker::draw, false)?;
    write("to_worker", ToWorker::draw, false)?;
    write("body", Call::draw, true)?;
    write("body", Value::draw, true)
}
