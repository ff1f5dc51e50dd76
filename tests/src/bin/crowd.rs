//! `crowd`: many stand-ins for workers at a broker that is up, to look at the page or `giostra top`
//! with. They answer what `giostra bench --size 64` sends.

use std::thread;
use std::time::Duration;

use clap::Parser;
use giostra_protocol::DEFAULT_POOL;
use giostra_tests::Crowd;

#[derive(Debug, Parser)]
struct Args {
    /// How many
    #[arg(default_value_t = 1000)]
    workers: usize,

    /// How many of them on each host
    #[arg(long, default_value_t = 50)]
    per_host: usize,

    /// Endpoint of the broker's backend
    #[arg(long, default_value = "tcp://127.0.0.1:5556")]
    broker: String,

    /// Pool to register in
    #[arg(long, default_value = DEFAULT_POOL)]
    pool: String,
}

fn main() {
    let Args { workers, per_host, broker, pool } = Args::parse();
    let _crowd = Crowd::on_hosts(&broker, &pool, workers, per_host);
    eprintln!("{workers} stand-ins until Ctrl-C");
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}
